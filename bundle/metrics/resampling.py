"""Intervals and p values: bootstrap resamples of subjects and draws, correction for several tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest
from scipy.stats import t as student_t
from sklearn.metrics import roc_curve

from bundle.metrics.classification import require_both

SHARE = (0.0, 1.0)  # limits of a ROC-AUC


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """P values corrected for multiple comparisons by Holm's step-down method.

    Shape:
        p_values (N,), output (N,).

    Source:
        Holm, Scandinavian Journal of Statistics 6 (1979), 65–70.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    order = p_values.argsort()
    stepped = np.maximum.accumulate(p_values[order] * (len(order) - np.arange(len(order))))
    corrected = np.empty_like(p_values)
    corrected[order] = stepped.clip(max=1)
    return corrected


@dataclass(frozen=True)
class Resamples:
    """Bootstrap resamples of a mean over training draws, in their two parts.

    A bootstrap over few draws is too narrow: its variance is (D − 1)/D of what it should be, and it does not know that
    a variance estimated from D values is uncertain itself. Therefore the part of the draws is multiplied by
    √(D/(D − 1)), and in `samples` also by the factor that makes a normal number one of Student's t with D − 1 degrees
    of freedom.

    Attributes:
        subjects: Mean over all draws in resamples of the test subjects.
        draws: What resampling the draws adds, multiplied by √(D/(D − 1)); 0 where there is one draw.
        tails: The factor of Student's t, drawn for each resample; 1 where there is one draw.
        freedom: D − 1.

    Shape:
        subjects, draws, tails (R,).

    Source:
        Efron & Tibshirani, An Introduction to the Bootstrap, 1993; Welch, Biometrika 34 (1947), 28–35.
    """

    subjects: NDArray[np.float64]
    draws: NDArray[np.float64]
    tails: NDArray[np.float64]
    freedom: int

    def __sub__(self, other: Resamples) -> Resamples:
        """Of the difference of two means, whose resamples are those of the same subjects and draws."""
        return replace(self, subjects=self.subjects - other.subjects, draws=self.draws - other.draws)

    @property
    def samples(self) -> NDArray[np.float64]:
        """Resampled means (R,), whose percentiles are an interval."""
        return self.subjects + self.tails * self.draws

    def p_value(self, mean: float) -> float:
        """Two-sided p value of a mean that would be 0, by Student's t with Welch's degrees of freedom.

        Args:
            mean: Over all draws, of all subjects.
        """
        between, within = float(self.subjects.var(ddof=1)), float(self.draws.var(ddof=1))
        if between + within == 0:
            return 1.0 if mean == 0 else 0.0
        freedom = np.inf if within == 0 else self.freedom * ((between + within) / within) ** 2
        return float(2 * student_t.sf(abs(mean) / np.sqrt(between + within), freedom))


def bootstrap_auc(labels: ArrayLike, scores: ArrayLike, resamples: int = 1000, seed: int = 0) -> Resamples:
    """ROC-AUC, averaged over training draws, in bootstrap resamples of test subjects and of draws.

    Subjects are resampled within their class, and the draws of the training set with them, so that an interval
    covers both sources of chance. The same seed resamples the same subjects and draws: differences between two
    methods on one test set are paired.

    Args:
        labels: 0 control, 1 patient.
        scores: Scores of each test subject by the classifier of each draw.
        resamples: Number of resamples R.
        seed: Seed of the resampling.

    Shape:
        labels (N,), scores (D, N).

    Raises:
        ValueError: when a class is missing.
    """
    labels, scores = np.asarray(labels), np.atleast_2d(np.asarray(scores, dtype=np.float64))
    controls, patients = scores[:, labels == 0], scores[:, labels == 1]
    sizes = controls.shape[1], patients.shape[1]
    require_both(*sizes)
    of_controls, of_patients, drawn, tails = _resampled(*sizes, len(scores), resamples, seed)
    aucs = np.empty((resamples, len(scores)))
    for draw, (low, high) in enumerate(zip(controls, patients, strict=True)):
        won = (low[:, None] < high) + 0.5 * (low[:, None] == high)  # pairs in which the patient has the higher score
        aucs[:, draw] = ((of_controls @ won) * of_patients).sum(1) / (sizes[0] * sizes[1])
    mean, freedom = aucs.mean(1), len(scores) - 1
    added = np.take_along_axis(aucs, drawn, axis=1).mean(1) - mean
    return Resamples(mean, added * np.sqrt(len(scores) / max(1, freedom)), tails, freedom)


