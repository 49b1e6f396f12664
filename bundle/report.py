"""Tables and figures of a probe, in the paper's form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bundle.files import replacing

# Okabe & Ito's colours, told apart by colour-blind readers; markers repeat the distinction in print.
STYLES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"), ("#56B4E9", "P"))


def diagnosis_table(summary: pd.DataFrame) -> str:
    """Markdown: a row per task and method, a column per N; ROC-AUC with its 95 % interval.

    Args:
        summary: as `probing.summarize` returns it.
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


def learning_curves(
    path: Path, summary: pd.DataFrame, best_auc: Mapping[str, float] | None = None, note: str = ""
) -> None:
    """Draw ROC-AUC against the number of training subjects, a panel per task, as the paper's figure 3 does.

    Args:
        path: the PNG to write.
        summary: as `probing.summarize` returns it.
        best_auc: task → best achievable ROC-AUC, drawn as a dashed line where it is known.
        note: a line below the figure.
    """
    tasks = list(dict.fromkeys(summary["task"]))
    figure = Figure(figsize=(4.2 * len(tasks) + 0.4, 4.4), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        _curves_of_task(axes, summary[summary["task"] == task], (best_auc or {}).get(task))
        axes.set_title(task.capitalize())
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 3), frameon=False)
    figure.axes[0].set_ylabel("ROC-AUC on test subjects")
    figure.suptitle(note, fontsize="small", color="0.3")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _curves_of_task(axes: Axes, rows: pd.DataFrame, best: float | None) -> None:
    sizes = sorted(set(rows["n"]))
    methods = list(dict.fromkeys(rows["method"]))
    for i, (method, (colour, marker)) in enumerate(zip(methods, STYLES, strict=False)):
        curve = rows[rows["method"] == method].sort_values("n")
        shifted = curve["n"] * (1 + 0.025 * (i - (len(methods) - 1) / 2))  # so that intervals do not overlap
        errors = [curve["auc"] - curve["low"], curve["high"] - curve["auc"]]
        axes.errorbar(shifted, curve["auc"], errors, label=method, color=colour, marker=marker, capsize=2)
    if best is not None:
        axes.axhline(best, color="0.2", linestyle="--", linewidth=1, label="best achievable")
    axes.axhline(0.5, color="0.7", linestyle=":", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.minorticks_off()
    axes.set_xlabel("training subjects N")
    axes.grid(axis="y", color="0.92")
    axes.spines[["top", "right"]].set_visible(False)


def calibration_curves(path: Path, curves: Mapping[str, pd.DataFrame], note: str = "") -> None:
    """Draw how often subjects of similar probability are patients; the diagonal is perfect.

    Args:
        path: the PNG to write.
        curves: name → table of `metrics.reliability`; points grow with the subjects in a bin.
        note: a line above the figure.
    """
    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linestyle=":", linewidth=1)
    for (name, table), (colour, _) in zip(curves.items(), STYLES, strict=False):
        axes.plot(table["predicted"], table["observed"], color=colour, label=name, linewidth=1)
        axes.scatter(table["predicted"], table["observed"], 8 + 200 * table["n"] / table["n"].sum(), color=colour)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted probability of being a patient", ylabel="share of patients")
    axes.set_aspect("equal")
    axes.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize="small")
    figure.suptitle(note, fontsize="small", color="0.3")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
