"""Numbers for a clinic: whether probabilities can be believed, what decisions bring, and who gets an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bundle.metrics import answers, clinic
from bundle.metrics.answers import Validation
from bundle.metrics.classification import calibrated
from bundle.metrics.resampling import interval, share_interval

NETWORK, CALIBRATED = "network", "calibrated"  # the network's own probabilities, and those that `predict` gives
THRESHOLDS = np.arange(1, 100) / 100
SHOWN = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # of the thresholds, in tables
RESAMPLES = 1000
MOST_UNDEFINED = 0.01  # share of resamples without a finite slope, above which no interval is given
CLASSES = ("control", "patient")


class LeftOutError(Exception):
    """Why a part is left out, in a sentence."""


@dataclass(frozen=True)
class Asked:
    """What a clinic may choose.

    Args:
        conformal_level: Level of coverage of the prediction sets, between 0 and 1.
        specificities: Specificities at which the sensitivity is given, between 0 and 1.
        seed: Seed of the resampling.
    """

    conformal_level: float = 0.9
    specificities: Sequence[float] = (0.8, 0.9, 0.95)
    seed: int = 0


@dataclass(frozen=True)
class Clinic:
    """Numbers for a clinic.

    Attributes:
        content: What `metrics.json` says; None where a part is left out, and sentences in `left_out`.
        curves: Decision curve of each kind of probabilities, at every hundredth.
    """

    content: dict[str, Any]
    curves: dict[str, pd.DataFrame] = field(default_factory=dict)


def numbers_for_a_clinic(people: pd.DataFrame, validation: Validation, asked: Asked | None = None) -> Clinic:
    """Everything of a test section that a clinic asks for, beside ROC-AUC and the operating point.

    Probabilities are judged as the network gives them and as `predict` calibrates them. Intervals are of 95 %: Wilson's
    for shares, otherwise of bootstrap resamples of people. Prediction sets and thresholds are chosen on the people of
    the validation, never on those tested.

    Args:
        people: People who are tested, a row each: label, probability, and site where it is known.
        validation: What the model said of the people of its validation.
        asked: What to choose.
    """
    asked = asked or Asked()
    if not people["probability"].between(0, 1).all():  # NaN is not between
        wrong = int((~people["probability"].between(0, 1)).sum())
        return Clinic({"left_out": [f"All is left out: {wrong} of {len(people)} probabilities are not from 0 to 1."]})
    curves, left_out = {}, list[str]()
    if "site" not in people or (people["site"] == "").all():
        left_out.append("Calibration at each site is left out: the datalist has no sites.")
        people = people.drop(columns="site", errors="ignore")
    content: dict[str, Any] = {"interval_level": 0.95, "resamples": RESAMPLES, "bins": clinic.BINS}
    content |= {"share_of_patients": float(people["label"].mean()), "probabilities": {}}
    counts = clinic.resampled_people(len(people), RESAMPLES, asked.seed)
    for kind, found in _kinds(people, validation, left_out).items():
        content["probabilities"][kind] = judged = _judged(found, counts, kind, left_out)
        if content["share_of_patients"] in (0, 1):
            continue
        curves[kind] = clinic.decision_curve(found["label"], found["probability"], THRESHOLDS, counts)
        judged["decision_curve"] = curves[kind][curves[kind]["threshold"].isin(SHOWN)].to_dict("records")
    if not curves:
        left_out.append("The decision curve is left out: the participants are of one class.")
    content["conformal"] = _or_reason(lambda: _conformal(people, validation, asked.conformal_level), left_out)
    content["fixed_specificity"] = _or_reason(lambda: _fixed(people, validation, asked, left_out), left_out)
    return Clinic({**content, "left_out": left_out}, curves)


def _or_reason(part: Callable[[], Any], left_out: list[str]) -> Any:
    """A part, or None and a sentence that says why."""
    try:
        return part()
    except LeftOutError as reason:
        left_out.append(str(reason))
        return None


def _kinds(people: pd.DataFrame, validation: Validation, left_out: list[str]) -> dict[str, pd.DataFrame]:
    """The same people with the probabilities of each kind."""
    kinds = {NETWORK: people}
    if validation.calibration is not None:
        known = calibrated(people["probability"], *validation.calibration)
        return {**kinds, CALIBRATED: people.assign(probability=known)}
    left_out.append(f"Calibrated probabilities are left out: {validation.uncalibrated or validation.missing}")
    return kinds


def _judged(people: pd.DataFrame, counts: NDArray[np.float64], kind: str, left_out: list[str]) -> dict[str, Any]:
    """What one kind of probabilities is worth."""
    labels, found = people["label"].to_numpy(), people["probability"].to_numpy()
    errors = counts @ (found - labels) ** 2 / len(labels)
    brier = {**clinic.brier_parts(labels, found), "interval": list(interval(errors))}
    content: dict[str, Any] = {"brier": brier, "recalibration": _recalibration(labels, found, counts, kind, left_out)}
    if "site" in people:
        content["sites"] = clinic.by_site(labels, found, people["site"].tolist()).to_dict("records")
    return {**content, "calibration_curve": clinic.calibration_curve(labels, found).to_dict("records")}


def _recalibration(
    labels: NDArray, found: NDArray, counts: NDArray[np.float64], kind: str, left_out: list[str]
) -> dict[str, Any]:
    """Slope, intercept and calibration in the large with intervals, as far as there are any."""
    names = ("slope", "intercept", "in_the_large")
    whole, samples = clinic.recalibration(labels, found)[0], clinic.recalibration(labels, found, counts)
    content: dict[str, Any] = {}
    for name, value, own in zip(names, whole, samples.T, strict=True):
        enough = np.isfinite(value) and np.isnan(own).mean() <= MOST_UNDEFINED
        content |= {name: value, f"{name}_interval": list(interval(own[np.isfinite(own)])) if enough else None}
    if np.isnan(whole[0]):
        left_out.append(f"The calibration slope ({kind}) is left out: {_why_no_slope(labels, found)}.")
    elif content["slope_interval"] is None:
        share = 100 * np.isnan(samples[:, 0]).mean()
        left_out.append(
            f"The intervals of the calibration slope and intercept ({kind}) are left out: in {share:.0f} % of the "
            "resamples the probabilities of patients and controls do not overlap, and no slope fits best."
        )
    return content


def _why_no_slope(labels: NDArray, found: NDArray) -> str:
    if len(np.unique(labels)) < 2:
        return "the participants are of one class"
    if len(np.unique(found)) < 2:
        return "all probabilities are the same"
    return "the probabilities of patients and controls do not overlap, so that no slope fits best"


def _conformal(people: pd.DataFrame, validation: Validation, level: float) -> dict[str, Any]:
    """Prediction sets, calibrated on the people of the validation: how many hold the truth, and which they are."""
    if validation.missing:
        raise LeftOutError(f"Prediction sets are left out: {validation.missing}")
    try:
        cutoffs = answers.conformal_cutoffs(validation.labels, validation.probabilities, level)
    except ValueError as reason:
        raise LeftOutError(f"Prediction sets are left out. {reason}") from reason
    sets = answers.conformal_sets(people["probability"], cutoffs)
    rows = []
    for label, name in enumerate(CLASSES):
        own, calibrating = sets[people["label"] == label], int((validation.labels == label).sum())
        promised = list(answers.promised_coverage(calibrating, level))
        row = {
            "class": name,
            "n": len(own),
            "calibrated_on": calibrating,
            "cutoff": cutoffs[label],
            "promised": promised,
        }
        if len(own):
            held = int(own[:, label].sum())
            row |= {"coverage": held / len(own), "interval": list(share_interval(held, len(own))), **_sets(own)}
        rows.append(row)
    return {"level": level, "classes": rows, "all": {"n": len(sets), **_sets(sets)}}


def _sets(sets: NDArray[np.bool_]) -> dict[str, Any]:
    found = answers.shares_of_sets(sets)
    return {
        name: {"count": c, "share": share, "interval": [low, high]} for name, (c, share, low, high) in found.items()
    }


def _fixed(people: pd.DataFrame, validation: Validation, asked: Asked, left_out: list[str]) -> list[dict[str, Any]]:
    """Sensitivity at each specificity: at the threshold of the validation, and on the test's own ROC curve."""
    labels, found = people["label"].to_numpy(), people["probability"].to_numpy()
    sizes = np.bincount(labels, minlength=2)
    if not sizes.all():
        raise LeftOutError("Sensitivity at fixed specificity is left out: the participants are of one class.")
    known = np.bincount(validation.labels, minlength=2)
    if not known.all():
        reason = validation.missing or f"the validation has {known[0]} controls and {known[1]} patients."
        left_out.append(f"Thresholds of fixed specificity, chosen on the validation, are left out: {reason}")
    rows = []
    for specificity in asked.specificities:
        row: dict[str, Any] = {"asked": specificity}
        if known.all():
            row |= _with_intervals(answers.at_specificity(validation, labels, found, specificity), sizes)
            row["chosen_on"] = {"controls": int(known[0]), "patients": int(known[1])}
        share, low, high = answers.own_sensitivity(labels, found, specificity, RESAMPLES, asked.seed)
        rows.append({**row, "own_sensitivity": share, "own_sensitivity_interval": [low, high]})
    return rows


def _with_intervals(found: Mapping[str, float], sizes: NDArray[np.intp]) -> dict[str, Any]:
    content: dict[str, Any] = {name: found[name] for name in ("threshold", "sensitivity", "specificity")}
    for name, people in (("sensitivity", sizes[1]), ("specificity", sizes[0])):
        content[f"{name}_interval"] = list(share_interval(round(found[name] * people), int(people)))
    return content