@lru_cache(maxsize=8)
def _resampled(
    controls: int, patients: int, draws: int, resamples: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """How often each control and patient is in a resample, which draws are, and the tails; a row per resample."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((resamples, controls)), np.zeros((resamples, patients))
    drawn = np.empty((resamples, draws), dtype=np.int64)
    for r in range(resamples):
        for count in counts:
            count[r] = np.bincount(rng.integers(count.shape[1], size=count.shape[1]), minlength=count.shape[1])
        drawn[r] = rng.integers(draws, size=draws)
    freedom = draws - 1
    tails = np.sqrt(freedom / rng.chisquare(freedom, resamples)) if freedom else np.ones(resamples)
    return *counts, drawn, tails


def roc_band(labels: ArrayLike, scores: ArrayLike, resamples: int = 500, seed: int = 0) -> pd.DataFrame:
    """The ROC curve, averaged over training draws, with the 95 % interval of each of its points over test subjects.

    Subjects are resampled within their class. The curve of a resample passes each false positive rate at the highest
    sensitivity that it has there.

    Args:
        labels: 0 control, 1 patient.
        scores: Scores of each test subject by the classifier of each draw.
        resamples: Number of resamples.
        seed: Seed of the resampling.

    Shape:
        labels (N,), scores (D, N); columns false_positive_rate (0, 0.01, …, 1), sensitivity, low, high.

    Raises:
        ValueError: when a class is missing.
    """
    labels, scores = np.asarray(labels), np.atleast_2d(np.asarray(scores, dtype=np.float64))
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]
    require_both(*map(len, classes))
    rates, rng = np.linspace(0, 1, 101), np.random.default_rng(seed)

    def curve(rows: NDArray[np.intp]) -> NDArray[np.float64]:
        drawn = [np.interp(rates, *roc_curve(labels[rows], one[rows])[:2]) for one in scores]
        return np.mean(drawn, axis=0)

    taken = (np.concatenate([rng.choice(rows, len(rows)) for rows in classes]) for _ in range(resamples))
    low, high = np.quantile([curve(rows) for rows in taken], [0.025, 0.975], axis=0)
    columns = {"sensitivity": curve(np.concatenate(classes)), "low": low, "high": high}
    return pd.DataFrame({"false_positive_rate": rates, **columns})


def interval(samples: ArrayLike, level: float = 0.95, limits: tuple[float, float] | None = None) -> tuple[float, float]:
    """Percentile interval of bootstrap samples.

    Args:
        samples: Such as `Resamples.samples`.
        level: Level of confidence.
        limits: Lowest and highest possible value; None: there is none.
    """
    low, high = np.quantile(np.asarray(samples), [(1 - level) / 2, (1 + level) / 2])
    least, most = limits or (-np.inf, np.inf)
    return float(max(low, least)), float(min(high, most))


def share_interval(count: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, such as of patients among those of similar probability.

    Args:
        count: Count of those who are counted.
        of: How many there are, at least 1.

    Source:
        Wilson, Journal of the American Statistical Association 22 (1927), 209–212.

    Example:
        >>> [round(limit, 2) for limit in share_interval(5, 10)]
        [0.24, 0.76]
    """
    low, high = binomtest(count, of).proportion_ci(method="wilson")
    return float(low), float(high)


def decision_intervals(
    sensitivity: float, specificity: float, patients: int, controls: int, resamples: int = 10_000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % intervals of what decisions are worth: Wilson's of the two shares, a bootstrap's of their mean.

    Args:
        sensitivity: Share of patients called patients.
        specificity: Share of controls called controls.
        patients: People.
        controls: People.
        resamples: Resamples of the bootstrap, in which each class is resampled for itself.
        seed: Seed of the resampling.

    Example:
        >>> [round(limit, 2) for limit in decision_intervals(0.9, 0.8, 10, 10)["sensitivity"]]
        [0.6, 0.98]
    """
    rng = np.random.default_rng(seed)
    found, halves = {}, np.zeros(resamples)
    for name, share, count in (("sensitivity", sensitivity, patients), ("specificity", specificity, controls)):
        found[name] = share_interval(round(share * count), count)
        halves += rng.binomial(count, share, resamples) / (2 * count)
    return {**found, "balanced_accuracy": interval(halves)}


def bootstrap_mean(values: ArrayLike, resamples: int = 1000, seed: int = 0) -> NDArray[np.float64]:
    """Means of bootstrap resamples of values (N,); shape (resamples,)."""
    values = np.asarray(values, dtype=np.float64)
    rows = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    return values[rows].mean(1)
