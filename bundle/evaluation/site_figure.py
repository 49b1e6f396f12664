"""The figure of a comparison over sites: a dot for each group of sites, and the mean with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bundle.drawing import BLUE, GREY, PALE, save, styled
from bundle.drawing import Drawing as Figure
from bundle.evaluation.plan import REFERENCES

AGE = "age"
LARGEST = 60  # points², of the dot of the largest group
ROW, ABOVE, WIDTH, NAMES = 0.42, 1.5, 3.6, 2.6  # inches
HALF = 0.28  # of a row, over which dots are spread


@styled
def draw_sites(
    path: Path | None, sites: pd.DataFrame, knowledge: pd.DataFrame, summary: pd.DataFrame, note: str = ""
) -> Figure:
    """Draw each group's ROC-AUC and error of age as a dot, and the mean over groups with its 95 % interval.

    Args:
        path: The PNG to write; None: the figure is only returned.
        sites: Rows of `site_results.site_aucs`; a dot's area is the group's number of people.
        knowledge: Errors of age per method, group and seed.
        summary: Rows of `site_results.summarized`.
        note: A line above the figure.
    """
    methods = list(dict.fromkeys(summary["method"]))
    tasks = list(dict.fromkeys(summary["task"]))
    figure = Figure(figsize=(NAMES + WIDTH * len(tasks), ABOVE + ROW * len(methods)))
    panels = figure.subplots(1, len(tasks), squeeze=False, sharey=True)[0]
    sizes = sites.groupby("group", sort=False)["n"].max()
    for axes, task in zip(panels, tasks, strict=True):
        table = knowledge.assign(value=knowledge["age_mae"]) if task == AGE else sites.assign(value=sites["auc"])
        shown = table if task == AGE else table[table["task"] == task]
        values = shown.dropna(subset="value").groupby(["method", "group"], sort=False)["value"].mean()
        _panel(axes, values, summary[summary["task"] == task].set_index("method"), methods, sizes)
        if task != AGE:
            axes.axvline(0.5, color=PALE, linestyle=":", linewidth=1)
        axes.set_title("Age" if task == AGE else fill(str(task).capitalize(), 34), parse_math=False)
        axes.set_xlabel("error at held-out sites, years" if task == AGE else "ROC-AUC at held-out sites")
    panels[0].set_yticks(range(len(methods)), [fill(name.replace("$", r"\$"), 30) for name in methods])
    panels[0].set_ylim(len(methods) - 0.5, -0.5)
    about = "Dots: held-out groups, by number of people. Bars: mean with 95 % interval over groups."
    figure.suptitle(fill(f"{about} {note}".strip(), int(12 * figure.get_figwidth())), fontsize="small", color="0.3")
    save(figure, path)
    return figure


def _panel(axes: Axes, values: pd.Series, summary: pd.DataFrame, methods: Sequence[str], sizes: pd.Series) -> None:
    for row, method in enumerate(methods):
        if method not in summary.index:
            continue
        colour = GREY if method in REFERENCES else BLUE
        of_groups = values[method]
        places = row + np.linspace(-HALF, HALF, len(of_groups)) if len(of_groups) > 1 else [row]
        areas = LARGEST * sizes.reindex(of_groups.index).fillna(sizes.min()) / sizes.max()
        axes.scatter(of_groups, places, areas, color=colour, alpha=0.35, linewidths=0)
        mean, low, high = summary.loc[method, ["mean", "low", "high"]].to_numpy(np.float64)
        errors = None if np.isnan(low) else [[mean - low], [high - mean]]
        axes.errorbar(mean, row, xerr=errors, color=colour, fmt="D", markersize=5, capsize=3, linewidth=1.6)
    axes.grid(axis="x")
