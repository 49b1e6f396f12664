"""Linear models of features: the unknown filled in, the known taken out, C chosen by inner folds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import auc, roc_curve
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from bundle.evaluation.products import to_row_space
from bundle.evaluation.readers import Model, logistic
from bundle.metrics.representation import LengthScaler, OverallScaler

Array = NDArray[np.float64]
INNER_FOLDS = 5
SCALERS = {"overall": OverallScaler, "each": StandardScaler, "length": LengthScaler}
OF_LENGTHS = ("none", "length")  # scalings that are the same of rotated features


def fill_unknown(train: Array, test: Array) -> tuple[Array, Array]:
    """Replace NaN by the training column's mean (0 for a column that is wholly unknown)."""
    if not np.isnan(train).any() and not np.isnan(test).any():
        return train, test
    known = ~np.isnan(train)
    means = np.where(known, train, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    return np.where(known, train, means), np.where(np.isnan(test), means, test)


def without_known(train: Array, known: Array, test: Array, test_known: Array) -> tuple[Array, Array]:
    """Features less what is known beside the image explains of them, linearly and (age, TIV) by its square.

    The effect is estimated on the training subjects alone, patients and controls together.

    Args:
        train: Features of the training subjects.
        known: Their covariates, such as columns of `covariates`; NaN = unknown, taken as the mean.
        test: Features of the test subjects.
        test_known: Covariates of the test subjects.

    Shape:
        train (n, p), known (n, q), test (m, p), test_known (m, q), outputs (n, p) and (m, p).
    """
    fit_on, apply_on = _designs(known, test_known)
    effect = np.linalg.lstsq(fit_on, train, rcond=None)[0]
    return train - fit_on @ effect, test - apply_on @ effect


def explained_by_known(known: Array, test_known: Array) -> Array:
    """Weights of the training subjects' features that give what the covariates explain of everybody's.

    `without_known` for features of which only inner products are there.

    Shape:
        known (n, q), test_known (m, q), output (n + m, n).
    """
    fit_on, apply_on = _designs(known, test_known)
    return np.concatenate([fit_on, apply_on]) @ np.linalg.lstsq(fit_on, np.eye(len(fit_on)), rcond=None)[0]


def _designs(known: Array, test_known: Array) -> list[Array]:
    """A constant, the covariates and their squares, of the training and of the test subjects."""
    filled, test_filled = fill_unknown(known, test_known)
    scaler = StandardScaler().fit(filled)
    scaled = scaler.transform(filled), scaler.transform(test_filled)
    return [np.column_stack([np.ones(len(k)), k, k**2]) for k in scaled]


def fit_predict(
    train: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    test: ArrayLike,
    penalties: Sequence[float],
    scaling: str,
) -> Array:
    """Scores of test subjects by the paper's probe: liblinear, C by inner 5-fold cross-validation of ROC-AUC.

    Args:
        train: Features of the training subjects; NaN = unknown, taken as the mean.
        labels: 0 control, 1 patient.
        groups: Participant of each training row; folds never separate a participant's sessions.
        test: Features of the test subjects.
        penalties: Candidates for C.
        scaling: `overall` (features divided by one number), `each` (unit variance for every feature: for features of
            different units), `length` (a mean squared length of 1, however many features there are) or `none`.

    Shape:
        train (n, p), labels and groups (n,), test (m, p), output (m,) log odds of being a patient.

    Raises:
        ValueError: when a class has fewer participants than there are inner folds.

    Source:
        Dufumier et al., MICCAI 2021, section 4 (released evaluation).
    """
    fit_on, score_on = prepared(train, test, scaling)
    return chosen(fit_on, np.asarray(labels), np.asarray(groups), penalties).decision_function(score_on)


def prepared(train: ArrayLike, test: ArrayLike, scaling: str, rotated: bool = True) -> tuple[Array, Array]:
    """Features for a linear model: what is unknown filled in, scaled, and rotated onto the span of the training ones.

    Args:
        train: Features of the training subjects.
        test: Features of the test subjects.
        scaling: Scaling; see `fit_predict`.
        rotated: False for a model that is not the same on rotated features: they are scaled alone.

    Shape:
        train (n, p), test (m, p), outputs (n, r) and (m, r) with r ≤ p.
    """
    fit_on, score_on = fill_unknown(np.asarray(train, dtype=np.float64), np.asarray(test, dtype=np.float64))
    fit_on, score_on = scaled(fit_on, score_on, scaling)
    return to_row_space(fit_on, score_on) if rotated else (fit_on, score_on)


def scaled(train: Array, test: Array, scaling: str) -> tuple[Array, Array]:
    """Features scaled by what the training subjects show; see `fit_predict`.

    Shape:
        train (n, p), test (m, p), outputs the same.
    """
    if scaling == "none":
        return train, test
    scaler = SCALERS[scaling]().fit(train)
    return scaler.transform(train), scaler.transform(test)


def chosen(train: Array, labels: NDArray, groups: NDArray, penalties: Sequence[float], model: Model = logistic) -> Any:
    """The probe with the C of the best mean ROC-AUC over inner folds, the first of equally good ones.

    What scikit-learn's `GridSearchCV` does, to the last digit, without its copies and checks.
    """
    folds = _inner_folds(tuple(labels.tolist()), tuple(groups.tolist()))
    parts = [(train[fit], labels[fit], train[held], labels[held]) for fit, held in folds]
    aucs = [[_held_out_auc(model(penalty), *part) for part in parts] for penalty in penalties]
    best = penalties[int(np.nan_to_num(np.average(aucs, axis=1), nan=-1.0).argmax())]
    return model(best).fit(train, labels)


def _held_out_auc(model: Any, train: Array, labels: NDArray, held: Array, truth: NDArray) -> float:
    scores = model.fit(train, labels).decision_function(held)
    return auc(*roc_curve(truth, scores)[:2])  # scikit-learn's, which decides between equals


@lru_cache(maxsize=64)  # of a draw, on which every method is trained
def _inner_folds(labels: tuple, groups: tuple) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    counts = {label: len({group for group, of in zip(groups, labels, strict=True) if of == label}) for label in (0, 1)}
    if min(counts.values()) < INNER_FOLDS:
        raise ValueError(
            f"C is chosen by inner {INNER_FOLDS}-fold cross-validation, which needs {INNER_FOLDS} training "
            f"participants of each label, but by label there are {counts}; train on more, or use fewer folds."
        )
    folds = StratifiedGroupKFold(INNER_FOLDS, shuffle=True, random_state=0)
    return list(folds.split(np.zeros(len(labels)), np.array(labels), np.array(groups)))
