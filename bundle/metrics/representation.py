"""What a representation and a classifier are worth, in numbers with intervals."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError, cholesky, eigh, solve_triangular
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from torch import Tensor

from bundle.people import mean_of_each

RIDGE_PENALTIES = np.logspace(-1, 5, 13)
SINGULAR = 1e-7  # of the largest pivot of a factor, below which another one is rounding
LEAST_OF_A_SITE = 5  # people


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


class LengthScaler(OverallScaler):
    """Centre every feature, then divide all by one number, so that the mean squared length of a row is 1.

    A penalty then means the same for ten features and for a million.
    """

    def fit(self, X: ArrayLike, y: object = None) -> LengthScaler:
        """Measure the features X (n, p)."""
        super().fit(X, y)
        self.scale_ *= np.sqrt(len(self.mean_))
        return self


def whitening(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix W for which the length of W d is the Mahalanobis distance of a difference d.

    By Cholesky's factor, which is much quicker than an inversion by eigenvalues. Where a covariance is
    singular, directions in which nothing varies count nothing.

    Args:
        covariance: Covariance.

    Shape:
        covariance (E, E), output (E, E).
    """
    try:
        factor = cholesky(covariance, lower=True)
        if (pivots := factor.diagonal()).min() > SINGULAR * pivots.max():
            return np.asarray(solve_triangular(factor, np.eye(len(factor)), lower=True))
    except LinAlgError:
        pass
    values, vectors = eigh(covariance)
    varies = values > values.max() * len(values) * np.finfo(float).eps
    return np.asarray(np.where(varies, 1 / np.sqrt(np.where(varies, values, 1)), 0)[:, None] * vectors.T)


def ridge() -> Pipeline:
    """Ridge regression on features scaled by one number, penalty by efficient leave-one-out."""
    return make_pipeline(OverallScaler(), RidgeCV(RIDGE_PENALTIES))


def site_classifier() -> Pipeline:
    """Logistic regression that reads the site from features scaled by one number."""
    return make_pipeline(OverallScaler(), LogisticRegression(C=0.1, max_iter=200))


def age_errors(
    embedding: ArrayLike, ages: ArrayLike, people: NDArray[np.intp] | None = None, seed: int = 0
) -> NDArray[np.float64]:
    """Absolute errors (years) of a cross-validated ridge probe of age; scans of unknown age are left out.

    A person is in one fold with all scans, is fitted with their mean, and counts once, with their scans' mean error.

    Args:
        embedding: Embedding of scans.
        ages: Years, NaN = unknown.
        people: People of `people.person_codes`; None: a scan each.
        seed: Seed of the folds.

    Shape:
        embedding (N, E), ages (N,), people (N,), output (number of people of known age,).
    """
    everything, years = np.asarray(embedding, dtype=np.float64), np.asarray(ages, dtype=np.float64)
    known = ~np.isnan(years)
    features, years = everything[known], years[known]
    people = _renumbered(people, known)
    means, mean_ages = mean_of_each(features, people), mean_of_each(years, people)
    predicted = np.empty(len(years))
    for rest, held_out in KFold(5, shuffle=True, random_state=seed).split(means):
        rows = np.isin(people, held_out)
        predicted[rows] = ridge().fit(means[rest], mean_ages[rest]).predict(features[rows])
    return mean_of_each(np.abs(predicted - years), people)


def site_balanced_accuracy(
    embedding: ArrayLike, sites: ArrayLike, people: NDArray[np.intp] | None = None, seed: int = 0
) -> float:
    """Balanced accuracy with which a cross-validated linear model reads the site; chance is 1 / number of sites.

    Sites with fewer than 5 people are left out. A person is in one fold with all scans, also those of other sites.

    Args:
        embedding: Embedding of scans.
        sites: Name of each scan's site.
        people: People of `people.person_codes`; None: a scan each.
        seed: Seed of the folds.

    Shape:
        embedding (N, E), sites (N,), people (N,).

    Raises:
        ValueError: when fewer than two sites have 5 people.
    """
    everything, names = np.asarray(embedding, dtype=np.float64), np.asarray(sites)
    large = np.isin(names, large_sites(names, people))
    if len(np.unique(names[large])) < 2:
        counts = dict(zip(*np.unique(names, return_counts=True), strict=True))
        raise ValueError(f"Reading the site needs two sites with {LEAST_OF_A_SITE} people; found scans {counts}.")
    features, names, people = everything[large], names[large], _renumbered(people, large)
    first_site = names[np.unique(people, return_index=True)[1]]
    predicted = np.empty_like(names)
    for _, held_out in StratifiedKFold(5, shuffle=True, random_state=seed).split(first_site, first_site):
        rows = np.isin(people, held_out)
        predicted[rows] = site_classifier().fit(features[~rows], names[~rows]).predict(features[rows])
    return float(balanced_accuracy_score(names, predicted))


def large_sites(sites: ArrayLike, people: NDArray[np.intp] | None = None) -> list[str]:
    """Sites with at least `LEAST_OF_A_SITE` people.

    Args:
        sites: Sites of scans.
        people: People of `people.person_codes`; None: a scan each.
    """
    names = np.asarray(sites)
    people = np.arange(len(names)) if people is None else people
    return [name for name in np.unique(names) if len(np.unique(people[names == name])) >= LEAST_OF_A_SITE]


def _renumbered(people: NDArray[np.intp] | None, kept: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Persons of the rows that are kept, numbered from 0 in the order of their first rows."""
    people = np.arange(len(kept)) if people is None else np.asarray(people)
    return pd.factorize(people[kept])[0]


def openbhb_score(site_accuracy: float, age_error: float) -> float:
    """Score of the OpenBHB challenge for an embedding that should know age and not the site; lower is better.

    Args:
        site_accuracy: Balanced accuracy with which the site is read, in [0, 1].
        age_error: Mean absolute error of age at unseen sites, years.

    Source:
        Dufumier et al., NeuroImage 263 (2022): accuracy^0.3 · error.
    """
    return site_accuracy**0.3 * age_error
