"""What a clinician gets: a map of where the network looked, a page per scan, and an index."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from bundle.extras import require
from bundle.files import replacing, write_text
from bundle.hints import nearest
from bundle.networks.classifiers import Classifier
from bundle.networks.nearby import near
from bundle.pages import filled
from bundle.prediction import slices
from bundle.prediction.answer import age_in_words, answer_of, decimals, headline, model_facts
from bundle.prediction.checking import CheckedDataset
from bundle.prediction.judgement import CANNOT, percentile_text
from bundle.prediction.maps import (
    ASKED,
    METHODS,
    TARGETS,
    Question,
    Similarity,
    explain,
    in_regions,
    last_map,
    meaning,
    regional_changes,
)
from bundle.prediction.output import INDEX, MAPS, SCANS, TABLE, map_name
from bundle.prediction.regions import section
from bundle.prediction.table import Model, PredictionTable
from bundle.scans.contract import REFUSE, VERDICTS, Examination
from bundle.scans.grid import Grid, to_grid
from bundle.scans.regions import region_weights

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = {"index.html": "table.js", "scan.html": "viewer.js"}
logger = logging.getLogger(__name__)


def write_pages(
    table: PredictionTable,
    dataset: CheckedDataset,
    method: str = "regions",
    target: str = "class",
    pages: bool = True,
) -> None:
    """Write maps and pages of the scans that were predicted, and bring all answers into their folder.

    Args:
        table: After the evaluator has run; its folder gets `maps/NAME_METHOD.nii.gz` on each scan's own grid,
            `scans/NAME.html` and `index.html`, with a line for every scan of the folder.
        dataset: Dataset that it ran on.
        method: One of `maps.METHODS`, or `none`.
        target: What is explained, one of `maps.TARGETS`.
        pages: Write pages, not maps alone.

    """
    facts = model_facts(table.model)
    try:
        if method != "none" or pages:
            _write_scans(table, dataset, facts, method, target, pages)
        table.publish(lambda rows: index_page(rows, facts, table), [INDEX] if pages else [])
    finally:
        table.answers.discard()


def _write_scans(
    table: PredictionTable, dataset: CheckedDataset, facts: Mapping[str, Any], method: str, target: str, pages: bool
) -> None:
    """Stage a map and a page of each scan."""
    folder = table.answers.stage
    rows = [{str(name): value for name, value in row.items()} for row in table.table.to_dict("records")]
    everything = zip(table.records, rows, table.checks, strict=True)
    for record, row, checks in tqdm(everything, "Writing pages", len(rows), unit="scan", disable=None):
        content = {"title": row["participant_id"], "row": row, "checks": checks, "model": facts}
        content["modality"] = dataset.contract.modality
        content["preparation"] = _preparation(record, table.answers.path)
        content["reasons"] = str(row["reasons"]).split(" | ") if row["reasons"] else []
        if row["verdict"] != REFUSE:
            content |= _answered(record, row, table, dataset, folder, method, target)
        if record.get("series"):
            table.shown[record["name"]] = content
        if pages:
            write_text(folder / SCANS / f"{record['name']}.html", render("scan.html", content))


def render(template: str, content: Mapping[str, Any]) -> str:
    """Fill one of the two templates: `scan.html` or `index.html`."""
    return filled(TEMPLATES, template, SCRIPTS[template], {**content, "facts": content["model"]["facts"]})


def _preparation(record: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Where the page of a scan's preparation lies, from its own page, and by what it was prepared."""
    made = record.get("prepared")
    if not made or not Path(record["prepared_page"]).is_file():
        return {}
    place = os.path.relpath(Path(record["prepared_page"]).absolute(), (folder / SCANS).absolute())
    pipeline = {name: str(made["pipeline"].get(name, "")) for name in ("name", "version")}
    return {"page": quote(Path(place).as_posix()), **pipeline}


def check_choices(method: str, target: str, model: Model) -> None:
    """Refuse what `write_pages` cannot do before anything is computed.

    Raises:
        ValueError: for another method or target, for maps of a network that only onnxruntime computes, for GradCAM++ of
            an encoder whose last feature map is not known, or for integrated gradients without captum.
    """
    if method not in (*METHODS, "none"):
        raise ValueError(f"No method is named '{method}'{nearest(method, [*METHODS, 'none'])}")
    if target not in TARGETS:
        raise ValueError(f"No target is named '{target}'{nearest(target, TARGETS)}")
    if method != "none" and not isinstance(model.classifier, Classifier):
        raise ValueError("Maps need torch: use --backend torch, or --explain none.")
    if method == "integrated_gradients":
        require("captum.attr", "The method integrated_gradients")
    if method == "gradcam++":
        last_map(model.classifier)


def _answered(
    record: Mapping[str, Any],
    row: Mapping[str, Any],
    table: PredictionTable,
    dataset: CheckedDataset,
    folder: Path,
    method: str,
    target: str,
) -> dict[str, Any]:
    """Map, pictures and numbers of a scan that was not refused."""
    model = table.model
    seen = dataset.contract.examine(record["image"], record.get("channels", ()))
    assert seen.scan is not None
    if row["answer"] == CANNOT:  # nothing is explained that is not answered
        method = "none"
    shown: dict[str, Any] = {"method": "" if method == "none" else method}
    overlay = None
    if method != "none":
        (found, changes), grid = _map(row, model, dataset, seen, method, target), dataset.contract.grid
        name = map_name(record["name"], method, target)
        _save_map(found, grid, seen, folder / MAPS / name)
        read = meaning(method, target, _nearer(row, model), _extent(grid))
        overlay = slices.Overlay.of(found, grid, read.unit, read.factor)
        shown |= {"explanation": read.sentence, "map_file": f"{MAPS}/{name}", "reading": read}
        if changes is not None:
            own = table.regions["name"] == record["name"]
            table.regions.loc[own, "attribution"] = changes * (100 if target == "class" else 1)
            table.regions.loc[own, "attribution_unit"] = _unit(target, _nearer(row, model))
    shown["brain"] = slices.drawn(seen.scan.volume, seen.scan.affine, overlay)
    rows = table.regions[table.regions["name"] == record["name"]]
    return {
        **shown,
        "answer": answer_of(row, record, model, table.scale),
        "regions": section(rows, dataset.contract.modality),
    }


