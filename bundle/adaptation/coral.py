"""CORAL: features of a labelled study, given the mean and covariance of an unlabelled one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.adaptation.shrinkage import ledoit_wolf

Array = NDArray[np.float64]
RANK = 1e-10  # of the largest eigenvalue, below which nothing varies in a direction


class _Study(NamedTuple):
    """Mean and covariance of people, as weights of the features of all scans.

    Attributes:
        mean: Weights that give the mean, (N,).
        axes: Weights that give the principal axes, (r, N).
        variances: Shrunk variances along them, (r,).
        floor: Variance in all other directions.
    """

    mean: Array
    axes: Array
    variances: Array
    floor: float


def aligned(products: Array, source: Array, target: Array, scans: int, width: int) -> Array:
    """Weights of all scans' features that give those of the first ones the moments of a target.

    With means μ and covariances C of both, C shrunk as `ledoit_wolf` says, features of the source become

        x′ = (x − μ_source) · C_source^(−1/2) · C_target^(1/2) + μ_target,

    and a model that is trained on them is used on the target as it is.

    Args:
        products: Inner products of the features of N scans.
        source: Weights of the scans' features that give those of the people of the source.
        target: The same of the target's people; their labels are unknown.
        scans: How many scans are of the source: the first ones, which are changed.
        width: Number of features, p.

    Shape:
        products (N, N), source (k, N), target (l, N), output (N, N).

    Source:
        Sun, Feng & Saenko, AAAI 2016; there C has 1 added to its diagonal, in place of being shrunk.
    """
    known, new = _of(products, source, width), _of(products, target, width)
    weights = np.eye(len(products))
    moved = weights[:scans] - known.mean
    if min(known.floor, new.floor) > 0:  # else nothing varies in one of them, and the means alone are matched
        moved = _times(moved, products, known, -0.5)
        moved = _times(moved, products, new, 0.5)
    weights[:scans] = moved + new.mean
    return weights


def _of(products: Array, people: Array, width: int) -> _Study:
    mean = people.mean(0)
    centred = people - mean
    own = centred @ products @ centred.T
    shrunk = ledoit_wolf(own, width, np.trace(people @ products @ people.T))
    values, vectors = np.linalg.eigh(own)
    varies = values > RANK * max(values[-1], 0)
    values, vectors = values[varies], vectors[:, varies]
    axes = (vectors / np.sqrt(values)).T @ centred
    return _Study(mean, axes, (1 - shrunk.share) * values / len(people) + shrunk.floor, shrunk.floor)


def _times(weights: Array, products: Array, study: _Study, power: float) -> Array:
    """Weights of features that are multiplied by a power of a study's covariance."""
    beyond = study.variances**power - study.floor**power
    return study.floor**power * weights + (weights @ products @ study.axes.T * beyond) @ study.axes
