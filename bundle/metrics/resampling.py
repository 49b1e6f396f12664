"""Intervals and p values: bootstrap resamples of subjects and draws, correction for several tests."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bundle.metrics.classification import require_both


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


def bootstrap_auc(labels: ArrayLike, scores: ArrayLike, resamples: int = 1000, seed: int = 0) -> NDArray[np.float64]:
    """ROC-AUC, averaged over training draws, in bootstrap resamples of test subjects and of draws.

    Subjects are resampled within their class, and the draws of the training set with them, so that an interval
    covers both sources of chance. The same seed resamples the same subjects and draws: differences between two
    methods on one test set are paired.

    Args:
        labels: 0 control, 1 patient.
        scores: of each test subject by the classifier of each draw.
        resamples: number of resamples R.
        seed: of the resampling.

    Shape:
        labels (N,), scores (draws, N), output (R,).

    Raises:
        ValueError: when a class is missing.

    Source:
        Efron & Tibshirani, An Introduction to the Bootstrap, 1993.
    """
    labels, scores = np.asarray(labels), np.atleast_2d(np.asarray(scores, dtype=np.float64))
    controls, patients = scores[:, labels == 0], scores[:, labels == 1]
    sizes = controls.shape[1], patients.shape[1]
    require_both(*sizes)
    of_controls, of_patients, drawn = _resampled(*sizes, len(scores), resamples, seed)
    aucs = np.empty((resamples, len(scores)))
    for draw, (low, high) in enumerate(zip(controls, patients, strict=True)):
        won = (low[:, None] < high) + 0.5 * (low[:, None] == high)  # pairs in which the patient has the higher score
        aucs[:, draw] = ((of_controls @ won) * of_patients).sum(1) / (sizes[0] * sizes[1])
    return np.take_along_axis(aucs, drawn, axis=1).mean(1)


@lru_cache(maxsize=8)
def _resampled(
    controls: int, patients: int, draws: int, resamples: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """How often each control and each patient is in a resample, and which draws are; a row per resample."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((resamples, controls)), np.zeros((resamples, patients))
    drawn = np.empty((resamples, draws), dtype=np.int64)
    for r in range(resamples):
        for count in counts:
            count[r] = np.bincount(rng.integers(count.shape[1], size=count.shape[1]), minlength=count.shape[1])
        drawn[r] = rng.integers(draws, size=draws)
    return *counts, drawn


def interval(samples: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap samples."""
    low, high = np.quantile(np.asarray(samples), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_mean(values: ArrayLike, resamples: int = 1000, seed: int = 0) -> NDArray[np.float64]:
    """Means of bootstrap resamples of values (N,); shape (resamples,)."""
    values = np.asarray(values, dtype=np.float64)
    rows = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    return values[rows].mean(1)
