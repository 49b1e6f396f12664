"""What may be said of a scan: a calibrated probability, a call, or that the model cannot answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit

from bundle.metrics.answers import Validation
from bundle.metrics.classification import calibrated
from bundle.prediction.training_record import TrainingRecord, load_record
from bundle.scans.contract import PASS, WARN, Check

LEAST_CALIBRATED = 50  # people of the validation, below whom a calibration is too uncertain to be shown
DIGITS = 6  # of probabilities in `predictions.csv` of `evaluate`
FAR = 99.0  # percentile of the distance beyond which the model cannot answer
GIVEN, NOT_CALIBRATED, CANNOT = "given", "not calibrated", "cannot answer"  # what a table says of an answer
REASONS = {
    "far": "the embedding is further from the training subjects than theirs from each other: the model cannot answer",
    "demonstration": "the model is a demonstration that knows only a phantom, and this scan is none of that phantom: "
    "the model cannot answer",
    "phantom": "the scan is of a phantom, and the model was trained on people: the model cannot answer",
    "chance": "the model told its own validation subjects apart no better than chance: it cannot answer",
    "image": "this very image was in the model's training: the answer says nothing of new people",
    "participant": "a participant of this id was in the model's training: if this is the same person, the answer says "
    "nothing of new people",
    "adapted": "the network's batch norm was adapted to other scans (`adapted_to`): its operating point, its "
    "calibration and what it is worth were measured without this",
}


SILENT = ("far", "demonstration", "phantom", "chance")  # reasons that leave no answer


@dataclass(frozen=True)
class Scale:
    """The one scale on which a model's probabilities, calls and operating point are shown.

    Attributes:
        people: Number of validation subjects.
        slope: Factor of the log odds; 0 where the validation was no better than chance.
        intercept: Number that is added to the log odds, for the prevalence.
        threshold: The operating point, of the network's own probability.
        prevalence: Share of patients among those who are scanned.
        sensitivity: At the operating point, on the validation; None = unknown.
        specificity: The same.
    """

    people: int
    slope: float
    intercept: float
    threshold: float
    prevalence: float
    sensitivity: float | None
    specificity: float | None

    @classmethod
    def of(cls, record: TrainingRecord, validation: Mapping[str, Any], prevalence: float | None = None) -> Scale:
        """The scale of a model.

        Args:
            record: Training record of the model.
            validation: The metrics of its card.
            prevalence: Share of patients in the clinic, in (0, 1); None: as among the validation subjects.

        Raises:
            ValueError: for another prevalence.
        """
        if prevalence is not None and not 0 < prevalence < 1:
            raise ValueError(f"`prevalence` is a share of patients between 0 and 1, but {prevalence} was given.")
        labels, _ = record.validated
        slope, intercept = record.calibration
        share = float(np.mean(labels))
        shift = 0.0 if prevalence is None else float(logit(prevalence) - logit(share))
        quality = (validation.get(f"val_{name}") for name in ("sensitivity", "specificity"))
        held = share if prevalence is None else float(prevalence)
        return cls(len(labels), slope, intercept + shift, float(validation["val_threshold"]), held, *quality)

    @property
    def is_calibrated(self) -> bool:
        """Whether enough people calibrate it for a probability to be shown."""
        return not self.words

    @property
    def words(self) -> str:
        """What is said in place of a probability, or of its calibration."""
        return _uncalibrated(self.people, self.slope)

    def probability(self, raw: ArrayLike) -> NDArray[np.float64]:
        """Calibrated probabilities, at the prevalence, of the network's own."""
        return calibrated(raw, self.slope, self.intercept)

    def spread(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Standard deviation over copies, on the scale that is shown.

        Shape:
            raw (copies, N), output (N,).
        """
        return (self.probability(raw) if self.is_calibrated else raw).std(0)

    @property
    def operating_point(self) -> float:
        """The calibrated probability from which on somebody is called a patient."""
        return float(self.probability(self.threshold))

    def predictive_values(self) -> tuple[float, float]:
        """Positive and negative predictive value at the operating point and the prevalence; NaN where unknown.

        Source:
            Bayes' theorem; Altman & Bland, BMJ 309 (1994), 102.
        """
        if self.sensitivity is None or self.specificity is None:
            return math.nan, math.nan
        ill, well = self.prevalence, 1 - self.prevalence
        called = self.sensitivity * ill + (1 - self.specificity) * well
        cleared = (1 - self.sensitivity) * ill + self.specificity * well
        positive = self.sensitivity * ill / called if called else math.nan
        return positive, self.specificity * well / cleared if cleared else math.nan


def _uncalibrated(people: int, slope: float) -> str:
    """Why no probability is calibrated; empty where it is."""
    if slope == 0:
        return "no better than chance on validation subjects"
    return "" if people >= LEAST_CALIBRATED else f"not calibrated: {people} subjects"


def validation_of(model: str | Path) -> Validation:
    """What a model said of the people of its validation, and how `predict` calibrates it, from its record.

    Probabilities of scans have the digits of `predictions.csv`, so that those of validation and test can be compared
    where a network is nearly certain.

    Args:
        model: The file of weights; one without a record, such as weights from elsewhere, has no validation.
    """
    try:
        record = load_record(model)
    except ValueError as error:
        return Validation(missing=str(error))
    labels, probabilities = replace(record, probabilities=record.probabilities.round(DIGITS)).validated
    if not len(labels):
        return Validation(missing=f"The record of {model} holds no people of a validation.")
    if len(np.unique(labels)) < 2:
        return Validation(labels, probabilities, uncalibrated="the validation has one class.")
    words = _uncalibrated(len(labels), record.calibration[0])
    return Validation(labels, probabilities, None if words else record.calibration, f"{words}." if words else "")


def shown(value: float, limit: float) -> str:
    """A probability as text, with as many digits as it takes to tell it from the operating point; never certainty.

    Args:
        value: The probability.
        limit: The operating point.

    Example:
        >>> shown(0.204, 0.196), shown(0.5, 0.2), shown(0.9999, 0.5), shown(0.004, 0.008)
        ('0.204', '0.50', 'above 0.99', '0.004')
    """
    digits = next((n for n in range(2, 7) if _bounded(value, n) != _bounded(limit, n)), 2)
    return _bounded(value, digits)


def _bounded(value: float, digits: int) -> str:
    least = 10.0**-digits
    if value < least:
        return f"below {least:.{digits}f}"
    return f"above {1 - least:.{digits}f}" if value > 1 - least else f"{value:.{digits}f}"


def percentile_text(percentile: float) -> str:
    """A percentile of the distance, with as many digits as show on which side of the limit it lies.

    Args:
        percentile: 0 to 100.

    Example:
        >>> percentile_text(98.7), percentile_text(99.25), percentile_text(99.6)
        ('99', '99.2', '100')
    """
    digits = next(n for n in range(9) if (round(percentile, n) > FAR) == (percentile > FAR) or n == 8)
    return f"{percentile:.{digits}f}"


def distance_check(percentile: float) -> Check:
    """How far the embedding of a scan is from those of the training, as one of its checks.

    Args:
        percentile: Percentile of the distance.
    """
    far = percentile > FAR
    measured = f"percentile {percentile_text(percentile)} of the training subjects"
    found = (WARN, REASONS["far"]) if far else (PASS, "")
    return Check("distance of the embedding", measured, f"at most {FAR:.0f}", "the training subjects", *found)
