"""What a classifier is worth on its test section: `metrics.json` and a calibration plot."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from bundle.evaluation import figures
from bundle.files import write_json
from bundle.metrics.classification import reliability
from bundle.metrics.resampling import bootstrap_auc, interval
from bundle.people import person_codes

logger = logging.getLogger(__name__)


def report_evaluation(folder: str | Path, metrics: Mapping[str, float]) -> None:
    """Write `metrics.json` and `calibration.png` beside `predictions.csv`, and say the ROC-AUC with its interval.

    Everything is per participant: several scans of one count once, with their mean probability.

    Args:
        folder: of `predictions.csv`, which has a row per scan.
        metrics: of the evaluator, per participant, too (see `training.OperatingPoint`).
    """
    table = pd.read_csv(Path(folder) / "predictions.csv", dtype={"participant_id": str}, keep_default_na=False)
    patient = str(table.filter(like="probability_").columns[1])
    by_person = table.groupby(person_codes(table["participant_id"].tolist()))
    people = by_person.agg(label=("label", "max"), probability=(patient, "mean"))
    low, high = interval(bootstrap_auc(people["label"], people["probability"]).samples)
    values = {name.removeprefix("val_"): float(value) for name, value in metrics.items()}
    content = {"images": len(table), "participants": len(people), **values, "auc_interval": [low, high]}
    write_json(Path(folder) / "metrics.json", content)
    curves = {patient: reliability(people["label"], people["probability"])}
    figures.calibration_curves(Path(folder) / "calibration.png", {f"{len(people)} test participants": curves})
    logger.info(
        f"ROC-AUC {values['auc']:.3f} (95 % interval {low:.2f}–{high:.2f}), {len(people)} participants: {folder}"
    )
