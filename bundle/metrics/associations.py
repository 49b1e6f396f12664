"""How well a column other than the image tells patients from controls: ROC-AUC, Cramér's V and a p value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2, mannwhitneyu

from bundle.metrics.classification import roc_auc

FOLDS = 5
PRIOR = 2.0  # people with the overall share of patients that each level is given beside its own
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Association:
    """What a column says of the label; NaN where it has no meaning.

    Args:
        auc: ROC-AUC of predicting the label from the column alone; 0.5 is chance.
        balanced_accuracy: Balanced accuracy of the same prediction; levels only.
        v: Cramér's V, 0 independent, 1 determined; levels only.
        p: p value of independence, two-sided.
        people: How many were looked at.
    """

    auc: float
    balanced_accuracy: float
    v: float
    p: float
    people: int


def enough(labels: ArrayLike) -> bool:
    """Whether there are enough patients and controls to cross-validate."""
    labels = np.asarray(labels)
    return min(int((labels == 0).sum()), int((labels == 1).sum())) >= FOLDS


def by_level(levels: Sequence[Any], labels: ArrayLike, seed: int = 0) -> Association:
    """How well a column of names tells the label, cross-validated.

    A person's score is the share of patients among the people of the same level in the other folds; the AUC is the
    mean over folds. It is given as 0.5 where it is lower: in small levels of equal shares, each patient who is told
    is one that the others lack, which says nothing of the level.

    Args:
        levels: Such as sites, one for each person.
        labels: 0 control, 1 patient; `FOLDS` of each at least.
        seed: Seed of the folds.
    """
    codes, labels = pd.factorize(pd.Series(list(levels), dtype=object), use_na_sentinel=False)[0], np.asarray(labels)
    folds = _folds(labels, seed)
    scores, shares = np.empty(len(labels)), np.empty(len(labels))
    for fold in range(FOLDS):
        rest = folds != fold
        scores[~rest] = _shares(codes[rest], labels[rest], codes[~rest], int(codes.max()) + 1)
        shares[~rest] = labels[rest].mean()
    v, p = cramers_v(codes, labels)
    auc, accuracy = _fold_auc(scores, labels, folds), _balanced(scores > shares, labels)
    return Association(max(0.5, auc), max(0.5, accuracy), v, p, len(labels))


def by_number(values: ArrayLike, labels: ArrayLike) -> Association:
    """How well a column of numbers tells the label: the share of pairs in which the patient has the higher one.

    Above 0.5 patients have higher values, below it lower ones. Nothing is fitted, so nothing is cross-validated; p is
    that of Mann and Whitney.

    Args:
        values: Such as ages, one for each person.
        labels: 0 control, 1 patient.

    Source:
        Mann & Whitney, Annals of Mathematical Statistics 1947.
    """
    values, labels = np.asarray(values, dtype=np.float64), np.asarray(labels)
    p = float(mannwhitneyu(values[labels == 1], values[labels == 0], method="asymptotic").pvalue)
    auc = float(roc_auc(labels, values))
    return Association(auc, math.nan, math.nan, 1.0 if math.isnan(p) else p, len(labels))


def cross_validated_number(values: ArrayLike, labels: ArrayLike, seed: int = 0) -> float:
    """ROC-AUC of a column of numbers whose direction is learned from the other folds."""
    values, labels = np.asarray(values, dtype=np.float64), np.asarray(labels)
    folds = _folds(labels, seed)
    scores = np.empty(len(values))
    for fold in range(FOLDS):
        rest = folds != fold
        scores[~rest] = values[~rest] * np.sign(roc_auc(labels[rest], values[rest]) - 0.5)
    return _fold_auc(scores, labels, folds)


def transferred(
    levels: Sequence[Any], labels: ArrayLike, new_levels: Sequence[Any], new_labels: ArrayLike
) -> Association:
    """How well the levels of some people tell the label of others; unseen levels have no say.

    Args:
        levels: Levels of the people learned from.
        labels: Theirs, 0 control, 1 patient.
        new_levels: Levels of the people told.
        new_labels: Theirs; both classes.
    """
    both = pd.factorize(pd.Series([*levels, *new_levels], dtype=object), use_na_sentinel=False)[0]
    old, new = both[: len(levels)], both[len(levels) :]
    return by_number(_shares(old, np.asarray(labels), new, int(both.max()) + 1), new_labels)


def cramers_v(codes: ArrayLike, labels: ArrayLike) -> tuple[float, float]:
    """Cramér's V of levels and labels, corrected for its bias, and the p value of Pearson's χ² (with N − 1).

    Levels so small that less than one patient or control is expected count as one level together. Without the
    correction, forty sites of ten people each would seem to know the diagnosis by chance.

    Args:
        codes: Level of each person, integers from 0.
        labels: 0 control, 1 patient.

    Source:
        Bergsma, Journal of the Korean Statistical Society 42 (2013); Campbell, Statistics in Medicine 26 (2007).
    """
    codes, labels = np.asarray(codes, dtype=int), np.asarray(labels, dtype=int)
    n, rare = len(labels), 1 / min(labels.mean(), 1 - labels.mean())
    table = np.stack([np.bincount(codes, labels == k, minlength=codes.max() + 1) for k in (0, 1)])
    small = table.sum(0) < rare
    table = np.column_stack([table[:, ~small], table[:, small].sum(1)])
    table = table[:, table.sum(0) > 0]
    freedom = table.shape[1] - 1
    if freedom == 0:
        return 0.0, 1.0
    expected = np.outer(table.sum(1), table.sum(0)) / n
    squared = float(((table - expected) ** 2 / expected).sum()) / n
    unbiased = max(0.0, squared - freedom / (n - 1))
    largest = min(1.0 - 1 / (n - 1), freedom - freedom**2 / (n - 1))
    v = math.sqrt(min(1.0, unbiased / largest)) if largest > 0 else 0.0
    return v, float(chi2.sf(squared * (n - 1), freedom))


def presence_p(patients: Array, people: Array, n_patients: int, n: int) -> Array:
    """P values of many features that a person has or has not: Pearson's χ² (with N − 1) of each two-by-two table.

    Args:
        patients: How many patients have each feature.
        people: How many people have it.
        n_patients: Number of patients among all.
        n: All people.

    Shape:
        patients, people (F,), output (F,); 1 where everybody or nobody has it.
    """
    spread = people * (n - people) * float(n_patients) * (n - n_patients)
    difference = patients * (n - n_patients) - (people - patients) * n_patients
    squared = np.divide((n - 1) * difference**2.0, spread, out=np.zeros(len(people)), where=spread > 0)
    return chi2.sf(squared, 1)


def _folds(labels: NDArray, seed: int) -> NDArray[np.int_]:
    """Fold of each person; every fold has its share of either class."""
    folds = np.empty(len(labels), dtype=int)
    rng = np.random.default_rng(seed)
    for label in (0, 1):
        rows = rng.permutation(np.flatnonzero(labels == label))
        folds[rows] = np.arange(len(rows)) % FOLDS
    return folds


def _shares(codes: NDArray, labels: NDArray, wanted: NDArray, size: int) -> Array:
    """Share of patients in the level of each person wanted, drawn towards that of all."""
    patients, people = (np.bincount(codes, weight, minlength=size) for weight in (labels, np.ones(len(labels))))
    return ((patients + PRIOR * labels.mean()) / (people + PRIOR))[wanted]


def _fold_auc(scores: Array, labels: NDArray, folds: NDArray) -> float:
    return float(np.mean([roc_auc(labels[folds == k], scores[folds == k]) for k in range(FOLDS)]))


def _balanced(called: NDArray[np.bool_], labels: NDArray) -> float:
    return float((called[labels == 1].mean() + (~called[labels == 0]).mean()) / 2)
