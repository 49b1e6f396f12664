"""What a page says in words and numbers: of the model, and of one scan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bundle.metrics.classification import calibrated, reliability
from bundle.prediction import pictures
from bundle.prediction.table import Model
from bundle.scans.grid import Grid


def model_facts(model: Model) -> dict[str, Any]:
    """What every page says of the model."""
    card, classes = model.card, list(model.card["class_names"])
    subjects, metrics = card.get("subjects", {}), card["validation"]
    seen = f"{subjects.get('training', 'some')} training subjects"
    facts = [
        ("intended use", card.get("intended_use", "research only; not a medical device")),
        ("classes", " / ".join(classes)),
        ("task", card.get("task", "unknown")),
        ("trained on", f"{seen}, {subjects.get('validation', 'some')} for validation"),
        ("ROC-AUC on validation subjects", decimals(metrics.get("val_auc"), 2)),
        ("grid", str(Grid.from_card(card["contract"]["grid"])) if "contract" in card else "unknown"),
        *((name.replace("_", " "), value) for name, value in model.columns.items()),
    ]
    known = {"facts": facts, "warning": card.get("warning", ""), "classes": " and ".join(classes), "trained_on": seen}
    return {**known, "positive": classes[1]}


def answer_of(row: Mapping[str, Any], record: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """What a page says of a scan that was not refused.

    Args:
        row: of the table.
        record: of `list_scans`.
        model: that answered.
    """
    name, metrics, embeddings = list(model.card["class_names"])[1], model.card["validation"], model.record.embeddings
    raw = float(row[f"probability_{name}"])
    own = float(row["calibrated_probability"])
    validated = calibrated(model.record.probabilities, *model.record.calibration)
    table = reliability(model.record.labels, validated)
    answer: dict[str, Any] = {
        "name": name,
        "predicted": row["predicted"],
        "raw": probability(raw),
        "calibrated": probability(own),
        "uncertainty": f"{row['uncertainty']:.2f}",
        "threshold": decimals(metrics["val_threshold"], 2),
        "sensitivity": _percent(metrics.get("val_sensitivity")),
        "specificity": _percent(metrics.get("val_specificity")),
        "percentile": f"{row['distance_percentile']:.0f}",
        "reliability": pictures.reliability(table, own, name),
        "distance": pictures.position(embeddings.distances, float(row["distance"]), "distance"),
    }
    if np.isfinite(row["brain_age"]):
        drawn = pictures.ages(embeddings.healthy_ages, row["brain_age"], embeddings.age_error, record["age"])
        answer |= {"ages": drawn, "brain_age": f"{row['brain_age']:.0f}", "age_error": f"{embeddings.age_error:.0f}"}
        answer["nearest"] = row["nearest_training_ages"].replace(" ", ", ")
        answer["gap"] = f"{row['brain_age_gap']:+.0f}" if np.isfinite(row["brain_age_gap"]) else ""
    return answer


def decimals(value: Any, digits: int) -> str:
    """A number with so many digits; nothing where there is none."""
    return "" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def probability(value: float) -> str:
    """Two digits, and never certainty."""
    return f"{value:.2f}" if 0.01 <= value <= 0.99 else ("below 0.01" if value < 0.01 else "above 0.99")


def _percent(value: Any) -> str:
    return "an unknown share" if value is None else f"{100 * value:.0f} %"
