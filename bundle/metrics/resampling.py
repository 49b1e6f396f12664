"""Intervals and p values: bootstrap resamples of subjects and draws, correction for several tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bundle.metrics.classification import roc_auc


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

    Source:
        Efron & Tibshirani, An Introduction to the Bootstrap, 1993.
    """
    labels, scores = np.asarray(labels), np.atleast_2d(np.asarray(scores, dtype=np.float64))
    rng = np.random.default_rng(seed)
    controls, patients = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    sorted_labels = np.repeat([0, 1], [len(controls), len(patients)])
    means = np.empty(resamples)
    for r in range(resamples):
        subjects = np.concatenate([rng.choice(controls, len(controls)), rng.choice(patients, len(patients))])
        draws = rng.integers(len(scores), size=len(scores))
        means[r] = roc_auc(sorted_labels, scores[np.ix_(draws, subjects)]).mean()
    return means


def interval(samples: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap samples."""
    low, high = np.quantile(np.asarray(samples), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_mean(values: ArrayLike, resamples: int = 1000, seed: int = 0) -> NDArray[np.float64]:
    """Means of bootstrap resamples of values (N,); shape (resamples,)."""
    values = np.asarray(values, dtype=np.float64)
    rows = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    return values[rows].mean(1)
