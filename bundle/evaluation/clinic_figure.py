"""Numbers for a clinic in one figure: `clinic.png`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bundle.drawing import BLUE, GREEN, GREY, ORANGE, PALE, SKY, YELLOW, Drawing, save, styled
from bundle.evaluation.clinic_table import number, set_names

LOOKS = {"network": (BLUE, "o"), "calibrated": (ORANGE, "s")}
OF_TEST = "sensitivity, threshold of the test itself"
WIDTH = 40  # characters that fit along a panel


@styled
def clinic_figure(
    path: Path | None,
    content: Mapping[str, Any],
    curves: Mapping[str, pd.DataFrame],
    names: Sequence[str],
    note: str = "",
) -> Drawing:
    """Draw calibration, decision curve, sensitivity at fixed specificity, and prediction sets.

    Args:
        path: The PNG to write; None: the figure is only returned.
        content: Content of `clinic.Clinic`.
        curves: Decision curves of `clinic.Clinic`.
        names: Names of class 0 and class 1.
        note: A line above the figure.
    """
    figure = Drawing(figsize=(9.6, 9.2))
    calibration, decision, fixed, sets = figure.subplots(2, 2).flatten()
    known = [str(name).replace("$", r"\$") for name in names]
    _calibration(calibration, content.get("probabilities", {}))
    _decision(decision, curves, content.get("share_of_patients", 0.0))
    _fixed(fixed, content.get("fixed_specificity"))
    _sets(sets, content.get("conformal"), known)
    figure.suptitle(fill(note.replace("$", r"\$"), 110), fontsize="small", color="0.3")
    save(figure, path)
    return figure


def _calibration(axes: Axes, kinds: Mapping[str, Mapping[str, Any]]) -> None:
    axes.set_title("Can the probabilities be believed?")
    axes.plot([0, 1], [0, 1], color=PALE, linestyle=":", linewidth=1)
    for place, (kind, found) in enumerate(kinds.items()):
        table, (colour, marker) = pd.DataFrame(found["calibration_curve"]), LOOKS[kind]
        errors = [table["observed"] - table["low"], table["high"] - table["observed"]]
        slope = number(found["recalibration"]["slope"], found["recalibration"]["slope_interval"])
        axes.errorbar(
            table["predicted"], table["observed"], np.clip(errors, 0, None), color=colour, marker=marker, capsize=2,
            elinewidth=1, alpha=0.9 if not place else 0.7, label=f"{kind}: slope {slope}",
        )  # fmt: skip
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="predicted probability of being a patient")
    axes.set_ylabel("share of patients")
    _legend(axes)


def _decision(axes: Axes, curves: Mapping[str, pd.DataFrame], share: float) -> None:
    axes.set_title("What do decisions bring?")
    if not curves:
        return _empty(axes)
    every = next(iter(curves.values()))
    axes.axhline(0, color=GREY, linestyle=":", linewidth=1, label="treat nobody")
    axes.plot(every["threshold"], every["treat_all"], color=GREY, linestyle="--", linewidth=1, label="treat all")
    for kind, table in curves.items():
        colour, _ = LOOKS[kind]
        axes.plot(table["threshold"], table["net_benefit"], color=colour, label=kind)
        axes.fill_between(table["threshold"], table["low"], table["high"], color=colour, alpha=0.12, linewidth=0)
    top = max(share, *(table["high"].max() for table in curves.values()))
    axes.set(xlim=(0, 1), ylim=(-0.25 * top, 1.08 * top), xlabel="threshold: probability from which on one would treat")
    axes.set_ylabel(f"net benefit, where {100 * share:.0f} % are patients")
    return _legend(axes)


def _fixed(axes: Axes, rows: Sequence[Mapping[str, Any]] | None) -> None:
    axes.set_title("Sensitivity at a fixed specificity")
    if not rows:
        return _empty(axes)
    looks = (
        ("specificity", GREEN, "o", "specificity reached", 0.0),
        ("sensitivity", BLUE, "s", "sensitivity there", 0.14),
        ("own_sensitivity", SKY, "D", OF_TEST, 0.28),
    )
    for place, row in enumerate(rows):
        axes.plot([place - 0.12, place + 0.12], [row["asked"]] * 2, color="0.2", linewidth=1.4, label="asked for")
        for name, colour, marker, words, shift in looks:
            if name in row:
                low, high = row[f"{name}_interval"]
                errors = [[max(0.0, row[name] - low)], [max(0.0, high - row[name])]]
                filled = colour if name != "own_sensitivity" else "white"
                axes.errorbar(
                    place + shift, row[name], errors, color=colour, marker=marker, capsize=2, linestyle="",
                    markerfacecolor=filled, label=words,
                )  # fmt: skip
    axes.set_xticks(range(len(rows)), [f"{100 * row['asked']:g} %" for row in rows])
    axes.set(xlim=(-0.4, len(rows) - 0.4), ylim=(-0.02, 1.02), xlabel="specificity asked for")
    axes.set_ylabel("share of the participants of a class")
    axes.grid(axis="y")
    return _legend(axes)


def _sets(axes: Axes, found: Mapping[str, Any] | None, names: Sequence[str]) -> None:
    axes.set_title("Who gets which prediction set?")
    if not found:
        return _empty(axes)
    colours = dict(zip(("only_control", "only_patient", "both", "none"), (GREEN, BLUE, YELLOW, PALE), strict=True))
    words = dict(zip(colours, set_names(names), strict=True))
    labels = []
    for place, (name, row) in enumerate(zip(names, found["classes"], strict=True)):
        labels.append(f"{fill(name, 16)}\n({row['n']})")
        if not row["n"]:
            continue
        own, other = ("only_control", "only_patient") if not place else ("only_patient", "only_control")
        start = 0.0
        for kind in (own, "both", "none", other):
            axes.barh(place, row[kind]["share"], 0.5, start, color=colours[kind], label=fill(words[kind], WIDTH))
            start += row[kind]["share"]
        low, high = row["interval"]
        errors = [[max(0.0, row["coverage"] - low)], [max(0.0, high - row["coverage"])]]
        axes.errorbar(
            row["coverage"], place, xerr=errors, color="black", marker="|", capsize=3, label="holds the truth"
        )
    axes.axvline(
        found["level"], color="0.2", linestyle="--", linewidth=1, label=f"asked for: {100 * found['level']:g} %"
    )
    axes.set_yticks(range(len(names)), labels)
    axes.set(xlim=(0, 1), ylim=(1.6, -0.6), xlabel="share of the participants of a class")
    return _legend(axes)


def _empty(axes: Axes) -> None:
    axes.text(0.5, 0.5, "left out: clinic.md says why", ha="center", va="center", color=GREY)
    axes.set_axis_off()


def _legend(axes: Axes) -> None:
    """A legend below a panel, with each name once."""
    known = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    if known:
        axes.legend(
            known.values(), known.keys(), loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize="small"
        )
