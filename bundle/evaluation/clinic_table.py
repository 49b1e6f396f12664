"""Numbers for a clinic as Markdown: `clinic.md`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bundle.metrics.answers import SETS
from bundle.metrics.classification import NOBODY

NOTHING = "–"
_RECALIBRATED = {
    "slope": "calibration slope (1 is right; below 1: too sure)",
    "intercept": "calibration intercept (0 is right)",
    "in_the_large": "calibration in the large (0 is right; above 0: more patients than predicted)",
}
_PARTS = {
    "reliability": "· reliability (0 is best)",
    "resolution": "· resolution (more is better)",
    "uncertainty": "· uncertainty (of the share of patients)",
    "within_bins": "· within bins",
    "scaled": "scaled Brier score (1 is perfect, 0 is no better than the share of patients)",
}


def clinic_table(content: Mapping[str, Any], names: Sequence[str], note: str = "") -> str:
    """Numbers for a clinic as tables.

    Args:
        content: Content of `clinic.Clinic`.
        names: Names of class 0 and class 1.
        note: A line above all.
    """
    parts, kinds = ["# Numbers for a clinic", note], content.get("probabilities", {})
    if kinds:
        parts += ["## Can the probabilities be believed?", _probabilities(kinds)]
        parts += _sites(kinds) + _decisions(kinds, content["share_of_patients"])
    if content.get("fixed_specificity"):
        parts += ["## Sensitivity at a fixed specificity", _FIXED, _fixed(content["fixed_specificity"])]
    if content.get("conformal"):
        parts += ["## Prediction sets", *_conformal(content["conformal"], names)]
    if content["left_out"]:
        parts += ["## Left out", "\n".join(f"- {reason}" for reason in content["left_out"])]
    return "\n\n".join(filter(None, parts)) + "\n"


def number(value: float | None, limits: Sequence[float] | None = None, digits: int = 2) -> str:
    """A number with its interval, as text; a dash where it is not known.

    Example:
        >>> number(0.5, (0.4, 0.61)), number(None), number(-0.123, (-0.2, 0.1))
        ('0.50 (0.40–0.61)', '–', '-0.12 (-0.20 to 0.10)')
    """
    if value is None or math.isnan(value):
        return NOTHING
    if limits is None or any(math.isnan(limit) for limit in limits):
        return f"{value:.{digits}f}"
    low, high = (f"{limit:.{digits}f}" for limit in limits)
    return f"{value:.{digits}f} ({low}{' to ' if low.startswith('-') else '–'}{high})"


def _markdown(rows: Iterable[Mapping[str, str]]) -> str:
    return pd.DataFrame(list(rows)).to_markdown(index=False, disable_numparse=True)


def _probabilities(kinds: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        {"": "Brier score (0 is perfect)"} | {k: _interval(v["brier"], "brier", "interval") for k, v in kinds.items()}
    ]
    for name, words in _PARTS.items():
        rows.append({"": words} | {kind: number(found["brier"][name], digits=3) for kind, found in kinds.items()})
    for name, words in _RECALIBRATED.items():
        of = {kind: _interval(found["recalibration"], name, f"{name}_interval", 2) for kind, found in kinds.items()}
        rows.append({"": words} | of)
    return _markdown(rows)


def _interval(found: Mapping[str, Any], name: str, limits: str, digits: int = 3) -> str:
    return number(found.get(name), found.get(limits), digits)


def _sites(kinds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A row per site and kind of probabilities."""
    rows = [
        {
            "site": row["site"],
            "n": str(row["n"]),
            "probabilities": kind,
            "patients observed": f"{row['observed']:.2f}",
            "expected": f"{row['expected']:.2f}",
            "difference": number(row["difference"], (row["low"], row["high"])),
            "ratio": number(row["ratio"]),
        }
        for kind, found in kinds.items()
        for row in found.get("sites", ())
    ]
    return ["## Calibration at each site", _markdown(rows)] if rows else []


def _decisions(kinds: Mapping[str, Mapping[str, Any]], share: float) -> list[str]:
    curves = {kind: found["decision_curve"] for kind, found in kinds.items() if found.get("decision_curve")}
    if not curves:
        return []
    rows = []
    for place, row in enumerate(next(iter(curves.values()))):
        of = {
            kind: number(c[place]["net_benefit"], (c[place]["low"], c[place]["high"]), 3) for kind, c in curves.items()
        }
        rows.append({"threshold": f"{row['threshold']:.2f}", **of, "treat all": f"{row['treat_all']:.3f}"})
    words = (
        f"Net benefit, in true positives a person, where {100 * share:.0f} % are patients; treating nobody brings 0."
    )
    return ["## Net benefit of treating from a probability on", words, _markdown(rows)]


_FIXED = (
    "The threshold is chosen on the validation, so that the specificity that is reached can differ. The last column "
    "takes the threshold that the test itself would choose, which nobody knows beforehand."
)


def _fixed(rows: Sequence[Mapping[str, Any]]) -> str:
    return _markdown(
        {
            "specificity asked for": f"{row['asked']:.2f}",
            "threshold": _threshold(row.get("threshold")),
            "chosen on": _chosen_on(row.get("chosen_on")),
            "specificity reached": _interval(row, "specificity", "specificity_interval", 2),
            "sensitivity": _interval(row, "sensitivity", "sensitivity_interval", 2),
            "sensitivity at the test's own threshold": _interval(row, "own_sensitivity", "own_sensitivity_interval", 2),
        }
        for row in rows
    )


def _chosen_on(found: Mapping[str, int] | None) -> str:
    return NOTHING if found is None else f"{found['controls']} controls, {found['patients']} patients"


def _threshold(value: float | None) -> str:
    return "none: nobody is called a patient" if value is not None and value >= NOBODY else number(value, digits=3)


def _conformal(found: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """How many of each class have the truth in their set, and which sets there are."""
    rows = []
    for name, row in zip((*names, "all"), (*found["classes"], found["all"]), strict=True):
        sets = {title: _share(row.get(key)) for key, title in zip(SETS, set_names(names), strict=True)}
        covered, promised = _interval(row, "coverage", "interval", 2), row.get("promised")
        wide = NOTHING if promised is None else f"{promised[0]:.2f}–{promised[1]:.2f} ({row['calibrated_on']} people)"
        rows.append({"is": name, "n": str(row["n"]), "holds the truth": covered, "promised": wide, **sets})
    words = (
        f"Sets that are to hold the truth for {100 * found['level']:g} % of each class, calibrated on the validation. "
        "*Promised* is where the coverage of new people of the same kind lies, given how many have calibrated it."
    )
    return [words, _markdown(rows)]


def set_names(names: Sequence[str]) -> list[str]:
    """What the four kinds of prediction sets are called, in the order of `answers.SETS`.

    Example:
        >>> set_names(["control", "patient"])
        ['only control', 'only patient', 'both', 'none']
    """
    return [f"only {names[0]}", f"only {names[1]}", "both", "none"]


def _share(found: Mapping[str, Any] | None) -> str:
    return NOTHING if found is None else number(found["share"], found["interval"])
