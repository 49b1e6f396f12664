"""What a classifier is worth on its test section: `metrics.json` and figures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bundle.cohort.datalist import warning_of
from bundle.evaluation import classifier_figures, figures
from bundle.evaluation.centring import CENTRED, centred_auc
from bundle.evaluation.classifier_figures import Point, Roc
from bundle.evaluation.clinic import Asked, Clinic, numbers_for_a_clinic
from bundle.evaluation.clinic_figure import clinic_figure
from bundle.evaluation.clinic_table import clinic_table
from bundle.files import sha256, write_json, write_text
from bundle.hub import located
from bundle.metrics.answers import Validation
from bundle.metrics.classification import reliability
from bundle.metrics.clinic import SEVERAL
from bundle.metrics.resampling import bootstrap_auc, decision_intervals, interval
from bundle.networks.formats import weights_digest
from bundle.people import person_codes
from bundle.provenance import provenance

NOT_GIVEN = "this evaluation was not given what the model said of its validation."
PREFIX = "probability_"  # of columns of `predictions.csv`, before the name of a class
logger = logging.getLogger(__name__)


def report_evaluation(
    folder: str | Path,
    metrics: Mapping[str, float],
    model: str | Path | None = None,
    datalist: str | Path | None = None,
    seed: int = 0,
    overlap_allowed: bool = False,
    validation: Validation | None = None,
    asked: Asked | None = None,
    centre_sites: bool = False,
) -> None:
    """Write `metrics.json` and figures beside `predictions.csv`, and say the ROC-AUC with its interval.

    The figures are `roc.png`, `confusion_matrix.png` (at the operating point), `calibration.png` and `clinic.png`; the
    tables of the last are `clinic.md` and `decision_curve.csv`. Everything is per participant: several scans of one
    count once, with their mean probability. `metrics.json` also says of which weights and which datalist it is, without
    which nothing is published.

    Args:
        folder: Folder of `predictions.csv`, which has a row per scan.
        metrics: Metrics of the evaluator, per participant, too (see `training.OperatingPoint`).
        model: File of the weights.
        datalist: Datalist that was tested on.
        seed: Seed of the run.
        overlap_allowed: Whether participants of the training may be among those tested.
        validation: Validation of the model, which calibrates and chooses thresholds; see `prediction.validation_of`.
        asked: Asked of the numbers for a clinic; see `clinic.numbers_for_a_clinic`.
        centre_sites: Whether scores centred within site are given, too; see `centring.centred_auc`.
    """
    texts = {"participant_id": str, "site": str}
    table = pd.read_csv(Path(folder) / "predictions.csv", dtype=texts, keep_default_na=False)
    columns = [str(name) for name in table.filter(like=PREFIX)]
    people = _people(table, columns[1])
    values = {name.removeprefix("val_"): float(value) for name, value in metrics.items()}
    content = {"images": len(table), **_summary(people, values)}
    made_of = _origin(model, datalist, overlap_allowed) if model and datalist else {}
    found = numbers_for_a_clinic(people, validation or Validation(missing=NOT_GIVEN), asked)
    if centre_sites:
        content[CENTRED] = centred_auc(table, columns[1])
    content |= {"clinic": found.content, **made_of, "made_by": provenance(seed)}
    write_json(Path(folder) / "metrics.json", content)
    names = [name.removeprefix(PREFIX) for name in columns]
    _draw(Path(folder), people, names, values)
    who = f"{len(people)} test participants ({names[1]}: {content['patients']}), 95 % intervals."
    _write_clinic(Path(folder), found, names, f"{who} {made_of.get('warning') or ''}".strip())
    low, high = content["auc_interval"]
    logger.info(
        f"ROC-AUC {values['auc']:.3f} (95 % interval {low:.2f}–{high:.2f}), {len(people)} participants: {folder}"
    )
    if centre_sites:
        _say_centred(content[CENTRED])


def _say_centred(found: Mapping[str, Any]) -> None:
    (low, high), (least, most) = found["auc_interval"], found["gain_interval"]
    logger.info(
        f"Centred within site: ROC-AUC {found['auc']:.3f} (95 % interval {low:.2f}–{high:.2f}), {found['gain']:+.3f} "
        f"({least:+.2f} to {most:+.2f}) from scores as they are. {found['what']}"
    )


def _summary(people: pd.DataFrame, values: Mapping[str, float]) -> dict[str, Any]:
    """How many there are, and the metrics with intervals."""
    patients = int(people["label"].sum())
    content: dict[str, Any] = {"participants": len(people), "patients": patients, **values}
    content["auc_interval"] = list(interval(bootstrap_auc(people["label"], people["probability"]).samples))
    if {"sensitivity", "specificity"} <= values.keys():
        found = decision_intervals(values["sensitivity"], values["specificity"], patients, len(people) - patients)
        content |= {f"{name}_interval": list(limits) for name, limits in found.items()}
    return content


def _people(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Label, mean probability, and site of each participant; patient if ever."""
    by_person = table.groupby(person_codes(table["participant_id"].tolist()))
    people = by_person.agg(label=("label", "max"), probability=(column, "mean"))
    if "site" not in table:
        return people
    sites = by_person["site"]
    return people.assign(site=sites.first().where(sites.nunique() == 1, SEVERAL))


def _write_clinic(folder: Path, found: Clinic, names: Sequence[str], note: str) -> None:
    """Write the numbers for a clinic as tables and a figure."""
    write_text(folder / "clinic.md", clinic_table(found.content, names, note))
    if found.curves:
        tables = [table.assign(probabilities=kind) for kind, table in found.curves.items()]
        write_text(folder / "decision_curve.csv", pd.concat(tables).to_csv(index=False, float_format="%.6g"))
    clinic_figure(folder / "clinic.png", found.content, found.curves, names, note)
    for reason in found.content["left_out"]:
        logger.info(reason)
    logger.info(f"Numbers for a clinic: {folder / 'clinic.md'}")


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
