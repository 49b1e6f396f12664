"""ComBat: what sites do to the location and scale of features, estimated by empirical Bayes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Columns = Callable[[slice], Array]  # some features of all scans, such as `lambda part: features[:, part]`
COLUMNS = 8192  # features in float64 at a time
TINY = 1e-9  # of a feature's largest value, below which a standard deviation is rounding
TOLERANCE, ROUNDS = 1e-8, 1000  # of the iteration
logger = logging.getLogger(__name__)


class SiteEffect(NamedTuple):
    """What a site does to features.

    Attributes:
        shift: How far their mean lies from that of all sites, in their units, (p,).
        scale: Their standard deviation over that of all sites, (p,).
    """

    shift: Array
    scale: Array


@dataclass(frozen=True)
class Combat:
    """ComBat's model of features: mean + covariates · slopes + shift of the site + scale of the site · spread · noise.

    Attributes:
        mean: Mean over sites, (p,).
        slopes: Effects of the covariates, (q, p).
        spread: Standard deviation within sites; 0 for a feature that varies only between them, (p,).
        effects: Site → its effect.

    Source:
        Johnson, Li & Rabinovic, Biostatistics 8 (2007); for images Fortin et al., NeuroImage 167 (2018).
    """

    mean: Array
    slopes: Array
    spread: Array
    effects: dict[str, SiteEffect]

    def effect_of(self, columns: Columns, covariates: Array) -> SiteEffect:
        """The effect of one site, from scans of its own: its features share a prior, with which each is shrunk.

        Args:
            columns: Features of the site's scans, at least two.
            covariates: Their covariates.

        Shape:
            columns (n, k), covariates (n, q).
        """
        shift, variance = np.empty_like(self.mean), np.empty_like(self.mean)
        for part in blocks(len(self.mean)):
            left = columns(part) - self.mean[part] - covariates @ self.slopes[:, part]
            shift[part], variance[part] = left.mean(0), left.var(0, ddof=1)
        scale, varies = np.ones_like(shift), self.spread > 0
        unit = self.spread[varies]
        located, scaled = posterior(shift[varies] / unit, variance[varies] / unit**2, len(covariates))
        shift[varies], scale[varies] = located * unit, np.where(scaled > 0, np.sqrt(scaled), 1.0)
        return SiteEffect(shift, scale)

    def without(self, values: NDArray, covariates: Array, effect: SiteEffect, part: slice = slice(None)) -> Array:
        """Features without the effect of a site.

        Args:
            values: Some features of its scans.
            covariates: Their covariates.
            effect: Effect of the site.
            part: Which features they are.

        Shape:
            values (n, k), covariates (n, q), output (n, k).
        """
        expected = self.mean[part] + covariates @ self.slopes[:, part]
        return expected + (values - expected - effect.shift[part]) / effect.scale[part]


def fit_combat(columns: Columns, width: int, sites: NDArray, covariates: Array | None = None) -> Combat:
    """Estimate ComBat's model.

    Args:
        columns: Features of scans.
        width: Number of features.
        sites: Site of each scan.
        covariates: What is preserved; None: nothing. A covariate that is the diagnosis puts it into the features.

    Shape:
        columns (n, k), sites (n,), covariates (n, q).

    Raises:
        ValueError: see `design_of`.
    """
    design, names, counts = design_of(sites, covariates)
    weights, shares = np.linalg.pinv(design), counts / len(design)
    mean, slopes, spread = np.empty(width), np.empty((design.shape[1] - len(names), width)), np.empty(width)
    for part in blocks(width):
        values = columns(part)
        found = weights @ values
        mean[part], slopes[:, part] = shares @ found[: len(names)], found[len(names) :]
        deviation = np.sqrt(np.mean((values - design @ found) ** 2, axis=0))
        spread[part] = np.where(deviation > TINY * np.abs(values).max(0), deviation, 0.0)
    model = Combat(mean, slopes, spread, {})
    for code, name in enumerate(names):
        own = design[:, code] == 1
        known = design[own, len(names) :]
        model.effects[str(name)] = model.effect_of(partial(_of_rows, columns, own), known)
    return model


def _of_rows(columns: Columns, own: NDArray[np.bool_], part: slice) -> Array:
    return columns(part)[own]


def design_of(sites: NDArray, covariates: Array | None = None) -> tuple[Array, NDArray, NDArray[np.intp]]:
    """The design of ComBat's regression, a column of each site before those of covariates; and sites with their scans.

    Raises:
        ValueError: when there is one site, one with a single scan, or a covariate that sites determine.
    """
    names, codes, counts = np.unique(sites, return_inverse=True, return_counts=True)
    if len(names) < 2 or counts.min() < 2:
        found = dict(zip(names.tolist(), counts.tolist(), strict=True))
        raise ValueError(f"ComBat needs at least two sites with two scans each, but scans by site are {found}.")
    known = np.zeros((len(codes), 0)) if covariates is None else covariates
    design = np.column_stack([np.eye(len(names))[codes], known])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError("ComBat cannot preserve what the site determines, since both have one effect; leave it out.")
    return design, names, counts


def blocks(width: int) -> Iterator[slice]:
    """Some features at a time: wide ones would not fit into memory in float64."""
    return (slice(start, min(start + COLUMNS, width)) for start in range(0, width, COLUMNS))


def posterior(shift: Array, variance: Array, n: int) -> tuple[Array, Array]:
    """Shift and variance of each feature at a site, shrunk towards those of all its features.

    Args:
        shift: Means of the standardised features.
        variance: Their variances, of n − 1.
        n: Scans of the site.

    Shape:
        shift, variance (p,), outputs (p,).
    """
    if len(shift) < 2 or variance.mean() == 0:
        return shift, variance  # one feature has no others to be shrunk towards
    centre, width = shift.mean(), shift.var(ddof=1)
    mean = variance.mean()
    doubt = max(variance.var(ddof=1), 1e-12 * mean**2)  # features that vary alike have no doubt
    shape, rate = mean**2 / doubt + 2, mean**3 / doubt + mean  # of the inverse gamma distribution of variances
    located, scaled = shift, np.maximum(variance, np.finfo(float).tiny)
    for _ in range(ROUNDS):
        before = scaled
        located = (n * width * shift + scaled * centre) / (n * width + scaled)
        squares = (n - 1) * variance + n * (shift - located) ** 2
        scaled = (rate + squares / 2) / (shape + n / 2 - 1)
        if (np.abs(scaled - before) <= TOLERANCE * scaled).all():
            return located, scaled
    change = (np.abs(scaled - before) / scaled).max()
    logger.warning(f"ComBat has not settled after {ROUNDS} rounds; the last changed a variance by {change:.1e}.")
    return located, scaled
