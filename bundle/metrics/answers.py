"""Who gets which answer, by cut-offs that other people than the tested ones have set."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from bundle.metrics.classification import decisions, operating_point, require_both
from bundle.metrics.resampling import interval, share_interval

Array = NDArray[np.float64]
SETS = ("only_control", "only_patient", "both", "none")
_ROUNDING = 1e-9  # of counts that are products of shares


@dataclass(frozen=True)
class Validation:
    """What a model said of the people of its validation.

    Attributes:
        labels: 0 control, 1 patient.
        probabilities: Probabilities of being a patient.
        calibration: Slope and intercept of the log odds by which `predict` calibrates; None where it does not.
        uncalibrated: Why `predict` does not calibrate, in words; empty where it does.
        missing: Missing record, in a sentence; empty where it is there.

    Shape:
        labels (N,), probabilities (N,).
    """

    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    probabilities: Array = field(default_factory=lambda: np.zeros(0))
    calibration: tuple[float, float] | None = None
    uncalibrated: str = ""
    missing: str = ""


def fewest_for(level: float) -> int:
    """People of a class without whom no prediction set of a level can leave anything out: 1 / (1 − level) − 1.

    Example:
        >>> fewest_for(0.9), fewest_for(0.95)
        (9, 19)
    """
    return math.ceil(1 / (1 - level) - 1 - _ROUNDING)


def conformal_cutoffs(labels: ArrayLike, probabilities: ArrayLike, level: float = 0.9) -> Array:
    """How improbable a class may be, for each class, to remain in the prediction set of a person.

    Split-conformal, by class (Mondrian): of the n people of a class who calibrate, the cut-off is the
    ⌈(n + 1) · level⌉-th smallest of 1 − probability of this class. A new person of the class has the class in the set
    with a probability of at least `level`, if exchangeable with those who calibrate: from the same clinic, the same
    scanner, the same pipeline.

    Args:
        labels: 0 control, 1 patient, of those who calibrate.
        probabilities: Probabilities of being a patient.
        level: Level of coverage.

    Shape:
        labels (N,), probabilities (N,), output (2,).

    Raises:
        ValueError: when a class has too few people for the level.

    Source:
        Vovk, Gammerman & Shafer, Algorithmic Learning in a Random World, 2005, chapter 4; Sadinle, Lei & Wasserman,
        JASA 114 (2019), 223–234.

    Example:
        >>> controls = [n / 20 for n in range(1, 10)]
        >>> conformal_cutoffs([0] * 9 + [1] * 9, [*controls, *(1 - p for p in controls)]).round(2).tolist()
        [0.45, 0.45]
    """
    truth, strange = np.asarray(labels), improbability(probabilities)
    found = np.empty(2)
    for label, name in enumerate(("controls", "patients")):
        own = np.sort(strange[truth == label, label])
        if len(own) < fewest_for(level):
            raise ValueError(
                f"Prediction sets of level {level:g} need at least {fewest_for(level)} {name} of the validation, but "
                f"there are {len(own)}: every set would hold both classes. Train with a larger validation, or give a "
                "lower level."
            )
        found[label] = own[_rank(len(own), level) - 1]
    return found


def _rank(people: int, level: float) -> int:
    return math.ceil((people + 1) * level - _ROUNDING)


def improbability(probabilities: ArrayLike) -> Array:
    """1 − probability of each class.

    Shape:
        probabilities (N,) of being a patient, output (N, 2).
    """
    found = np.asarray(probabilities, dtype=np.float64)
    return np.stack([found, 1 - found], axis=1)


def conformal_sets(probabilities: ArrayLike, cutoffs: ArrayLike) -> NDArray[np.bool_]:
    """Which classes are in each person's prediction set.

    Args:
        probabilities: Probabilities of being a patient.
        cutoffs: Cut-offs of `conformal_cutoffs`.

    Shape:
        probabilities (N,), cutoffs (2,), output (N, 2).
    """
    return improbability(probabilities) <= np.asarray(cutoffs)


def promised_coverage(people: int, level: float) -> tuple[float, float]:
    """Between which shares the coverage of one class lies for 95 % of the sets of people that could have calibrated.

    On average over such sets, coverage is `level`; the fewer people calibrate, the further a single one is from it.

    Args:
        people: Number of people of the class who calibrate.
        level: Level of coverage.

    Source:
        Vovk, Conditional validity of inductive conformal predictors, 2012; Angelopoulos & Bates, 2023, section 3.2.
    """
    rank = _rank(people, level)
    low, high = beta.interval(0.95, rank, people + 1 - rank)
    return float(low), float(high)


def shares_of_sets(sets: NDArray[np.bool_]) -> dict[str, tuple[int, float, float, float]]:
    """How many people have each kind of prediction set: count, share, and Wilson's 95 % interval of the share.

    Args:
        sets: Sets of at least one person.

    Shape:
        sets (N, 2).
    """
    kinds = ((True, False), (False, True), (True, True), (False, False))
    counts = [int((sets == kind).all(axis=1).sum()) for kind in kinds]
    return {
        name: (count, count / len(sets), *share_interval(count, len(sets)))
        for name, count in zip(SETS, counts, strict=True)
    }


def at_specificity(
    validation: Validation, labels: ArrayLike, probabilities: ArrayLike, specificity: float
) -> dict[str, float]:
    """Sensitivity and specificity that new people have at the threshold which gives a specificity on the validation.

    Args:
        validation: Validation, of both classes; see `classification.operating_point` for its threshold.
        labels: 0 control, 1 patient, of the new people; both there.
        probabilities: Probabilities of being a patient.
        specificity: Share of controls of the validation that is to be called so, at least.

    Shape:
        labels (N,), probabilities (N,).

    Raises:
        ValueError: when a class is missing, in either.
    """
    require_both(int((validation.labels == 0).sum()), int((validation.labels == 1).sum()))
    threshold = operating_point(validation.labels, validation.probabilities, f"specificity={specificity!r}")
    return {"threshold": threshold, **decisions(labels, probabilities, threshold)}


def own_sensitivity(
    labels: ArrayLike, probabilities: ArrayLike, specificity: float, resamples: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """Sensitivity at a specificity on these people's own ROC curve: at a threshold that they have chosen themselves.

    Args:
        labels: 0 control, 1 patient; both there.
        probabilities: Probabilities of being a patient.
        specificity: Share of controls that is to be called so, at least.
        resamples: Resamples of people within their class, each of which chooses the threshold anew.
        seed: Seed of the resampling.

    Shape:
        labels (N,), probabilities (N,); output: sensitivity, and its 95 % interval.
    """
    truth, found = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    controls, patients = found[truth == 0], found[truth == 1]
    require_both(len(controls), len(patients))
    rng = np.random.default_rng(seed)
    drawn = ((rng.choice(controls, len(controls)), rng.choice(patients, len(patients))) for _ in range(resamples))
    samples = [_sensitivity(*one, specificity) for one in drawn]
    return _sensitivity(controls, patients, specificity), *interval(samples)


def _sensitivity(controls: Array, patients: Array, specificity: float) -> float:
    """Share of patients above as many controls as the specificity asks for."""
    kept = math.ceil(specificity * len(controls) - _ROUNDING)
    return float((patients > np.partition(controls, kept - 1)[kept - 1]).mean())
