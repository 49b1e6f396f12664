"""What groups of people, such as sites, say together: means, intervals and tests that go over groups."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t

from bundle.metrics.resampling import Resamples

EXACT = 16  # groups up to which all 2^G patterns of signs are tried
_BLOCK = 1024  # patterns at a time


class GroupMean(NamedTuple):
    """The mean over groups.

    Attributes:
        mean: Mean, each group counting once.
        sd: Standard deviation over groups; NaN of one group.
        low: Lower end of the 95 % interval of Student's t with G − 1 degrees of freedom; NaN of one group.
        high: Upper end.
    """

    mean: float
    sd: float
    low: float
    high: float


def mean_over_groups(values: ArrayLike, limits: tuple[float, float] | None = None) -> GroupMean:
    """Mean over groups with its standard deviation and interval: groups are a sample of all there might be.

    Args:
        values: A value of each group.
        limits: Lowest and highest possible value; None: there is none.

    Shape:
        values (G,).

    Example:
        >>> [round(float(v), 3) for v in mean_over_groups([0.6, 0.7, 0.8])]
        [0.7, 0.1, 0.452, 0.948]
    """
    values = np.asarray(values, dtype=np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return GroupMean(mean, np.nan, np.nan, np.nan)
    sd = float(values.std(ddof=1))
    half = float(student_t.ppf(0.975, len(values) - 1)) * sd / np.sqrt(len(values))
    least, most = limits or (-np.inf, np.inf)
    return GroupMean(mean, sd, max(least, mean - half), min(most, mean + half))


def sign_flip_p(differences: ArrayLike, patterns: int = 20_000, seed: int = 0) -> float:
    """Two-sided p value of a mean difference over groups, by flipping the signs of the groups' differences.

    Were two methods equal, each group's difference might as well have had the other sign. The p value is the share of
    patterns of signs whose mean is at least as far from 0 as the one found. Up to 16 groups all 2^G patterns are
    tried: the p value is exact, and at least 2/2^G. Of more groups, random patterns and the one found are counted.

    Args:
        differences: A difference of each group.
        patterns: Number of random patterns, where there are more than 16 groups.
        seed: Seed of the random patterns.

    Shape:
        differences (G,).

    Raises:
        ValueError: when there is no group, or a difference is not known.

    Source:
        Fisher, The Design of Experiments, 1935, § 21; Phipson & Smyth, Statistical Applications in Genetics and
        Molecular Biology 9 (2010), article 39, for random patterns.

    Example:
        >>> sign_flip_p([0.1, 0.2, 0.3])
        0.25
    """
    differences = np.asarray(differences, dtype=np.float64)
    if not len(differences) or not np.isfinite(differences).all():
        raise ValueError(f"Signs are flipped of at least one difference, each known, but there are {differences}.")
    found = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()  # equal sums may differ in their last digit
    if len(differences) <= EXACT:
        signs = np.array(list(product((1.0, -1.0), repeat=len(differences))))
        return float(np.mean(np.abs(signs @ differences) >= found))
    rng, count = np.random.default_rng(seed), 0
    for first in range(0, patterns, _BLOCK):
        signs = rng.choice((-1.0, 1.0), size=(min(_BLOCK, patterns - first), len(differences)))
        count += int((np.abs(signs @ differences) >= found).sum())
    return (count + 1) / (patterns + 1)


def weighted_resamples(parts: Sequence[Resamples], weights: ArrayLike, seed: int = 0) -> Resamples:
    """Bootstrap resamples of a weighted mean over groups that stay the same: people and draws are resampled in each.

    The parts of the draws are independent from group to group, so that the degrees of freedom of their sum are
    (D − 1) · (Σ w²)² / Σ w⁴, by Welch and Satterthwaite for variances that are alike.

    Args:
        parts: Resamples of each group, all from the same number of resamples and of draws D.
        weights: Weight of each group; divided by their sum.
        seed: Seed of the tails of Student's t.

    Shape:
        weights (G,).
    """
    shares = np.asarray(weights, dtype=np.float64)
    shares = shares / shares.sum()
    subjects, draws = (_combined([getattr(p, name) for p in parts], shares) for name in ("subjects", "draws"))
    alike = (shares**2).sum() ** 2 / (shares**4).sum()
    freedom = int(parts[0].freedom * alike)
    tails = np.ones(len(subjects))
    if freedom:
        tails = np.sqrt(freedom / np.random.default_rng(seed).chisquare(freedom, len(subjects)))
    return Resamples(subjects, draws, tails, freedom)


def _combined(parts: Sequence[NDArray[np.float64]], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    return shares @ np.stack(parts)
