"""What a test section showed: `metrics.json` of `evaluate`, taken only where it is of these very weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.files import read_json

LEVEL = 0.95  # of the intervals
NAMES = {  # of metrics.json: how the Hub calls it, and how people do
    "auc": ("roc_auc", "ROC-AUC"),
    "balanced_accuracy": ("balanced_accuracy", "Balanced accuracy"),
    "sensitivity": ("sensitivity", "Sensitivity"),
    "specificity": ("specificity", "Specificity"),
}
_AGAIN = "Run `python -m bundle evaluate` on these weights again, and give its metrics.json."


@dataclass(frozen=True)
class Metric:
    """One quantity of a test section, over participants.

    Attributes:
        kind: Kind, as the Hub calls it.
        name: Name, as people do.
        value: Value of all participants.
        low: Low of the 95 % interval.
        high: High of the interval.
    """

    kind: str
    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Tested:
    """What a test section showed.

    Attributes:
        metrics: Metrics with their intervals.
        participants: Tested.
        patients: Among them.
        datalist: File name.
        warning: Warning that the datalist brings, such as that it is a phantom's.
        commit: Commit of the code.
    """

    metrics: tuple[Metric, ...]
    participants: int
    patients: int
    datalist: str
    warning: str
    commit: str


def read_tested(path: Path, weights: Path, digest: str, threshold: float) -> Tested:
    """Read the metrics of some weights.

    Args:
        path: Path of `metrics.json`, written by `evaluate`.
        weights: Weights, for messages.
        digest: Digest of the weights, see `networks.formats.weights_digest`.
        threshold: Threshold of the card, at which decisions are taken.

    Raises:
        ValueError: when they are of other weights, do not say of which, may be of participants of the training, lack
            an interval, or are damaged.
    """
    found = read_json(path, "The metrics ")
    if not isinstance(found, dict) or not {"weights_sha256", "datalist", "overlap_allowed", "made_by"} <= found.keys():
        raise ValueError(f"{path} does not say of which weights and which people it is. {_AGAIN}")
    if found["weights_sha256"] != digest:
        raise ValueError(
            f"{path} was made with other weights (sha256 {str(found['weights_sha256'])[:12]}…) than {weights} "
            f"({digest[:12]}…). {_AGAIN}"
        )
    if found["overlap_allowed"]:
        raise ValueError(
            f"{path} was made with --allow-overlap, so that participants of the training may be among those tested, "
            "and the numbers too good. Evaluate without it."
        )
    if found.get("threshold") != threshold:
        raise ValueError(f"{path} was made at another operating point than the card of {weights} has. {_AGAIN}")
    try:
        return _tested(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} lacks what `evaluate` writes ({error}). {_AGAIN}") from error


def _tested(found: Mapping[str, Any]) -> Tested:
    participants, patients = (int(found[name]) for name in ("participants", "patients"))
    if not 0 < patients < participants:
        raise ValueError("numbers of participants and patients that do not fit")
    return Tested(
        tuple(_metric(found, name) for name in NAMES),
        participants,
        patients,
        Path(str(found["datalist"]["file"])).name,
        str(found.get("warning") or ""),
        str(found["made_by"].get("commit") or ""),
    )


def _metric(found: Mapping[str, Any], name: str) -> Metric:
    value, (low, high) = float(found[name]), map(float, found[f"{name}_interval"])
    if not all(map(math.isfinite, (value, low, high))) or not 0 <= low <= high <= 1 or not 0 <= value <= 1:
        raise ValueError(f"{name} with a value and an interval between 0 and 1")
    return Metric(*NAMES[name], value, low, high)
