"""The curve that the paper argues with: what people of pretraining are worth, from a comparison of sizes.

    python -m bundle compare --config configs/study_growth.yaml
    python -m benchmarks.growth eval/growth docs/images/phantom_growth.png

draws the ROC-AUC of each task at the largest N, and the error of age, over the number of people that pretrained, and
prints both as a table.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from bundle.drawing import COLOURS, GREY, MARKERS, Drawing, save, styled

PHANTOM = "A phantom: synthetic images, no evidence about patients."
LINES = {"random initialisation": "--", "voxels": ":"}


def sized(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of encoders, whose names are `pretext, number of people`, with both apart."""
    parts = table["method"].str.extract(r"^(?P<pretext>.+), (?P<people>[\d,]+)$")
    people = pd.to_numeric(parts["people"].str.replace(",", ""))
    return table.assign(pretext=parts["pretext"], people=people).dropna(subset="people").sort_values("people")


def panel(axes: Axes, table: pd.DataFrame, value: str, title: str) -> None:
    """Draw one measure over the number of people, and the lines that need no pretraining."""
    curves = sized(table)
    for place, (pretext, rows) in enumerate(curves.groupby("pretext", sort=False)):
        shift = 1 + 0.04 * (place - 1)  # so that intervals do not lie on each other
        spread = [rows[value] - rows["low"], rows["high"] - rows[value]]
        style = {"color": COLOURS[place], "marker": MARKERS[place], "capsize": 3}
        axes.errorbar(rows["people"] * shift, rows[value], yerr=spread, label=str(pretext), **style)
    there = table.set_index("method")
    for name, line in LINES.items():
        if name not in there.index:
            continue
        axes.axhline(there.loc[name, value], color=GREY, linestyle=line, label=name)
    axes.set_xscale("log")
    ticks = sorted(curves["people"].unique())
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.minorticks_off()
    axes.set_title(title)
    axes.set_xlabel("people of pretraining")


def as_table(summary: pd.DataFrame, draws: pd.DataFrame, known: pd.DataFrame) -> str:
    """Markdown: a row per method, a column per task and one of age; mean ± SD over seeds (95 % over people and seeds).

    Args:
        summary: A row per task and method at one N: mean ROC-AUC, and its interval.
        draws: A row per task, method and seed at that N.
        known: A row per method and seed: the error of age.
    """
    spread = draws.groupby(["task", "method"])["auc"].std()
    cells = [
        f"{_pm(row.auc, spread[row.task, row.method], 3)} ({row.low:.2f}–{row.high:.2f})"
        for row in summary.itertuples()
    ]
    table = summary.assign(cell=cells).pivot(index="method", columns="task", values="cell")
    table = table.loc[list(dict.fromkeys(summary["method"])), list(dict.fromkeys(summary["task"]))]
    ages = known.groupby("method")["age_mae"].agg(["mean", "std"]).reindex(table.index)
    return table.assign(**{"age error, years": [_pm(row.mean, row.std, 2) for row in ages.itertuples()]}).to_markdown()


def _pm(mean: float, spread: float, digits: int) -> str:
    """Mean ± standard deviation; the mean alone where one seed has none, and nothing where there is no mean."""
    parts = [f"{value:.{digits}f}" for value in (mean, spread) if pd.notna(value)]
    return " ± ".join(parts)


@styled
def main(folder: str, picture: str) -> None:
    """Draw the curves of a comparison's tables, and print them."""
    summary = pd.read_csv(Path(folder) / "summary.csv")
    summary = summary[summary["n"] == summary["n"].max()]
    draws = pd.read_csv(Path(folder) / "results.csv")
    known = pd.read_csv(Path(folder) / "knowledge.csv")
    of_age = known.groupby("method", sort=False)["age_mae"]
    ages = pd.DataFrame({"age": of_age.mean(), "low": of_age.min(), "high": of_age.max()}).reset_index()
    tasks = list(dict.fromkeys(summary["task"]))
    figure = Drawing(figsize=(3.4 * (len(tasks) + 1), 3.9))
    panels = figure.subplots(1, len(tasks) + 1)
    for axes, task in zip(panels, tasks, strict=False):
        panel(axes, summary[summary["task"] == task], "auc", str(task).capitalize())
    panel(panels[-1], ages, "age", "Age, error in years")
    panels[0].set_ylabel(f"ROC-AUC, N = {summary['n'].max()}")
    figure.suptitle(f"{PHANTOM} Bars: 95 % over people and seeds; of age: smallest and largest seed.", fontsize="small")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    save(figure, Path(picture))
    sys.stdout.write(as_table(summary, draws[draws["n"] == draws["n"].max()], known) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
