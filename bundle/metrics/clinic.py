"""What a clinic asks of probabilities: whether they are right, here and at each site, and what decisions bring."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from bundle.metrics.classification import bin_of, log_odds, reliability
from bundle.metrics.resampling import bootstrap_mean, interval, share_interval

Array = NDArray[np.float64]
BINS = 10  # of equal width, of calibration curves and of the parts of the Brier score
LEAST_OF_SITE = 20  # people, below whom a site is pooled with others
SEVERAL, OTHERS, UNKNOWN = "several sites", "other sites", "site unknown"
STEPS, CLOSE = 100, 1e-9  # of a maximum-likelihood fit, and the log odds that its last step may move


def brier_parts(labels: ArrayLike, probabilities: ArrayLike, bins: int = BINS) -> dict[str, float]:
    """The Brier score, and the parts that add up to it.

    brier = reliability − resolution + uncertainty + within_bins

    Probabilities are put into bins of equal width. `reliability` is the mean squared distance of a bin's probability
    from its share of patients (0 is best), `resolution` that of this share from the share of all (more is better), and
    `uncertainty` the Brier score of saying the share of all to everybody. `within_bins` is what Murphy's three parts
    miss because probabilities within a bin differ. `scaled` is 1 − brier / uncertainty; NaN where there is one class.

    Args:
        labels: 0 control, 1 patient.
        probabilities: Probabilities of being a patient.
        bins: Number of bins.

    Shape:
        labels (N,), probabilities (N,).

    Source:
        Brier, Monthly Weather Review 78 (1950); Murphy, Journal of Applied Meteorology 12 (1973), 595–600; Stephenson,
        Coelho & Jolliffe, Weather and Forecasting 23 (2008), 752–757 (within bins).

    Example:
        >>> parts = brier_parts([0, 1, 1, 0], [0.2, 0.8, 0.8, 0.8])
        >>> {name: round(value, 3) for name, value in parts.items() if name != "scaled"}
        {'brier': 0.19, 'reliability': 0.023, 'resolution': 0.083, 'uncertainty': 0.25, 'within_bins': 0.0}
    """
    truth, found = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    score, share = float(np.mean((found - truth) ** 2)), float(truth.mean())
    table = reliability(truth, found, bins)
    apart, spread = (table["predicted"] - table["observed"]) ** 2, (table["observed"] - share) ** 2
    scans = pd.DataFrame({"found": found, "truth": truth})
    centred = scans - scans.groupby(bin_of(found, bins)).transform("mean")
    within = centred["found"] ** 2 - 2 * centred["found"] * centred["truth"]
    return {
        "brier": score,
        "reliability": float(np.average(apart, weights=table["n"])),
        "resolution": float(np.average(spread, weights=table["n"])),
        "uncertainty": share * (1 - share),
        "within_bins": float(within.mean()),
        "scaled": 1 - score / (share * (1 - share)) if 0 < share < 1 else float("nan"),
    }


def resampled_people(people: int, resamples: int = 1000, seed: int = 0) -> Array:
    """How often each person is in each bootstrap resample; people are drawn whatever their class.

    Shape:
        output (resamples, people).
    """
    return np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), resamples).astype(np.float64)


def recalibration(labels: ArrayLike, probabilities: ArrayLike, counts: ArrayLike | None = None) -> Array:
    """Slope and intercept that make log odds fit the labels best, and the intercept of a slope of 1.

    log odds of being a patient = intercept + slope · log odds of the probability, by maximum likelihood. Right
    probabilities have slope 1 and intercepts 0; a slope below 1 is over-confidence. The third number, calibration in
    the large, is above 0 where patients are more frequent than the probabilities say.

    Args:
        labels: 0 control, 1 patient.
        probabilities: Probabilities of being a patient; certainty is taken as log odds of ±13.8.
        counts: Counts of each person, such as `resampled_people`; None: everybody once.

    Shape:
        labels (N,), probabilities (N,), counts (R, N); output (R, 3): slope, intercept, in the large. NaN where there
        is no such number: the probabilities of the classes do not overlap, or a class is missing.

    Source:
        Cox, Biometrika 45 (1958), 562–565; Van Calster et al., BMC Medicine 17 (2019), 230.

    Example:
        >>> recalibration([0, 1, 0, 1], [0.2, 0.2, 0.8, 0.8]).round(6).tolist()
        [[0.0, 0.0, 0.0]]
    """
    truth, scores = np.asarray(labels, dtype=np.float64), log_odds(probabilities)
    weights = np.ones((1, len(truth))) if counts is None else np.asarray(counts, dtype=np.float64)
    found = np.full((len(weights), 3), np.nan)
    overlap, both = _overlap(truth, scores, weights)
    middle, scale = scores.mean(), scores.std() or 1.0
    design = np.stack([(scores - middle) / scale, np.ones(len(truth))], axis=1)
    fitted = _most_likely(design, truth, np.zeros(len(truth)), weights[overlap])
    found[overlap, 0] = fitted[:, 0] / scale
    found[overlap, 1] = fitted[:, 1] - fitted[:, 0] * middle / scale
    found[both, 2] = _most_likely(np.ones((len(truth), 1)), truth, scores, weights[both])[:, 0]
    return found


def _overlap(truth: Array, scores: Array, weights: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """In which resamples the scores of the classes overlap, without which no slope is finite; and both are there."""
    ends = []
    for label in (0, 1):
        there = (weights > 0) & (truth == label)
        ends.append((np.where(there, scores, np.inf).min(1), np.where(there, scores, -np.inf).max(1)))
    (low_0, high_0), (low_1, high_1) = ends
    return (low_1 < high_0) & (low_0 < high_1), np.isfinite(low_0) & np.isfinite(low_1)


def _most_likely(design: Array, truth: Array, offset: Array, weights: Array) -> Array:
    """Coefficients (R, K) of logistic regressions with weights (R, N), by Newton's steps; NaN where they do not settle.

    A step that would move log odds by d is multiplied by log(1 + d) / d, with which each step ascends.

    Source:
        Sun & Tran-Dinh, Mathematical Programming 178 (2019), 145–213.
    """
    found, moved = np.zeros((len(weights), design.shape[1])), np.zeros(len(weights))
    squares = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    for _ in range(STEPS):
        likely = expit(offset + found @ design.T)
        gradient = (weights * (truth - likely)) @ design
        curvature = ((weights * likely * (1 - likely)) @ squares).reshape(*found.shape, found.shape[1])
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        moved = np.abs(step @ design.T).max(axis=1)
        found += step * np.where(moved > 0, np.log1p(moved) / np.where(moved > 0, moved, 1), 1)[:, None]
        if (moved < CLOSE).all():
            break
    found[moved >= CLOSE] = np.nan
    return found


def by_site(
    labels: ArrayLike, probabilities: ArrayLike, sites: Sequence[str], least: int = LEAST_OF_SITE, seed: int = 0
) -> pd.DataFrame:
    """Observed and expected share of patients at each site.

    Args:
        labels: 0 control, 1 patient.
        probabilities: Probabilities of being a patient.
        sites: Site of each person; empty where it is unknown.
        least: Number of people below which sites are pooled, as `other sites (how many)`.
        seed: Seed of the resampling.

    Shape:
        labels (N,), probabilities (N,), sites (N,); columns site, n, patients, observed, expected, difference (observed
        − expected), low, high (its 95 % bootstrap interval; NaN for fewer than `least` people), ratio (observed /
        expected).
    """
    table = pd.DataFrame({"label": np.asarray(labels), "probability": np.asarray(probabilities, dtype=np.float64)})
    names = pd.Series(list(sites), dtype=object).replace("", UNKNOWN)
    sizes = names.map(names.value_counts())
    small = sorted(set(names[sizes < least]) - {UNKNOWN, SEVERAL})
    if len(small) > 1:
        names = names.where(~names.isin(small), f"{OTHERS} ({len(small)})")
    rows = [_of_site(str(name), people, least, seed) for name, people in sorted(table.groupby(names), key=_pooled_last)]
    return pd.DataFrame(rows)


def _pooled_last(group: tuple[object, pd.DataFrame]) -> tuple[bool, str]:
    name = str(group[0])
    return name.startswith((OTHERS, SEVERAL, UNKNOWN)), name


def _of_site(name: str, people: pd.DataFrame, least: int, seed: int) -> dict[str, float | str | int]:
    observed, expected = float(people["label"].mean()), float(people["probability"].mean())
    limits = (float("nan"), float("nan"))
    if len(people) >= least:
        limits = interval(bootstrap_mean(people["label"] - people["probability"], seed=seed))
    return {
        "site": name,
        "n": len(people),
        "patients": int(people["label"].sum()),
        "observed": observed,
        "expected": expected,
        "difference": observed - expected,
        "low": limits[0],
        "high": limits[1],
        "ratio": observed / expected if expected else float("nan"),
    }


def decision_curve(
    labels: ArrayLike, probabilities: ArrayLike, thresholds: ArrayLike, counts: ArrayLike | None = None
) -> pd.DataFrame:
    """What treating from a threshold on brings, in true positives a person.

    net benefit = TP / N − FP / N · t / (1 − t), with t the probability from which on one would treat: whoever treats
    from t on takes a needless treatment as t / (1 − t) times as bad as a missed patient. Treating nobody brings 0. It
    holds for the share of patients among these people.

    Args:
        labels: 0 control, 1 patient.
        probabilities: Probabilities of being a patient.
        thresholds: Thresholds t, below 1.
        counts: Counts of each person in resamples, for intervals; see `resampled_people`.

    Shape:
        labels (N,), probabilities (N,), thresholds (T,), counts (R, N); columns threshold, net_benefit, low, high (95 %
        interval; NaN without counts), treat_all.

    Source:
        Vickers & Elkin, Medical Decision Making 26 (2006), 565–574.

    Example:
        >>> decision_curve([0, 1], [0.3, 0.6], [0.25, 0.5])[["net_benefit", "treat_all"]].round(3).values.tolist()
        [[0.333, 0.333], [0.5, 0.0]]
    """
    truth, cuts = np.asarray(labels, dtype=np.float64), np.asarray(thresholds, dtype=np.float64)
    worth = truth[:, None] - (1 - truth[:, None]) * cuts / (1 - cuts)
    treated = worth * (np.asarray(probabilities, dtype=np.float64)[:, None] >= cuts)
    limits = np.full((2, len(cuts)), np.nan)
    if counts is not None:
        limits = np.quantile(np.asarray(counts) @ treated / len(truth), [0.025, 0.975], axis=0)
    columns = {"net_benefit": treated.mean(0), "low": limits[0], "high": limits[1], "treat_all": worth.mean(0)}
    return pd.DataFrame({"threshold": cuts, **columns})


def calibration_curve(labels: ArrayLike, probabilities: ArrayLike, bins: int = BINS) -> pd.DataFrame:
    """The table of `reliability`, with Wilson's 95 % intervals (`low`, `high`) of the shares of patients.

    Shape:
        labels (N,) in {0, 1}, probabilities (N,).
    """
    table = reliability(labels, probabilities, bins)
    limits = [share_interval(round(share * of), int(of)) for share, of in table[["observed", "n"]].to_numpy()]
    return table.assign(low=[low for low, _ in limits], high=[high for _, high in limits])
