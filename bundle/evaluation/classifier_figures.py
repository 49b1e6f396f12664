"""Figures of what is told of single subjects: ROC curves, confusion matrices, and predicted against true ages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bundle.drawing import BLUE, COLOURS, GREY, PALE, Drawing, save, styled
from bundle.metrics.classification import roc_auc
from bundle.metrics.resampling import SHARE, bootstrap_auc, interval, roc_band, share_interval

WIDTH = 44  # characters that fit along a panel


class Roc(NamedTuple):
    """A ROC curve with intervals.

    Attributes:
        band: Band of `metrics.roc_band`.
        auc: The area under the curve.
        low: Low of its 95 % interval over subjects and draws.
        high: The same.
    """

    band: pd.DataFrame
    auc: float
    low: float
    high: float

    @classmethod
    def of(cls, labels: ArrayLike, scores: ArrayLike) -> Roc:
        """The curve of scores.

        Args:
            labels: 0 control, 1 patient.
            scores: Scores of each subject, or of each draw and subject.

        Shape:
            labels (N,), scores (N,) or (D, N).

        Raises:
            ValueError: when a class is missing.
        """
        low, high = interval(bootstrap_auc(labels, scores).samples, limits=SHARE)
        return cls(roc_band(labels, scores), float(np.mean(roc_auc(labels, scores))), low, high)


class Point(NamedTuple):
    """A place on a ROC curve.

    Attributes:
        false_positive_rate: 1 − specificity.
        sensitivity: Share of patients that are called so.
        text: What it is.
    """

    false_positive_rate: float
    sensitivity: float
    text: str


@styled
def roc_curves(path: Path | None, curves: Mapping[str, Roc], note: str = "", point: Point | None = None) -> Drawing:
    """Draw sensitivity against the share of controls that are called patients; the diagonal is chance.

    Args:
        path: The PNG to write; None: the figure is only returned.
        curves: Name → curve; the band is the 95 % interval of the first one.
        note: A line above the figure.
        point: Point where somebody is called a patient.
    """
    figure = Drawing(figsize=(4.8, 5.0 + 0.3 * len(curves)))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=PALE, linestyle=":", linewidth=1)
    for place, (name, roc) in enumerate(curves.items()):
        colour, rates = COLOURS[place % len(COLOURS)], roc.band["false_positive_rate"]
        if not place:
            axes.fill_between(rates, roc.band["low"], roc.band["high"], color=colour, alpha=0.15, linewidth=0)
        label = fill(f"{name}: {roc.auc:.2f} ({roc.low:.2f}–{roc.high:.2f})".replace("$", r"\$"), WIDTH)
        axes.plot([0, *rates], [0, *roc.band["sensitivity"]], color=colour, label=label)
    if point is not None:
        axes.plot(point.false_positive_rate, point.sensitivity, "o", color="black", label=point.text, linestyle="")
    axes.set(xlim=(-0.01, 1), ylim=(0, 1.01), xlabel="1 − specificity: share of controls called patients")
    axes.set_ylabel("sensitivity: share of patients called so")
    axes.set_aspect("equal")
    figure.legend(loc="outside lower center", title="ROC-AUC (95 % interval)", title_fontsize="small")
    return _finished(figure, path, note)


@styled
def confusion_matrix(path: Path | None, counts: NDArray, names: Sequence[str], note: str = "") -> Drawing:
    """Draw how many of each class were called what, with sensitivity and specificity and their 95 % intervals.

    Args:
        path: The PNG to write; None: the figure is only returned.
        counts: Counts of participants: rows are the truth, columns what was called.
        names: Names of class 0 and class 1.
        note: A line above the figure.

    Shape:
        counts (2, 2).
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Drawing(figsize=(5.2, 4.4))
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.4)  # so that black is read on the darkest
    for (row, column), count in np.ndenumerate(counts):
        text = f"{count}\n{100 * shares[row, column]:.0f} %" if counts[row].sum() else "nobody"
        axes.text(column, row, text, ha="center", va="center", fontsize=13)
    known = [fill(str(name).replace("$", r"\$"), 18) for name in names]
    axes.set_xticks([0, 1], known)
    axes.set_yticks([0, 1], [f"{name}\n{_share(rate, *counts[r, [r, 1 - r]])}" for r, (name, rate) in _rows(known)])
    axes.set(xlabel="called", ylabel="is")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return _finished(figure, path, note)


def _rows(names: Sequence[str]) -> list[tuple[int, tuple[str, str]]]:
    return list(enumerate(zip(names, ("specificity", "sensitivity"), strict=True)))


def _share(name: str, right: int, wrong: int) -> str:
    """A share of subjects with Wilson's 95 % interval."""
    if not right + wrong:
        return f"{name} unknown"
    low, high = share_interval(int(right), int(right + wrong))
    return f"{name}\n{right / (right + wrong):.2f} ({low:.2f}–{high:.2f})"


@styled
def predicted_ages(path: Path | None, panels: Mapping[str, pd.DataFrame], note: str = "") -> Drawing:
    """Draw predicted against true ages of subjects that no prediction was fitted to; on the diagonal they are equal.

    Args:
        path: The PNG to write; None: the figure is only returned.
        panels: Method → table with the columns age and predicted, years.
        note: A line above the figure.
    """
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Drawing(figsize=(3.6 * columns + 0.6, 3.7 * rows + 0.3))
    every = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flatten()
    limits = _limits(panels)
    for axes, (method, table) in zip(every, panels.items(), strict=False):
        axes.plot(limits, limits, color=GREY, linestyle=":", linewidth=1)
        axes.scatter(table["age"], table["predicted"].clip(*limits), 12, color=BLUE, alpha=0.6, linewidth=0)
        error, r = (table["predicted"] - table["age"]).abs().mean(), table["predicted"].corr(table["age"])
        said = f"mean absolute error {error:.1f} years" + ("" if np.isnan(r) else f", r = {r:.2f}")
        axes.set_title(f"{fill(method, 34)}\n{said}".replace("$", r"\$"), fontsize="medium")
        axes.set(xlim=limits, ylim=limits, aspect="equal")
        axes.tick_params(labelbottom=True, labelleft=True)
    for axes in every[len(panels) :]:
        axes.set_axis_off()
    figure.supxlabel("age, years", fontsize="medium")
    figure.supylabel("predicted age, years", fontsize="medium")
    return _finished(figure, path, note)


def _limits(panels: Mapping[str, pd.DataFrame]) -> tuple[float, float]:
    """Ages that all panels show: the true ones and half of their range beyond; what lies further is at the edge."""
    ages = pd.concat([table["age"] for table in panels.values()])
    beyond = 0.5 * (ages.max() - ages.min()) + 1
    values = pd.concat([ages, *(table["predicted"] for table in panels.values())])
    return max(values.min(), ages.min() - beyond) - 1, min(values.max(), ages.max() + beyond) + 1


def _finished(figure: Drawing, path: Path | None, note: str) -> Drawing:
    said = fill(note.replace("$", r"\$"), int(figure.get_figwidth() / 0.085))
    figure.suptitle(said, fontsize="small", color="0.3")
    save(figure, path)
    return figure
