"""What a classifier is worth on its test section: `metrics.json` and figures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from bundle.evaluation import classifier_figures, figures
from bundle.evaluation.classifier_figures import Point, Roc
from bundle.files import write_json
from bundle.metrics.classification import reliability
from bundle.metrics.resampling import bootstrap_auc, interval
from bundle.people import person_codes

PREFIX = "probability_"  # of columns of `predictions.csv`, before the name of a class
logger = logging.getLogger(__name__)


def report_evaluation(folder: str | Path, metrics: Mapping[str, float]) -> None:
    """Write `metrics.json` and figures beside `predictions.csv`, and say the ROC-AUC with its interval.

    The figures are `roc.png`, `confusion_matrix.png` (at the operating point) and `calibration.png`. Everything is per
    participant: several scans of one count once, with their mean probability.

    Args:
        folder: of `predictions.csv`, which has a row per scan.
        metrics: of the evaluator, per participant, too (see `training.OperatingPoint`).
    """
    table = pd.read_csv(Path(folder) / "predictions.csv", dtype={"participant_id": str}, keep_default_na=False)
    columns = [str(name) for name in table.filter(like=PREFIX)]
    by_person = table.groupby(person_codes(table["participant_id"].tolist()))
    people = by_person.agg(label=("label", "max"), probability=(columns[1], "mean"))
    low, high = interval(bootstrap_auc(people["label"], people["probability"]).samples)
    values = {name.removeprefix("val_"): float(value) for name, value in metrics.items()}
    content = {"images": len(table), "participants": len(people), **values, "auc_interval": [low, high]}
    write_json(Path(folder) / "metrics.json", content)
    _draw(Path(folder), people, [name.removeprefix(PREFIX) for name in columns], values)
    logger.info(
        f"ROC-AUC {values['auc']:.3f} (95 % interval {low:.2f}–{high:.2f}), {len(people)} participants: {folder}"
    )


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
