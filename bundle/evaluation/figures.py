"""Tables and figures of a probe, in the paper's form."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes

from bundle.drawing import COLOURS, GREY, MARKERS, PALE, save, styled
from bundle.drawing import Drawing as Figure
from bundle.metrics.resampling import share_interval

STYLES = tuple(zip(COLOURS, MARKERS, strict=True))
REFERENCE_STYLES = ("--", "-.", ":", (0, (1, 3)), (0, (6, 3)))
LETTER, LEGEND = 0.085, 0.75  # inches: a letter's width, and the height of a legend for which figures have room
TITLE = 34  # characters that fit along a side of a panel
Style = dict[str, Any]


def styles(methods: Sequence[str], references: Collection[str] = ()) -> dict[str, Style]:
    """How each method is drawn: colours and markers, or grey lines for references; beyond six they repeat, dashed."""
    drawn, grey = [m for m in methods if m not in references], [m for m in methods if m in references]
    coloured = {
        method: {"color": STYLES[i % len(STYLES)][0], "marker": STYLES[i % len(STYLES)][1], "linestyle": line}
        for i, method in enumerate(drawn)
        for line in ["-" if i < len(STYLES) else "--"]
    }
    lines = {m: {"color": GREY, "linestyle": s, "linewidth": 1} for m, s in zip(grey, cycle(REFERENCE_STYLES))}
    return coloured | lines


def diagnosis_table(summary: pd.DataFrame) -> str:
    """Markdown: a row per task and method, a column per N; ROC-AUC with its 95 % interval.

    Args:
        summary: Summary, as `probing.summarize` returns it.
    """
    return _by_size(summary, [f"{r.auc:.3f} ({r.low:.2f}–{r.high:.2f})" for r in summary.itertuples()])


def gain_table(summary: pd.DataFrame, reference: str) -> str:
    """Markdown: paired difference in ROC-AUC from the reference method, with its 95 % interval."""
    others = summary[summary["method"] != reference]
    return _by_size(others, [f"{r.gain:+.3f} ({r.gain_low:+.2f} to {r.gain_high:+.2f})" for r in others.itertuples()])


def _by_size(summary: pd.DataFrame, cells: Sequence[str]) -> str:
    table = summary.assign(cell=cells).pivot(index=["task", "method"], columns="n", values="cell")
    order = pd.MultiIndex.from_frame(summary[["task", "method"]].drop_duplicates())
    table = table.reindex(order).rename(columns=lambda n: f"N = {n}").reset_index()
    return table.to_markdown(index=False, disable_numparse=True)


def age_table(ages: pd.DataFrame) -> str:
    """Markdown: mean absolute error of age (years) with its 95 % interval, by method."""
    cells = [f"{r.mae:.2f} ({r.low:.2f}–{r.high:.2f})" for r in ages.itertuples()]
    return pd.DataFrame({"method": ages["method"], "age MAE, years": cells}).to_markdown(
        index=False, disable_numparse=True
    )


def test_table(tests: pd.DataFrame, method: str) -> str:
    """Markdown: one method against each other, difference in ROC-AUC with interval and corrected p value.

    Args:
        tests: Tests, as `probing.paired_tests` returns it.
        method: Method that the others are compared with.
    """
    turned = tests.rename(columns={"method": "other", "other": "method"})
    turned[["difference", "low", "high"]] = -turned[["difference", "high", "low"]].to_numpy()
    both = pd.concat([tests, turned])
    rows = both[both["method"] == method].drop(columns="method").rename(columns={"other": "method"})
    cells = [f"{r.difference:+.3f} ({r.low:+.2f} to {r.high:+.2f}), p = {r.p_holm:.2g}" for r in rows.itertuples()]
    return _by_size(rows, cells)


@styled
def learning_curves(
    path: Path | None,
    summary: pd.DataFrame,
    best_auc: Mapping[str, float] | None = None,
    note: str = "",
    references: Collection[str] = (),
) -> Figure:
    """Draw ROC-AUC against the number of training subjects, a panel per task, as the paper's figure 3 does.

    Args:
        path: The PNG to write; None: the figure is only returned.
        summary: Summary, as `probing.summarize` returns it.
        best_auc: Task → best achievable ROC-AUC, drawn as a dashed line where it is known.
        note: A line below the figure.
        references: Methods drawn as grey lines.
    """
    tasks = list(dict.fromkeys(summary["task"]))
    looks = styles(list(dict.fromkeys(summary["method"])), references)
    figure = Figure(figsize=(4.2 * len(tasks) + 0.4, 4.8))
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        _curves_of_task(axes, summary[summary["task"] == task], (best_auc or {}).get(task), looks)
        axes.set_title(fill(task.capitalize(), TITLE), parse_math=False)
    _legend(figure, [*looks, "best achievable"])
    figure.axes[0].set_ylabel("ROC-AUC on test subjects")
    return _finished(figure, path, note)


def _curves_of_task(axes: Axes, rows: pd.DataFrame, best: float | None, looks: Mapping[str, Style]) -> None:
    sizes = sorted(set(rows["n"]))
    for i, (method, look) in enumerate(looks.items()):
        curve = rows[rows["method"] == method].sort_values("n")
        if "marker" not in look:
            axes.plot(curve["n"], curve["auc"], label=method, **look)
            continue
        shifted = curve["n"] * (1 + 0.02 * (i - (len(looks) - 1) / 2))  # so that intervals do not overlap
        errors = [curve["auc"] - curve["low"], curve["high"] - curve["auc"]]
        axes.errorbar(shifted, curve["auc"], errors, label=method, capsize=2, **look)
    if best is not None:
        axes.axhline(best, color="0.2", linestyle="--", linewidth=1.4, label="best achievable")
    axes.axhline(0.5, color=PALE, linestyle=":", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.minorticks_off()
    axes.set_xlabel("training subjects N")
    axes.grid(axis="y")


@styled
def intervals(path: Path | None, summary: pd.DataFrame, note: str = "") -> Figure:
    """Draw the ROC-AUC of each method with its 95 % interval, one below the other.

    Args:
        path: The PNG to write; None: the figure is only returned.
        summary: Summary, as `probing.summarize` returns it, of one task and one N.
        note: A line above the figure.
    """
    figure = Figure(figsize=(5.6, 1.4 + 0.45 * len(summary)))
    axes, rows = figure.subplots(), range(len(summary))
    colours = [COLOURS[0], *[GREY] * (len(summary) - 1)]
    values = summary[["auc", "low", "high"]].to_numpy(np.float64)
    for row, colour, (auc, low, high) in zip(rows, colours, values, strict=True):
        axes.errorbar(auc, row, xerr=[[auc - low], [high - auc]], color=colour, fmt="o")
        axes.text(1.02, row, f"{auc:.2f} ({low:.2f}–{high:.2f})", color=colour, va="center")
    axes.axvline(0.5, color=PALE, linestyle=":", linewidth=1)
    axes.set_yticks(rows, [fill(str(name).replace("$", r"\$"), 24) for name in summary["method"]])
    axes.set(xlim=(0, 1), ylim=(len(summary) - 0.5, -0.5), xlabel="ROC-AUC on tested participants (95 % interval)")
    return _finished(figure, path, note)


@styled
def calibration_curves(path: Path | None, panels: Mapping[str, Mapping[str, pd.DataFrame]], note: str = "") -> Figure:
    """Draw how often subjects of similar probability are patients; the diagonal is perfect.

    Args:
        path: The PNG to write; None: the figure is only returned.
        panels: Title → method → table of `metrics.reliability`; points grow with the subjects in a bin, and a method
            that is alone has the 95 % intervals of its shares.
        note: A line above the figure.
    """
    looks = styles(list(dict.fromkeys(method for curves in panels.values() for method in curves)))
    figure = Figure(figsize=(4.2 * len(panels) + 0.4, 4.8))
    for axes, (title, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        axes.plot([0, 1], [0, 1], color=PALE, linestyle=":", linewidth=1)
        for method, table in curves.items():
            axes.plot(table["predicted"], table["observed"], label=method, **{**looks[method], "marker": None})
            sizes = 4 + 150 * table["n"] / table["n"].sum()
            axes.scatter(table["predicted"], table["observed"], sizes, color=looks[method]["color"])
            if len(curves) == 1:
                _intervals(axes, table, looks[method]["color"])
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted probability of being a patient")
        axes.set_title(fill(title.capitalize(), TITLE), parse_math=False)
        axes.set_aspect("equal")
    figure.axes[0].set_ylabel("share of patients")
    if len(looks) > 1:
        _legend(figure, list(looks))
    return _finished(figure, path, note)


def _intervals(axes: Axes, table: pd.DataFrame, colour: str) -> None:
    for place, observed, of in table[["predicted", "observed", "n"]].to_numpy(np.float64):
        axes.plot([place, place], share_interval(round(observed * of), int(of)), color=colour, linewidth=1, alpha=0.6)


@styled
def embedding_maps(path: Path | None, maps: Mapping[str, pd.DataFrame], note: str = "") -> Figure:
    """Draw embeddings in a plane, a row per method, coloured by age, by site and by diagnosis.

    Args:
        path: The PNG to write; None: the figure is only returned.
        maps: Title → table with the columns x and y, and of age (years), site and diagnosis those that are known, of
            the same subjects.
        note: A line above the figure.
    """
    columns = [name for name in ("age", "site", "diagnosis") if all(name in table for table in maps.values())]
    figure = Figure(figsize=(4.2 * len(columns), 3.4 * len(maps) + 0.6))
    grid, diagnoses = figure.subplots(len(maps), len(columns), squeeze=False), list[str]()
    for row, (title, table) in zip(grid, maps.items(), strict=True):
        for axes, name in zip(row, columns, strict=True):
            axes.set(xticks=[], yticks=[])
            if name == "age":
                ages = axes.scatter(table["x"], table["y"], 4, c=table["age"])
                figure.colorbar(ages, ax=axes, label="age, years")
            else:
                found = _scatter_groups(axes, table, name, labelled=name == "diagnosis")
                diagnoses += found if name == "diagnosis" else []
        row[0].set_ylabel(fill(title, TITLE), parse_math=False)
    for axes, name in zip(grid[0], columns, strict=True):
        axes.set_title(f"by {name}")
    _legend(figure, list(dict.fromkeys(diagnoses)), markerscale=3)
    return _finished(figure, path, note)


def _scatter_groups(axes: Axes, table: pd.DataFrame, column: str, labelled: bool = False) -> list[str]:
    names = sorted(set(table[column]))
    many = colormaps["viridis"].resampled(len(names))  # no palette has names for more than six
    for i, name in enumerate(names):
        colour = COLOURS[i % len(COLOURS)] if labelled or len(names) <= len(COLOURS) else many(i)
        rows = table[table[column] == name]
        axes.scatter(rows["x"], rows["y"], 4, color=colour, label=name if labelled else None)
    return names


def _legend(figure: Figure, order: Sequence[str], markerscale: float = 1) -> None:
    """One legend for all panels, below them, in as many columns as fit; a figure grows where it is high."""
    found = {
        name: handle for axes in figure.axes for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    handles = {name: found[name] for name in order if name in found}
    for columns in range(min(len(handles), 4), 0, -1):
        legend = figure.legend(
            handles.values(), [_plain(figure, name) for name in handles], loc="outside lower center", ncols=columns,
            markerscale=markerscale,
        )  # fmt: skip
        box = legend.get_window_extent()
        if box.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + max(0.0, box.height / figure.dpi - LEGEND))


def _plain(figure: Figure, name: str, share: float = 0.8) -> str:
    """A name without formulas between its dollar signs, in lines that fit into a share of the figure's width."""
    return fill(name.replace("$", r"\$"), max(10, int(share * figure.get_figwidth() / LETTER)))


def _finished(figure: Figure, path: Path | None, note: str) -> Figure:
    figure.suptitle(_plain(figure, note, 0.95), fontsize="small", color="0.3")
    save(figure, path)
    return figure