def _unit(target: str, name: str) -> str:
    """What an attribution by region is, in words."""
    if target == "similarity":
        return f"change of {ASKED[target].format(name=name)}, a cosine"
    return f"percentage points of {ASKED[target].format(name=name)}"


def _nearer(row: Mapping[str, Any], model: Model) -> str:
    """The class that a map explains: the one that the network's own number speaks for, also where it is not called."""
    control, patient = model.card["class_names"]
    point = float(model.card["validation"]["val_threshold"])
    return str(patient if row[f"probability_{patient}"] >= point else control)


def _extent(grid: Grid) -> float:
    """The longest side of a grid, mm."""
    return float((np.array(grid.shape) * np.linalg.norm(grid.matrix[:3, :3], axis=0)).max())


def _map(
    row: Mapping[str, Any], model: Model, dataset: CheckedDataset, seen: Examination, method: str, target: str
) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """What speaks for the predicted class, on the model's grid, and of the method `regions` the change by each."""
    index = list(model.card["class_names"]).index(_nearer(row, model))
    device = next(model.classifier.parameters()).device
    volume = dataset.preprocess(seen)[None].to(device)
    healthy = torch.as_tensor(model.record.healthy, dtype=torch.float32, device=device)[None]
    own_grid = _input_grid(dataset.contract.grid, volume.shape[2:])
    tissue = dataset.contract.modality.tissue
    weights = region_weights(own_grid, tissue) if method == "regions" else None
    classifier = model.classifier if weights is None else near(model.classifier, volume)
    assert isinstance(classifier, Classifier)
    question = Question(method, classifier, index, reference=healthy, weights=weights)
    if target == "similarity":
        groups = [model.record.embeddings.centre(index), model.record.embeddings.centre()]
        means = [torch.as_tensor(g, dtype=torch.float32, device=device) for g in groups]
        likeness = Similarity(classifier, *means)
        question = replace(question, network=likeness, index=1, probability=False)
    changes = None
    if weights is not None:
        changes = regional_changes(question, volume)
        found = in_regions(changes, weights, volume.shape[2:])
    else:
        found = explain(question, volume)
    return to_grid(found, own_grid.matrix, dataset.contract.grid), changes


def _input_grid(grid: Grid, shape: Sequence[int]) -> Grid:
    """The grid of a network's input, which preprocessing may have made coarser over the same box."""
    factor = np.array(grid.shape) / np.array(shape)
    affine = grid.matrix
    affine[:3, 3] += affine[:3, :3] @ ((factor - 1) / 2)
    affine[:3, :3] *= factor
    return Grid.of(shape, affine)


def _save_map(found: NDArray[np.float32], grid: Grid, seen: Examination, path: Path) -> None:
    assert seen.scan is not None
    own = Grid.of(seen.scan.volume.shape, seen.scan.affine)
    image = nib.Nifti1Image(to_grid(found, grid.matrix, own), seen.scan.affine)
    with replacing(path) as temporary:
        nib.save(image, temporary)


def index_page(
    rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], table: PredictionTable, file: str = TABLE
) -> str:
    """The page that lists all scans of a folder.

    Args:
        rows: Rows of the table, each with `page`, its page or nothing.
        facts: Facts of the model.
        table: Table whose model and scale they are.
        file: Beside the page that holds the rows.
    """
    verdicts = pd.Series([row["verdict"] for row in rows]).value_counts()
    counts = f"{len(rows)} scans: " + ", ".join(f"{n} {verdict}" for verdict, n in verdicts.items())
    known = {"title": "Predictions", "counts": counts, "model": facts, "kind": "verdict", "kinds": list(verdicts.index)}
    return render("index.html", {**known, "file": file, "scans": list(_index_rows(rows, table))})


def _index_rows(rows: Sequence[Mapping[str, Any]], table: PredictionTable) -> Iterator[dict[str, Any]]:
    embeddings = table.model.record.embeddings
    for row in rows:
        texts = {key: row[key] for key in ("participant_id", "verdict")}
        texts["answer"] = headline(row, table.scale)
        texts["percentile"] = "" if row["verdict"] == REFUSE else percentile_text(row["distance_percentile"])
        texts["brain_age"] = "" if row["answer"] == CANNOT else age_in_words(row["brain_age"], embeddings)
        texts["reason"], _, more = str(row["reasons"]).partition(" | ")
        texts["reason"] += " …" if more else ""
        texts["predicted"] = row["predicted"] if isinstance(row["predicted"], str) else ""
        order = {"severity": VERDICTS.index(row["verdict"]), "probability": decimals(row["calibrated_probability"], 6)}
        order["age"] = decimals(row["brain_age"], 1) if texts["brain_age"] else ""
        yield {**texts, **order, "page": row["page"]}
