"""From a row of the table and what its page shows to the answer that goes into DICOM objects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.dicom.answer import (
    REFUSED,
    Answer,
    Attribution,
    BrainAge,
    Chart,
    Network,
    OperatingPoint,
    Preparation,
    Region,
)
from bundle.prediction.answer import headline, model_facts
from bundle.prediction.judgement import CANNOT, GIVEN, Scale
from bundle.prediction.maps import Meaning
from bundle.prediction.table import Model
from bundle.scans.contract import REFUSE

NOTHING: Mapping[str, Any] = MappingProxyType({})
NAMED = ("intended use", "classes", "model", "model version", "model sha256")  # facts with attributes of their own


def answer_from(
    row: Mapping[str, Any],
    model: Model,
    scale: Scale,
    *,
    page: Mapping[str, Any] = NOTHING,
    checks: Sequence[Mapping[str, str]] = (),
    volumes: Mapping[str, float] = NOTHING,
    regions: Sequence[Region] = (),
    preparation: Preparation | None = None,
    attribution: Attribution | None = None,
) -> Answer:
    """The answer to one scan as plain values.

    Args:
        row: Row of the table, with `name`.
        model: Model that answered.
        scale: Scale of its probabilities.
        page: What the page shows of a scan that was not refused: `answer` and `brain`.
        checks: What was checked, as the page lists it.
        volumes: mL of `tiv`, `gm`, `wm` and `csf`.
        regions: Volumes of regions.
        preparation: How the map was made.
        attribution: The map of where the network looked; left out where the model does not answer.
    """
    state = REFUSED if row["verdict"] == REFUSE else str(row["answer"])
    found = Answer(
        scan=str(row["name"]),
        model=network_of(model),
        state=state,
        headline=headline(row, scale),
        verdict=str(row["verdict"]),
        reasons=tuple(str(row["reasons"]).split(" | ")) if row["reasons"] else (),
        called=row["predicted"] if isinstance(row["predicted"], str) else "",
        probability=_known(row["calibrated_probability"]) if state == GIVEN else None,
        uncertainty=_known(row["uncertainty"]) if state == GIVEN else None,
        distance_percentile=_known(row["distance_percentile"]),
        volumes=volumes,
        regions=tuple(regions),
        preparation=preparation,
        checks=tuple(checks),
        charts=_charts(page.get("answer", NOTHING)),
        brain=page.get("brain", NOTHING),
    )
    return _with_what_is_answered(found, row, model, scale, attribution) if found.is_answered else found


def _with_what_is_answered(
    answer: Answer, row: Mapping[str, Any], model: Model, scale: Scale, attribution: Attribution | None
) -> Answer:
    """What is said only where a scan is called one class or the other."""
    positive, negative = scale.predictive_values()
    point = OperatingPoint(
        probability=scale.operating_point if answer.state == GIVEN else None,
        sensitivity=_known(scale.sensitivity),
        specificity=_known(scale.specificity),
        prevalence=scale.prevalence,
        ppv=_known(positive),
        npv=_known(negative),
        people=scale.people,
    )
    years, error = _known(row["brain_age"]), model.record.embeddings.age_error
    within = years is not None and model.record.embeddings.covers(years).item()  # beyond, the page gives none either
    age = BrainAge(years, float(error), _known(row["brain_age_gap"])) if years is not None and within else None
    return replace(answer, operating_point=point, brain_age=age, attribution=attribution)


def attribution_of(
    values: NDArray[np.float32], affine: NDArray[np.float64], method: str, read: Meaning, in_scanner: bool
) -> Attribution:
    """A map of where the network looked, in the unit in which the page shows it.

    Args:
        values: The map as `explain` gives it, on a grid.
        affine: 4 × 4, index → mm, of the grid.
        method: One of `prediction.maps.METHODS`.
        read: How such a map is read.
        in_scanner: Whether the grid is in the coordinates of the scanner; otherwise it is in MNI space.

    Shape:
        values (X, Y, Z).
    """
    ucum = {100.0: "%", 1.0: "1", None: "[arb'U]"}[read.factor]
    unit = "arbitrary units" if read.factor is None else read.unit  # those of the page depend on what it draws
    scaled = values * np.float32(1.0 if read.factor is None else read.factor)
    return Attribution(scaled, affine, unit, ucum, method, read.sentence, in_scanner)


def network_of(model: Model) -> Network:
    """What the objects say of a model."""
    known, columns = model_facts(model), model.columns
    control, patient = map(str, model.card["class_names"])
    facts = [(str(name), str(value)) for name, value in known["facts"] if name not in NAMED]
    return Network(
        name=columns["model"],
        version=columns["model_version"],
        sha256=columns["model_sha256"],
        intended_use=str(model.card.get("intended_use", "research only; not a medical device")),
        classes=(control, patient),
        warning=str(known["warning"]),
        facts=tuple(facts),
    )


def _charts(shown: Mapping[str, Any]) -> tuple[Chart, ...]:
    """The pictures of a page, in its order."""
    captions = {
        "reliability": "How well calibrated probabilities fit the validation subjects, at their own share of patients; "
        "the line is this scan.",
        "distance": f"Distance from the training subjects: percentile {shown.get('percentile', '')}. Above 99, the "
        "model cannot answer.",
        "ages": "The age that the brain looks like, among the healthy training subjects.",
    }
    hidden = {"ages"} if shown.get("state") == CANNOT else set()
    return tuple(Chart(shown[name], said) for name, said in captions.items() if shown.get(name) and name not in hidden)


def _known(value: Any) -> float | None:
    """A number, or None where there is none."""
    return None if value is None or not math.isfinite(value) else float(value)
