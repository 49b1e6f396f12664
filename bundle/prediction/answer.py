"""What a page says in words and numbers: of the model, and of one scan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bundle.metrics.classification import calibrated, reliability
from bundle.prediction import pictures
from bundle.prediction.judgement import CANNOT, GIVEN, NOT_CALIBRATED, Scale, percentile_text, shown
from bundle.prediction.table import SPREAD, Model
from bundle.prediction.training_record import TrainingEmbeddings
from bundle.scans.contract import REFUSE
from bundle.scans.grid import Grid


def model_facts(model: Model) -> dict[str, Any]:
    """What every page says of the model."""
    card, classes, members = model.card, list(model.card["class_names"]), model.card.get("network", {}).get("members")
    subjects, metrics = card.get("subjects", {}), card["validation"]
    seen = f"{subjects.get('training', 'some')} training subjects"
    facts = [
        ("intended use", card.get("intended_use", "research only; not a medical device")),
        ("classes", " / ".join(classes)),
        ("task", card.get("task", "unknown")),
        ("trained on", f"{seen}, {subjects.get('validation', 'some')} for validation"),
        ("ROC-AUC on validation subjects", decimals(metrics.get("val_auc"), 2)),
        ("grid", str(Grid.from_card(card["contract"]["grid"])) if "contract" in card else "unknown"),
        *([("ensemble", f"{members} members, whose mean is the answer")] if members else []),
        *((name.replace("_", " "), value) for name, value in model.columns.items()),
    ]
    known = {"facts": facts, "warning": card.get("warning", ""), "classes": " and ".join(classes), "trained_on": seen}
    return {**known, "positive": classes[1]}


def headline(row: Mapping[str, Any], scale: Scale) -> str:
    """The answer to one scan in a few words, as page and index show it first; empty where it was refused.

    Args:
        row: Row of the table.
        scale: Scale of its probabilities.
    """
    if row["answer"] == GIVEN:
        return shown(float(row["calibrated_probability"]), scale.operating_point)
    return "" if row["verdict"] == REFUSE else scale.words if row["answer"] == NOT_CALIBRATED else CANNOT


def answer_of(row: Mapping[str, Any], record: Mapping[str, Any], model: Model, scale: Scale) -> dict[str, Any]:
    """What a page says of a scan that was not refused.

    Args:
        row: Row of the table.
        record: Record, as `list_scans` makes it.
        model: Model that answered.
        scale: Scale of its probabilities.
    """
    name, embeddings = list(model.card["class_names"])[1], model.record.embeddings
    raw = float(row[f"probability_{name}"])
    answer: dict[str, Any] = {
        "name": name,
        "state": row["answer"],
        "headline": headline(row, scale),
        "predicted": row["predicted"],
        "raw": shown(raw, scale.threshold),
        "raw_threshold": shown(scale.threshold, raw),
        "uncertainty": f"{row['uncertainty']:.2f}",
        "spread": f"{row[SPREAD]:.1f}" if SPREAD in row else "",
        "members": model.card.get("network", {}).get("members", 0),
        "people": scale.people,
        "percentile": percentile_text(float(row["distance_percentile"])),
        "distance": pictures.position(embeddings.distances, float(row["distance"]), "distance"),
    }
    return answer | _decision(row, scale) | _calibration(row, model, name) | _age(row, record, model)


def _decision(row: Mapping[str, Any], scale: Scale) -> dict[str, Any]:
    """The operating point and what it is worth, on the scale of the headline."""
    positive, negative = scale.predictive_values()
    point = scale.operating_point
    return {
        "threshold": shown(point, float(row["calibrated_probability"])) if row["answer"] == GIVEN else "",
        "sensitivity": _percent(scale.sensitivity),
        "specificity": _percent(scale.specificity),
        "prevalence": _percent(scale.prevalence),
        "ppv": _percent(positive),
        "npv": _percent(negative),
    }


def _calibration(row: Mapping[str, Any], model: Model, name: str) -> dict[str, Any]:
    """The picture of how well calibrated probabilities fit, at the validation's own share of patients."""
    if row["answer"] != GIVEN:
        return {}
    labels, raw = model.record.validated
    validated = calibrated(raw, *model.record.calibration)
    own = float(calibrated(float(row[f"probability_{name}"]), *model.record.calibration))
    return {"reliability": pictures.reliability(reliability(labels, validated), own, name)}


def _age(row: Mapping[str, Any], record: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """The age that the brain looks like, and its distance from what is expected, within the ages of the training."""
    if not np.isfinite(row["brain_age"]):
        return {}
    embeddings, own = model.record.embeddings, float(record["age"])
    known = embeddings.healthy_ages
    drawn = pictures.ages(known, row["brain_age"], embeddings.age_error, own)
    return {
        "ages": drawn,
        "brain_age": f"{row['brain_age']:.0f}",
        "age_error": f"{embeddings.age_error:.0f}",
        "nearest": row["nearest_training_ages"].replace(" ", ", "),
        "age": decimals(own, 0),
        "age_range": f"{known.min():.0f} to {known.max():.0f}",
        "beyond": not embeddings.covers(row["brain_age"]).item(),
        "gap": f"{row['brain_age_gap']:+.0f}" if np.isfinite(row["brain_age_gap"]) else "",
    }


def age_in_words(age: float, embeddings: TrainingEmbeddings) -> str:
    """An age that a brain looks like; beyond the ages of the training only that it is.

    Args:
        age: Years; NaN = unknown.
        embeddings: Embeddings of the training.
    """
    if not np.isfinite(age) or embeddings.covers(age):
        return decimals(age, 0)
    least, most = embeddings.healthy_ages.min(), embeddings.healthy_ages.max()
    return f"below {least:.0f}" if age < least else f"above {most:.0f}"


def decimals(value: Any, digits: int) -> str:
    """A number with so many digits; nothing where there is none."""
    return "" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def _percent(value: Any) -> str:
    return "an unknown share" if value is None or not np.isfinite(value) else f"{100 * value:.0f} %"
