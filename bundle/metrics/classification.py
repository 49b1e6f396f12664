"""How well a classifier tells patients from controls, and what its probabilities are worth."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, recall_score

NOBODY = float(np.nextafter(1.0, 2.0))  # a threshold that no probability reaches


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """Area under the ROC curve by ranks (ties count half), along the last axis.

    Shape:
        labels (N,) in {0, 1}, scores (..., N), output (...).

    Raises:
        ValueError: when a class is missing.

    Source:
        Mann–Whitney U; Hanley & McNeil, Radiology 1982.
    """
    labels, scores = np.asarray(labels).astype(bool), np.asarray(scores, dtype=np.float64)
    positives = int(labels.sum())
    negatives = len(labels) - positives
    require_both(negatives, positives)
    rank_sum = rankdata(scores, axis=-1)[..., labels].sum(-1)
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def require_both(controls: int, patients: int) -> None:
    """Refuse a ROC-AUC of one class.

    Args:
        controls: How many there are.
        patients: How many there are.

    Raises:
        ValueError: when a class is missing.
    """
    if not patients or not controls:
        raise ValueError(f"ROC-AUC needs both classes, but {patients} patients and {controls} controls were found.")


def operating_point(labels: ArrayLike, probabilities: ArrayLike, rule: str = "youden") -> float:
    """The probability from which on a subject is called a patient.

    Candidates lie half-way between neighbouring probabilities, so that rounding cannot change a decision; of equally
    good ones the nearest to 0.5 is taken. Where a rule can only be kept by calling nobody a patient, it is `NOBODY`.

    Args:
        labels: 0 control, 1 patient; both there.
        probabilities: Probabilities of being a patient.
        rule: `youden` (largest sensitivity + specificity), `sensitivity=0.9` (most specific with at least this
            sensitivity), `specificity=0.9` (the reverse), or `probability=0.5` (this one).

    Shape:
        labels (N,), probabilities (N,).

    Raises:
        ValueError: for another rule.

    Source:
        Youden, Cancer 3 (1950), 32–35.

    Example:
        >>> operating_point([0, 0, 1, 1], [0.1, 0.4, 0.6, 0.9])
        0.5
    """
    name, wanted = _rule(rule)
    if name == "probability":
        return wanted
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    values = np.unique(probabilities)
    between = values[:-1] + (values[1:] - values[:-1]) / 2
    between = np.where(between > values[:-1], between, values[1:])  # neighbours that no number lies between
    beyond = (values[-1] + 1) / 2 if values[-1] < 1 else NOBODY
    candidates = np.concatenate([[values[0] / 2], between, [beyond]])
    positive = probabilities >= candidates[:, None]
    sensitivity, specificity = positive[:, labels == 1].mean(1), 1 - positive[:, labels == 0].mean(1)
    worth = sensitivity + specificity
    if name != "youden":
        kept, other = (sensitivity, specificity) if name == "sensitivity" else (specificity, sensitivity)
        worth = np.where(kept >= wanted - 1e-12, other, -1.0)
    best = np.flatnonzero(worth >= worth.max() - 1e-12)
    return float(candidates[best[np.abs(candidates[best] - 0.5).argmin()]])


def _rule(rule: str) -> tuple[str, float]:
    name, _, number = rule.partition("=")
    try:
        wanted = float(number) if number else math.nan
    except ValueError:
        wanted = math.inf
    if (name == "youden" and not number) or (
        name in ("sensitivity", "specificity", "probability")
        and 0 <= wanted <= (NOBODY if name == "probability" else 1)
    ):
        return name, wanted
    raise ValueError(
        f"An operating point is youden, sensitivity=0.9, specificity=0.9 or probability=0.5, but '{rule}' was given."
    )


def decisions(labels: ArrayLike, probabilities: ArrayLike, threshold: float) -> dict[str, float]:
    """Sensitivity, specificity and balanced accuracy of calling a subject a patient from a probability on.

    Shape:
        labels (N,) in {0, 1}, both there, probabilities (N,).
    """
    labels, positive = np.asarray(labels), np.asarray(probabilities, dtype=np.float64) >= threshold
    sensitivity, specificity = recall_score(labels, positive), recall_score(labels, positive, pos_label=0)
    return {
        "sensitivity": float(sensitivity),
        "specificity": float(specificity),
        "balanced_accuracy": float(balanced_accuracy_score(labels, positive)),
    }


def reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> pd.DataFrame:
    """How often subjects of similar probability are patients: a row per bin of equal width that holds any.

    Shape:
        labels (N,) in {0, 1}, probabilities (N,); columns predicted (mean probability), observed (share of patients),
        n (subjects).
    """
    table = pd.DataFrame({"predicted": np.asarray(probabilities, dtype=np.float64), "observed": np.asarray(labels)})
    groups = table.groupby(bin_of(probabilities, bins))
    return groups.mean().assign(n=groups.size()).reset_index(drop=True)


def bin_of(probabilities: ArrayLike, bins: int = 10) -> NDArray[np.int64]:
    """The bin of equal width that each probability lies in.

    Shape:
        probabilities (N,), output (N,) in 0 … bins − 1.
    """
    return np.clip((np.asarray(probabilities, dtype=np.float64) * bins).astype(np.int64), 0, bins - 1)


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error: mean distance of probability from share of patients over bins, weighted by size.

    Shape:
        labels (N,) in {0, 1}, probabilities (N,).

    Source:
        Naeini et al., AAAI 2015; Guo et al., ICML 2017.
    """
    table = reliability(labels, probabilities, bins)
    return float(np.average((table["predicted"] - table["observed"]).abs(), weights=table["n"]))


def platt(labels: ArrayLike, probabilities: ArrayLike) -> tuple[float, float]:
    """Slope and intercept that make log odds fit the labels, with Platt's smoothed targets.

    Args:
        labels: 0 control, 1 patient; both there.
        probabilities: Probabilities of being a patient.

    Shape:
        labels (N,), probabilities (N,).

    Source:
        Platt, Probabilistic outputs for support vector machines, 1999.
    """
    labels = np.asarray(labels)
    patients, controls = int(labels.sum()), int((1 - labels).sum())
    target = np.where(labels == 1, (patients + 1) / (patients + 2), 1 / (controls + 2))
    scores = np.tile(log_odds(probabilities), 2)[:, None]
    both = np.repeat([1, 0], len(labels))
    fitted = LogisticRegression(C=np.inf, max_iter=1000).fit(scores, both, np.concatenate([target, 1 - target]))
    if fitted.coef_[0, 0] < 0:  # worse than chance: every probability becomes the share of patients
        return 0.0, float(logit(target.mean()))
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def calibrated(probabilities: ArrayLike, slope: float, intercept: float) -> NDArray[np.float64]:
    """Probabilities whose log odds were stretched and shifted, see `platt`."""
    return expit(slope * log_odds(probabilities) + intercept)


def log_odds(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Log odds, within ±13.8, which are those of 1e-6 and 1 − 1e-6.

    Shape:
        probabilities (…), output (…).
    """
    return logit(np.clip(np.asarray(probabilities, dtype=np.float64), 1e-6, 1 - 1e-6))
