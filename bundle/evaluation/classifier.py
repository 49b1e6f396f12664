"""What a classifier is worth on its test section: `metrics.json` and figures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bundle.cohort.datalist import warning_of
from bundle.evaluation import classifier_figures, figures
from bundle.evaluation.classifier_figures import Point, Roc
from bundle.files import sha256, write_json
from bundle.hub import located
from bundle.metrics.classification import reliability
from bundle.metrics.resampling import bootstrap_auc, decision_intervals, interval
from bundle.networks.formats import weights_digest
from bundle.people import person_codes
from bundle.provenance import provenance

PREFIX = "probability_"  # of columns of `predictions.csv`, before the name of a class
logger = logging.getLogger(__name__)


def report_evaluation(
    folder: str | Path,
    metrics: Mapping[str, float],
    model: str | Path | None = None,
    datalist: str | Path | None = None,
    seed: int = 0,
    overlap_allowed: bool = False,
) -> None:
    """Write `metrics.json` and figures beside `predictions.csv`, and say the ROC-AUC with its interval.

    The figures are `roc.png`, `confusion_matrix.png` (at the operating point) and `calibration.png`. Everything is per
    participant: several scans of one count once, with their mean probability. `metrics.json` also says of which weights
    and which datalist it is, without which nothing is published.

    Args:
        folder: Folder of `predictions.csv`, which has a row per scan.
        metrics: Metrics of the evaluator, per participant, too (see `training.OperatingPoint`).
        model: File of the weights.
        datalist: Datalist that was tested on.
        seed: Seed of the run.
        overlap_allowed: Whether participants of the training may be among those tested.
    """
    table = pd.read_csv(Path(folder) / "predictions.csv", dtype={"participant_id": str}, keep_default_na=False)
    columns = [str(name) for name in table.filter(like=PREFIX)]
    by_person = table.groupby(person_codes(table["participant_id"].tolist()))
    people = by_person.agg(label=("label", "max"), probability=(columns[1], "mean"))
    low, high = interval(bootstrap_auc(people["label"], people["probability"]).samples)
    values = {name.removeprefix("val_"): float(value) for name, value in metrics.items()}
    patients = int(people["label"].sum())
    content: dict[str, Any] = {"images": len(table), "participants": len(people), "patients": patients, **values}
    content["auc_interval"] = [low, high]
    if {"sensitivity", "specificity"} <= values.keys():
        found = decision_intervals(values["sensitivity"], values["specificity"], patients, len(people) - patients)
        content |= {f"{name}_interval": list(limits) for name, limits in found.items()}
    made_of = _origin(model, datalist, overlap_allowed) if model and datalist else {}
    write_json(Path(folder) / "metrics.json", {**content, **made_of, "made_by": provenance(seed)})
    _draw(Path(folder), people, [name.removeprefix(PREFIX) for name in columns], values)
    logger.info(
        f"ROC-AUC {values['auc']:.3f} (95 % interval {low:.2f}–{high:.2f}), {len(people)} participants: {folder}"
    )


def _origin(model: str | Path, datalist: str | Path, overlap_allowed: bool) -> dict[str, Any]:
    """Whose metrics these are, and on whom."""
    return {
        "weights_sha256": weights_digest(located(model)),
        "datalist": {"file": Path(datalist).name, "sha256": sha256(Path(datalist))},
        "warning": warning_of(datalist),
        "overlap_allowed": overlap_allowed,
    }


def _draw(folder: Path, people: pd.DataFrame, names: Sequence[str], values: Mapping[str, float]) -> None:
    """Draw what the probabilities of participants are worth; decisions where the metrics have an operating point."""
    who, patient, point = f"{len(people)} test participants", names[1], None
    if "threshold" in values:
        threshold = values["threshold"]
        point = Point(1 - values["specificity"], values["sensitivity"], f"operating point: probability {threshold:.2f}")
        called = (people["probability"] >= threshold).astype(int)
        counts = pd.crosstab(people["label"], called).reindex(index=[0, 1], columns=[0, 1], fill_value=0).to_numpy()
        note = f"{who}, called {patient} from a probability of {threshold:.2f} on"
        classifier_figures.confusion_matrix(folder / "confusion_matrix.png", counts, names, note)
    found = {patient: Roc.of(people["label"], people["probability"])}
    classifier_figures.roc_curves(folder / "roc.png", found, who, point)
    curves = {patient: reliability(people["label"], people["probability"])}
    figures.calibration_curves(folder / "calibration.png", {who: curves})
