"""The answer in sentences, the same in the report and in the document."""

from __future__ import annotations

from bundle.dicom.answer import Answer, OperatingPoint
from bundle.prediction.judgement import CANNOT, GIVEN, NOT_CALIBRATED, percentile_text, shown

VERDICTS = {
    "pass": "The scan is what the model expects.",
    "warn": "The model gives an answer, but there is something to know first:",
    "refuse": "The model gives no answer, because the scan is not what it can read:",
}
TISSUES = {
    "tiv": "total intracranial volume",
    "gm": "grey matter",
    "wm": "white matter",
    "csf": "cerebrospinal fluid",
}


def verdict(answer: Answer) -> str:
    """What the verdict means, before its reasons."""
    return "The model cannot answer for this scan:" if answer.state == CANNOT else VERDICTS[answer.verdict]


def headline(answer: Answer) -> str:
    """The answer in a sentence."""
    if answer.state == GIVEN:
        return f"Probability of {answer.disease}: {answer.headline}"
    if answer.state == NOT_CALIBRATED:
        return f"Called {answer.called}; no probability ({answer.headline})"
    return "The model cannot answer." if answer.state == CANNOT else "The scan was refused; there is no answer."


def reading(answer: Answer) -> list[str]:
    """How the answer is read: the call, what it is worth, the age, and how far the scan is from the training."""
    point = answer.operating_point
    said = [] if point is None else [_call(answer, point), _worth(answer, point)]
    if answer.uncertainty is not None:
        said.insert(0, f"± {answer.uncertainty:.2f} over slightly changed copies of the scan.")
    if answer.brain_age is not None:
        age = answer.brain_age
        said.append(f"The brain looks like that of a {age.years:.0f}-year-old (± {age.error:.0f} years).")
        if age.gap is not None:
            younger_or_older = "younger" if age.gap < 0 else "older"
            said[-1] += (
                f" Compared with healthy people of the same age, it looks {abs(age.gap):.0f} years {younger_or_older}."
            )
    if answer.distance_percentile is not None:
        place = percentile_text(answer.distance_percentile)
        said.append(f"Distance from the training subjects: percentile {place}. Above 99, the model cannot answer.")
    return said


def _call(answer: Answer, point: OperatingPoint) -> str:
    """From where on a scan is called a patient's, and how often such calls were right."""
    right = (
        f"Among its {point.people} validation subjects, {percent(point.sensitivity)} of those with {answer.disease} "
        f"and {percent(point.specificity)} of the others were called right."
    )
    if answer.probability is None or point.probability is None:
        return f"A probability would need more validation subjects to be calibrated on. {right}"
    limit = shown(point.probability, answer.probability)
    called = f"From a probability of {limit} on, the model calls a scan {answer.disease}: this one is called"
    return f"{called} {answer.called}. {right}"


def _worth(answer: Answer, point: OperatingPoint) -> str:
    """The share of patients for which the answer holds, and what a call means there."""
    return (
        f"This holds where {percent(point.prevalence)} of the people who are scanned have {answer.disease}. There, "
        f"{percent(point.ppv)} of those who are called {answer.disease} have it, and {percent(point.npv)} of the "
        "others do not."
    )


def preparation(answer: Answer) -> list[str]:
    """How the map was made, and what quality control said."""
    made = answer.preparation
    if made is None:
        return []
    software = ", ".join(f"{name} {version}" for name, version in made.software.items())
    by = f"The grey-matter map was made from the scan by {made.name} {made.version}"
    return [f"{by}{f' ({software})' if software else ''}. Quality control: {made.status}.", *made.reasons]


def limits(answer: Answer) -> str:
    """What the answer does not know."""
    control, patient = answer.model.classes
    return (
        f"The answer says how the network {answer.model.name} tells {control} and {patient} apart. It does not know "
        "the person, other diseases, medication or other causes of a changed brain."
    )


def percent(share: float | None) -> str:
    """A share as text."""
    return "an unknown share" if share is None else f"{100 * share:.0f} %"
