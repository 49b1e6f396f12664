"""The figure of a probe after every block."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill

import pandas as pd

from bundle.drawing import GREY, Drawing, save, styled
from bundle.evaluation.figures import TITLE, styles


@styled
def block_curves(path: Path | None, table: pd.DataFrame, note: str = "") -> Drawing:
    """Draw what each block reads: a panel per measure and task, a line per encoder, voxels as a grey line.

    Args:
        path: The PNG to write; None: the figure is only returned.
        table: Table, as `layers.layers_table` returns it.
        note: A line above the figure.
    """
    panels = list(table.groupby(["measure", "task"], sort=False))
    looks = styles(list(dict.fromkeys(table.dropna(subset="block")["method"])))
    figure = Drawing(figsize=(3.6 * len(panels) + 0.4, 4.2))
    for axes, ((measure, task), rows) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for place, (method, look) in enumerate(looks.items()):
            curve = rows[rows["method"] == method].astype({"block": float})
            errors = [curve["value"] - curve["low"], curve["high"] - curve["value"]]
            beside = curve["block"] + 0.06 * (place - (len(looks) - 1) / 2)  # so that intervals do not overlap
            axes.errorbar(beside, curve["value"], errors, label=method.replace("$", r"\$"), capsize=2, **look)
        for value in rows.loc[rows["block"].isna(), "value"]:
            axes.axhline(value, color=GREY, linestyle="--", linewidth=1, label="voxels")
        axes.set_xticks(sorted(set(rows["block"].dropna().astype(int))))
        axes.set(xlabel="block", ylabel=measure)
        axes.set_title(fill(str(task).capitalize(), TITLE), parse_math=False)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(3, len(names)))
    figure.suptitle(fill(note.replace("$", r"\$"), 40 * len(panels)), fontsize="small", color="0.3")
    save(figure, path)
    return figure
