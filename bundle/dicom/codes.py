"""Codes of what the objects say: of standard schemes where those have one, otherwise of a scheme of our own."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from bundle.prediction.judgement import CANNOT, GIVEN, NOT_CALIBRATED

SCHEME = "99YAWARE"  # private: DICOM keeps designators that begin with 99 for local schemes
SCHEME_NAME = "Codes of brain_mri_yaware_classification"
SCHEME_VERSION = "1"
LONGEST = 64  # characters in a meaning, and in any LO


class Code(NamedTuple):
    """A coded concept.

    Attributes:
        value: At most 16 characters.
        scheme: `SCT` is SNOMED CT, `DCM` DICOM's own, `UCUM` units, `LN` LOINC.
        meaning: Meaning, for people.
    """

    value: str
    scheme: str
    meaning: str


def own(value: str, meaning: str) -> Code:
    """A code of our own scheme."""
    return Code(value, SCHEME, meaning)


def short(text: str, longest: int = LONGEST) -> str:
    r"""A text as a short DICOM value: one line, without the backslash that divides values, cut where it is too long.

    Example:
        >>> short("a\\b\nc"), short("ab" * 40, 8)
        ('a/b c', 'abababa…')
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text.replace("\\", "/")).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def plain(text: str) -> str:
    r"""A text without the characters that no page and no archive can show.

    Example:
        >>> plain("a\0b\nc")
        'a b\nc'
    """
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def of_name(kind: str, name: str) -> Code:
    """A code of our own for a name that no scheme has: the same name gives the same code.

    Args:
        kind: At most 6 letters, with which the value begins.
        name: Such as that of a class, or of a region.

    Example:
        >>> of_name("class", "dementia").value
        'class-318c993022'
    """
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    return own(f"{kind}-{digest}"[:16], short(name))


# Units
NO_UNITS = Code("1", "UCUM", "no units")
PERCENT = Code("%", "UCUM", "Percent")
YEARS = Code("a", "UCUM", "year")
MILLILITRES = Code("mL", "UCUM", "milliliter")
UNITS = {unit.value: unit for unit in (NO_UNITS, PERCENT, YEARS, MILLILITRES)} | {
    "[arb'U]": Code("[arb'U]", "UCUM", "arbitrary unit")
}

# What the objects say
INTENDED_USE = own("intended-use", "Intended use")
ANSWER = own("answer", "Answer")
REASON = own("reason", "Reason")
HOW_TO_READ = own("how-to-read", "How the answer is read")
MADE_BY = own("preparation", "Preparation of the scan")
STATE = own("state", "State of the answer")
STATES = {
    GIVEN: own("given", "Answer is given"),
    NOT_CALIBRATED: own("not-calibrated", "Called without a calibrated probability"),
    CANNOT: own("cannot-answer", "The model cannot answer"),
    "refused": own("refused", "The scan was refused"),
}
CALLED = own("called", "The scan is called")
CLASS = own("class", "The probability is that of the class")
PROBABILITY = own("probability", "Calibrated probability of the class")
AGE = own("brain-age", "Age that the brain looks like")
AGE_GAP = own("brain-age-gap", "Years that the brain looks older than expected")
DISTANCE = own("distance-rank", "Percentile of the distance from training subjects")
OPERATING_POINT = own("operating-point", "Probability from which on a scan is called a patient's")
SENSITIVITY = Code("111088", "DCM", "Case Sensitivity")
SPECIFICITY = Code("111090", "DCM", "Case Specificity")
PREVALENCE = own("prevalence", "Share of patients among those who are scanned")
PPV = own("ppv", "Positive predictive value at this prevalence")
NPV = own("npv", "Negative predictive value at this prevalence")
ATTRIBUTION = own("attribution", "Attribution: where the network looks")
VOLUME = Code("118565006", "SCT", "Volume")
Z_SCORE = Code("121416", "DCM", "Z-Score of measurement")
UPPER = Code("371886008", "SCT", "+, range of upper measurement uncertainty")
LOWER = Code("371885007", "SCT", "-, range of lower measurement uncertainty")
QUALITATIVE = Code("C0034375", "UMLS", "Qualitative Evaluations")
BRAIN_MRI = Code("24590-2", "LN", "Brain MRI")
BRAIN = Code("12738006", "SCT", "Brain")
TISSUE_VOLUMES = own("tissue-volumes", "Volumes of tissues")
REGION_VOLUMES = own("region-volumes", "Grey-matter volumes of regions")
PERFORMANCE = own("performance", "Operating point and what it is worth")

# Where it is
SIDES = {"left": Code("7771000", "SCT", "Left"), "right": Code("24028007", "SCT", "Right")}
TISSUES = {
    "tiv": Code("128319008", "SCT", "Intracranial structure"),
    "gm": Code("389081007", "SCT", "Gray Matter"),
    "wm": Code("389080008", "SCT", "White Matter"),
    "csf": Code("65216001", "SCT", "Cerebrospinal Fluid"),
}
REGIONS = {
    "hippocampus": Code("5366008", "SCT", "Hippocampus"),
    "amygdala": Code("4958002", "SCT", "Amygdala"),
    "entorhinal": Code("3937002", "SCT", "Entorhinal Cortex"),
    "thalamus": Code("42695009", "SCT", "Thalamus"),
    "caudate": Code("11000004", "SCT", "Caudate Nucleus"),
    "putamen": Code("89278009", "SCT", "Putamen"),
    "insula": Code("36169008", "SCT", "Insula"),
    "cerebellum": Code("113305005", "SCT", "Cerebellum"),
}


def region(name: str) -> Code:
    """The code of a region; one of our own where SNOMED CT has none that is certain."""
    plain = name.replace("_", " ")
    return REGIONS.get(plain, of_name("region", plain))
