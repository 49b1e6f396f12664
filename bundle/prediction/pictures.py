"""Charts of where a scan stands among others, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from textwrap import fill

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bundle.drawing import BLUE, ORANGE, styled
from bundle.pages.pictures import GREY, Backdrop, Marks, chart

Numbers = tuple[float, ...]
USUAL = 1.96  # z between which 95 % of healthy people lie
FURTHEST = 4.0  # z that a chart shows at least
WIDTH, HEIGHT = 44, 28  # characters that fit along the axes of a chart


@styled
def position(values: ArrayLike, own: float, label: str) -> str:
    """Where a value stands among those of the training subjects; a PNG as a data URI."""
    known = _numbers(values)
    room = own if _is_outside(known, own) else known[0]
    return _among_training(known, label, room).picture(_this_scan(own))


@lru_cache(maxsize=2)
def _among_training(values: Numbers, label: str, own: float) -> Backdrop:
    figure, axes = chart()
    axes.hist(values, bins=30, color=GREY, label="training subjects")
    axes.set(xlabel=label, ylabel="subjects")
    return Backdrop(figure, axes, _this_scan(own))


def _this_scan(own: float) -> Marks:
    return lambda axes: [axes.axvline(own, color=ORANGE, linewidth=2.5, label="this scan")]


@styled
def ages(known: ArrayLike, estimate: float, error: float, own: float) -> str:
    """The age a brain looks like, among those of the healthy training subjects; a PNG as a data URI.

    Args:
        known: Ages of healthy training subjects, years.
        estimate: Age the brain looks like.
        error: Mean absolute error of such estimates.
        own: True age; NaN = unknown.
    """
    healthy, marked = _numbers(known), (float(estimate), float(error), float(own))
    any_age = (healthy[0], 0.0, healthy[0] if np.isfinite(own) else np.nan)
    is_outside = _is_outside(healthy, estimate - error, estimate + error, own)
    return _among_healthy(healthy, marked if is_outside else any_age).picture(_ages_of(marked))


@lru_cache(maxsize=4)
def _among_healthy(known: Numbers, marked: Numbers) -> Backdrop:
    figure, axes = chart()
    axes.hist(known, bins=25, color=GREY, label="healthy training subjects")
    axes.set(xlabel="age, years", ylabel="subjects")
    return Backdrop(figure, axes, _ages_of(marked))


def _ages_of(marked: Numbers) -> Marks:
    estimate, error, own = marked
    return lambda axes: [
        axes.axvspan(estimate - error, estimate + error, color=BLUE, alpha=0.25),
        axes.axvline(estimate, color=BLUE, linewidth=2.5, label="looks like"),
        *([axes.axvline(own, color=ORANGE, linewidth=2.5, linestyle="--", label="is")] if np.isfinite(own) else ()),
    ]


@styled
def reliability(table: pd.DataFrame, own: float, name: str) -> str:
    """How often validation subjects of similar probability were patients; a PNG as a data URI.

    Args:
        table: Table of `metrics.reliability`.
        own: Probability of this scan.
        name: Name of the class.
    """
    backdrop = _validated(_numbers(table["predicted"]), _numbers(table["observed"]), name)
    return backdrop.picture(_this_scan(own))


@lru_cache(maxsize=2)
def _validated(predicted: Numbers, observed: Numbers, name: str) -> Backdrop:
    figure, axes = chart()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    axes.plot(predicted, observed, color=BLUE, marker="o", label="validation subjects")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    # As it is: between two dollar signs of a name there is no formula.
    axes.set_xlabel(fill(f"calibrated probability of {name}", WIDTH), parse_math=False)
    axes.set_ylabel(fill(f"share that was {name}", HEIGHT), parse_math=False)
    return Backdrop(figure, axes, _this_scan(0.5))


@styled
def regional(names: Sequence[str], left: NDArray[np.float64], right: NDArray[np.float64]) -> str:
    """How far the volume of each region is from what is expected; a PNG as a data URI.

    Args:
        names: Names of the regions, from the top.
        left: z on the left side; NaN = unknown.
        right: The same on the right.

    Shape:
        left (regions,), right (regions,).
    """
    furthest = max(FURTHEST, float(np.nanmax(np.abs([left, right]))) + 0.5)
    return _by_region(tuple(names), furthest).picture(_sides(left, right))


@lru_cache(maxsize=2)
def _by_region(names: tuple[str, ...], furthest: float) -> Backdrop:
    figure, axes = chart(6.2, 4.6)
    axes.axvspan(-USUAL, USUAL, color=GREY, alpha=0.3, linewidth=0)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set(xlabel="z: standard deviations of healthy people", xlim=(-furthest, furthest), ylim=(len(names), -1))
    axes.set_yticks(range(len(names)), names)
    axes.grid(axis="y", linewidth=0.3)
    return Backdrop(figure, axes, _sides(np.zeros(len(names)), np.zeros(len(names))))


def _sides(left: NDArray[np.float64], right: NDArray[np.float64]) -> Marks:
    rows = np.arange(len(left))
    return lambda axes: [
        axes.scatter(left, rows - 0.15, marker="<", color=BLUE, label="left", zorder=3),
        axes.scatter(right, rows + 0.15, marker=">", color=ORANGE, label="right", zorder=3),
    ]


def _numbers(values: ArrayLike) -> Numbers:
    return tuple(np.asarray(values, dtype=float).tolist())


def _is_outside(values: Numbers, *marks: float) -> bool:
    """Whether an axis of these values needs more room for marks; NaN needs none."""
    return bool(np.nanmin(marks) < min(values) or np.nanmax(marks) > max(values))
