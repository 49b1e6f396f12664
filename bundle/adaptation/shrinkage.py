"""Covariances of features that are wider than people are many, shrunk towards a sphere, by inner products alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LEAST = 1e-3  # of the sphere, so that no direction has a variance of 0
ROUNDING = 1e-12  # of the squared lengths of features, below which what is left of them is rounding


class Shrunk(NamedTuple):
    """A covariance (1 − share) · S + share · variance · I, where S is that of the sample.

    Attributes:
        share: Share of the sphere, in (0, 1].
        variance: Variance of the sphere, the mean one of the features.
    """

    share: float
    variance: float

    @property
    def floor(self) -> float:
        """Variance in directions in which the sample shows none."""
        return self.share * self.variance


def ledoit_wolf(products: Array, width: int, lengths: float = 0.0) -> Shrunk:
    """How far a covariance is shrunk, by the inner products of centred features.

    The share is scikit-learn's `ledoit_wolf` of the features themselves, at least 0.001.

    Args:
        products: Inner products of the features of n people, less their mean.
        width: Number of features, p.
        lengths: Sum of the squared lengths of the features before they were centred, by which rounding is told.

    Shape:
        products (n, n).

    Source:
        Ledoit & Wolf, Journal of Multivariate Analysis 88 (2004).
    """
    if np.trace(products) <= ROUNDING * lengths:
        return Shrunk(1.0, 0.0)
    n, squares = len(products), np.square(products)
    variance = float(np.trace(products)) / (n * width)
    spread = float(squares.sum()) / n**2  # the sum of all squared entries of the covariance
    distance = (spread - width * variance**2) / width
    doubt = (float(squares.trace()) / n - spread) / (width * n)
    share = 1.0 if distance <= 0 else min(max(doubt, 0.0), distance) / distance
    return Shrunk(max(share, LEAST), variance)
