"""Curves of a run: what training and validation measured, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bundle.drawing import BLUE, GREEN, GREY, ORANGE, PALE, Drawing, End, label_ends, save, styled

PANELS = {  # ending of the names of metrics: title of the panel, and its unit
    "_loss": ("Loss", "loss"),
    "_auc": ("Patients told from controls", "ROC-AUC"),
    "_age_mae": ("Age read from the embedding", "mean absolute error, years"),
    "_site_accuracy": ("Site read from the embedding", "balanced accuracy"),
    "_effective_rank": ("Dimensions that the embedding uses", "effective rank"),
}
PARTS = {"train": ("training", BLUE), "val": ("validation", ORANGE)}
SECOND = ("second modality", GREEN)  # of the validation
BEST = {"val_auc": "idxmax", "val_loss": "idxmin"}  # by which the weights are kept


@styled
def draw_curves(history: pd.DataFrame, levels: Mapping[str, float], path: Path | None = None) -> Drawing:
    """Draw the loss and what the validation measured, a panel for each quantity.

    Args:
        history: A row per epoch, as of `History.table`; values that were not measured are NaN.
        levels: Name of a metric → its value by chance.
        path: The PNG to write; None: the figure is only returned.

    Raises:
        ValueError: when nothing was measured that is drawn.
    """
    found = {end: [n for n in history if str(n).endswith(end) and history[n].notna().any()] for end in PANELS}
    panels = {end: [str(name) for name in names] for end, names in found.items() if names}
    if not panels:
        raise ValueError("Nothing can be drawn: no epoch has a loss or a validation; train for an epoch first.")
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Drawing(figsize=(4.7 * columns, 3.1 * rows))
    every = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (end, names) in zip(every, panels.items(), strict=False):
        _panel(axes, history, names, levels)
        title, unit = PANELS[end]
        axes.set(title=title, ylabel=unit, xlabel="epoch")
    for axes in every[len(panels) :]:
        axes.set_axis_off()
    save(figure, path)
    return figure


def _panel(axes: Axes, history: pd.DataFrame, names: list[str], levels: Mapping[str, float]) -> None:
    ends = []
    for name in names:
        label, colour = SECOND if "_second_" in name else PARTS[name.split("_")[0]]
        curve = history.loc[history[name].notna(), ["epoch", name]]
        axes.plot(curve["epoch"], curve[name], color=colour, marker="o" if len(curve) < 30 else "", markersize=3)
        ends.append(End(curve["epoch"].iloc[-1], curve[name].iloc[-1], label, colour))
        if (level := 0.5 if name.endswith("_auc") else levels.get(name)) is not None:
            axes.axhline(level, color=PALE if name.endswith("_auc") else colour, linestyle=":", linewidth=1.2)
            ends.append(End(1, level, _in_words(name, level), GREY if name.endswith("_auc") else colour))
    if best := next((name for name in BEST if name in names and _is_kept_by(name, history)), None):
        row = history.loc[getattr(history[best], BEST[best])()]
        axes.plot(row["epoch"], row[best], "o", markersize=10, markerfacecolor="none", color=GREY)
        axes.annotate("kept", (row["epoch"], row[best]), (0, 9), textcoords="offset points", color=GREY, ha="center")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(y=0.12)
    label_ends(axes, list(dict.fromkeys(ends)))


def _is_kept_by(name: str, history: pd.DataFrame) -> bool:
    """Whether the best weights are those of the best value of this metric: ROC-AUC where there is one, else loss."""
    return name == next(metric for metric in BEST if metric in history)


def _in_words(name: str, level: float) -> str:
    return "chance" if name.endswith("_auc") else f"{PARTS[name.split('_')[0]][0]} by chance: {level:.2f}"
