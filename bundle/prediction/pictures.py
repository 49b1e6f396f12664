"""Charts of where a scan stands among others, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bundle.drawing import BLUE, ORANGE, styled
from bundle.pages.pictures import GREY, chart, finished

USUAL = 1.96  # z between which 95 % of healthy people lie
FURTHEST = 4.0  # z that a chart shows at least
WIDTH, HEIGHT = 44, 28  # characters that fit along the axes of a chart


@styled
def position(values: ArrayLike, own: float, label: str) -> str:
    """Where a value stands among those of the training subjects; a PNG as a data URI."""
    figure, axes = chart()
    axes.hist(np.asarray(values), bins=30, color=GREY, label="training subjects")
    axes.axvline(own, color=ORANGE, linewidth=2.5, label="this scan")
    axes.set(xlabel=label, ylabel="subjects")
    return finished(figure)


@styled
def ages(known: ArrayLike, estimate: float, error: float, own: float) -> str:
    """The age a brain looks like, among those of the healthy training subjects; a PNG as a data URI.

    Args:
        known: Ages of healthy training subjects, years.
        estimate: Age the brain looks like.
        error: Mean absolute error of such estimates.
        own: True age; NaN = unknown.
    """
    figure, axes = chart()
    axes.hist(np.asarray(known), bins=25, color=GREY, label="healthy training subjects")
    axes.axvspan(estimate - error, estimate + error, color=BLUE, alpha=0.25)
    axes.axvline(estimate, color=BLUE, linewidth=2.5, label="looks like")
    if np.isfinite(own):
        axes.axvline(own, color=ORANGE, linewidth=2.5, linestyle="--", label="is")
    axes.set(xlabel="age, years", ylabel="subjects")
    return finished(figure)


@styled
def reliability(table: pd.DataFrame, own: float, name: str) -> str:
    """How often validation subjects of similar probability were patients; a PNG as a data URI.

    Args:
        table: Table of `metrics.reliability`.
        own: Probability of this scan.
        name: Name of the class.
    """
    figure, axes = chart()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    axes.plot(table["predicted"], table["observed"], color=BLUE, marker="o", label="validation subjects")
    axes.axvline(own, color=ORANGE, linewidth=2.5, label="this scan")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    # As it is: between two dollar signs of a name there is no formula.
    axes.set_xlabel(fill(f"calibrated probability of {name}", WIDTH), parse_math=False)
    axes.set_ylabel(fill(f"share that was {name}", HEIGHT), parse_math=False)
    return finished(figure)


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
    (figure, axes), rows = chart(6.2, 4.6), np.arange(len(names))
    axes.axvspan(-USUAL, USUAL, color=GREY, alpha=0.3, linewidth=0)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.scatter(left, rows - 0.15, marker="<", color=BLUE, label="left", zorder=3)
    axes.scatter(right, rows + 0.15, marker=">", color=ORANGE, label="right", zorder=3)
    furthest = max(FURTHEST, float(np.nanmax(np.abs([left, right]))) + 0.5)
    axes.set(xlabel="z: standard deviations of healthy people", xlim=(-furthest, furthest), ylim=(len(names), -1))
    axes.set_yticks(rows, names)
    axes.grid(axis="y", linewidth=0.3)
    return finished(figure)
