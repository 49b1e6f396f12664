"""What a representation and a classifier are worth, in numbers with intervals."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import balanced_accuracy_score, recall_score
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from torch import Tensor

RIDGE_PENALTIES = np.logspace(-1, 5, 13)


def alignment(view_1: Tensor, view_2: Tensor) -> Tensor:
    """Mean squared distance of two views of one subject on the unit sphere: 0 is perfect, 2 is chance.

    Shape:
        view_1, view_2 (N, D), output ().

    Source:
        Wang & Isola, ICML 2020.
    """
    return (F.normalize(view_1, dim=1) - F.normalize(view_2, dim=1)).pow(2).sum(1).mean()


def uniformity(projections: Tensor) -> Tensor:
    """Uniformity, log mean exp(−2‖z_i − z_k‖²) over pairs: 0 is collapsed, −4 is spread over the whole sphere.

    Shape:
        projections (N, D), output ().

    Source:
        Wang & Isola, ICML 2020.
    """
    squared = F.pdist(F.normalize(projections, dim=1)).pow(2)
    return torch.logsumexp(-2 * squared, 0) - math.log(len(squared))


def effective_rank(embedding: Tensor) -> Tensor:
    """Effective rank, exp(entropy of the normalised singular values): how many dimensions the embedding uses.

    Shape:
        embedding (N, E), output () between 1 and min(N, E).

    Source:
        Roy & Vetterli, EUSIPCO 2007; as RankMe, Garrido et al., ICML 2023.
    """
    values = torch.linalg.svdvals(embedding - embedding.mean(0))
    share = values / values.sum()
    return torch.exp(-torch.special.xlogy(share, share).sum())


class OverallScaler(TransformerMixin, BaseEstimator):
    """Centre every feature, then divide all by one number: their root-mean-square standard deviation.

    Unlike unit variance for each feature, it does not blow up features that are almost never active (ReLU networks
    have many), which in unseen subjects take values thousands of training standard deviations away.
    """

    def fit(self, X: ArrayLike, y: object = None) -> OverallScaler:  # noqa: ARG002
        """Measure the features X (n, p)."""
        features = np.asarray(X, dtype=np.float64)
        self.mean_ = features.mean(0)
        self.scale_ = float(np.sqrt(features.var(0).mean())) or 1.0
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scale the features X (n, p)."""
        return (np.asarray(X, dtype=np.float64) - self.mean_) / self.scale_


def ridge() -> Pipeline:
    """Ridge regression on features scaled by one number, penalty by efficient leave-one-out."""
    return make_pipeline(OverallScaler(), RidgeCV(RIDGE_PENALTIES))


def age_errors(embedding: ArrayLike, ages: ArrayLike, seed: int = 0) -> NDArray[np.float64]:
    """Absolute errors (years) of a cross-validated ridge probe of age; subjects of unknown age are left out.

    Shape:
        embedding (N, E), ages (N,), output (number of known ages,).
    """
    embedding, ages = np.asarray(embedding, dtype=np.float64), np.asarray(ages, dtype=np.float64)
    known = ~np.isnan(ages)
    folds = KFold(5, shuffle=True, random_state=seed)
    predicted = cross_val_predict(ridge(), embedding[known], ages[known], cv=folds)
    return np.abs(predicted - ages[known])


def site_balanced_accuracy(embedding: ArrayLike, sites: ArrayLike, seed: int = 0) -> float:
    """Balanced accuracy with which a cross-validated linear model reads the site; chance is 1 / number of sites.

    Sites with fewer than 5 subjects are left out.

    Shape:
        embedding (N, E), sites (N,) names.

    Raises:
        ValueError: when fewer than two sites have 5 subjects.
    """
    embedding, sites = np.asarray(embedding, dtype=np.float64), np.asarray(sites)
    names, counts = np.unique(sites, return_counts=True)
    large = np.isin(sites, names[counts >= 5])
    if len(np.unique(sites[large])) < 2:
        raise ValueError(
            f"Reading the site needs two sites with 5 subjects; found {dict(zip(names, counts, strict=True))}."
        )
    model = make_pipeline(OverallScaler(), LogisticRegression(C=0.1, max_iter=200))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return float(
        balanced_accuracy_score(sites[large], cross_val_predict(model, embedding[large], sites[large], cv=folds))
    )


def openbhb_score(site_accuracy: float, age_error: float) -> float:
    """Score of the OpenBHB challenge for an embedding that should know age and not the site; lower is better.

    Args:
        site_accuracy: balanced accuracy with which the site is read, in [0, 1].
        age_error: mean absolute error of age at unseen sites, years.

    Source:
        Dufumier et al., NeuroImage 263 (2022): accuracy^0.3 · error.
    """
    return site_accuracy**0.3 * age_error


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
    if not positives or not negatives:
        raise ValueError(f"ROC-AUC needs both classes, but {positives} patients and {negatives} controls were found.")
    rank_sum = rankdata(scores, axis=-1)[..., labels].sum(-1)
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


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


def operating_point(labels: ArrayLike, probabilities: ArrayLike, rule: str = "youden") -> float:
    """The probability from which on a subject is called a patient.

    Candidates lie half-way between neighbouring probabilities, so that rounding cannot change a decision; of equally
    good ones the nearest to 0.5 is taken.

    Args:
        labels: 0 control, 1 patient; both there.
        probabilities: of being a patient.
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
    candidates = np.concatenate([[values[0] / 2], (values[:-1] + values[1:]) / 2, [(values[-1] + 1) / 2]])
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
        name in ("sensitivity", "specificity", "probability") and 0 <= wanted <= 1
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
    place = np.clip((table["predicted"] * bins).astype(int), 0, bins - 1)
    groups = table.groupby(place)
    return groups.mean().assign(n=groups.size()).reset_index(drop=True)


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
        probabilities: of being a patient.

    Shape:
        labels (N,), probabilities (N,).

    Source:
        Platt, Probabilistic outputs for support vector machines, 1999.
    """
    labels = np.asarray(labels)
    patients, controls = int(labels.sum()), int((1 - labels).sum())
    target = np.where(labels == 1, (patients + 1) / (patients + 2), 1 / (controls + 2))
    scores = np.tile(_log_odds(probabilities), 2)[:, None]
    both = np.repeat([1, 0], len(labels))
    fitted = LogisticRegression(C=np.inf, max_iter=1000).fit(scores, both, np.concatenate([target, 1 - target]))
    if fitted.coef_[0, 0] < 0:  # worse than chance: every probability becomes the share of patients
        return 0.0, float(logit(target.mean()))
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def calibrated(probabilities: ArrayLike, slope: float, intercept: float) -> NDArray[np.float64]:
    """Probabilities whose log odds were stretched and shifted, see `platt`."""
    return expit(slope * _log_odds(probabilities) + intercept)


def _log_odds(probabilities: ArrayLike) -> NDArray[np.float64]:
    return logit(np.clip(np.asarray(probabilities, dtype=np.float64), 1e-6, 1 - 1e-6))
