"""A page for each scan that was prepared, with what a person has to look at, and an index of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from bundle.drawing import BLUE, ORANGE
from bundle.pages import filled
from bundle.pages.pictures import GREY, chart, data_uri, finished
from bundle.preparation.contours import Outline, middle, tiles
from bundle.preparation.outcome import FAIL, TISSUES, Layers, Outcome
from bundle.preparation.output import SET_ASIDE, Folder
from bundle.preparation.quality import LIMITS, expected, verdict_of
from bundle.preparation.record import STATUSES, Record
from bundle.scans.grid import REFERENCE, Grid, templates, to_grid

TEMPLATES = Path(__file__).parent / "templates"
# Okabe & Ito's yellow, vermilion and sky blue, told apart by colour-blind readers and on grey.
YELLOW, VERMILION, SKY = (240, 228, 66), (213, 94, 0), (86, 180, 233)
WORDS = {"tiv": "intracranial volume (TIV)", "gm": "grey matter", "wm": "white matter", "csf": "cerebrospinal fluid"}


def scan_page(record: Record, image: SpatialImage | None = None, outcome: Outcome | None = None) -> str:
    """The page of a scan.

    Args:
        record: What is known of it.
        image: The scan as it was given; None where it could not be read.
        outcome: What the preparation gave; None where it did not come to an end.
    """
    layers, found = (outcome.layers, outcome.map) if outcome else (None, None)
    content = {
        "title": record.name,
        "scan": record,
        "set_aside": SET_ASIDE if record.map and not record.is_usable else "",
        "volumes": list(_volumes(record)),
        "checks": list(_checks(record.measures)),
        "pictures": _shown(image, outcome),
        "charts": [*(_tissue_chart(layers) if layers else ()), *(_map_chart(found) if found is not None else ())],
        "facts": _facts(record),
    }
    return filled(TEMPLATES, "scan.html", "", content)


def thumbnail(image: SpatialImage | None, outcome: Outcome) -> bytes:
    """A small picture of a brain with its grey matter, of a map that was taken, or of a scan that was given up early.

    Args:
        image: The scan; None of a map that was taken.
        outcome: Outcome of the preparation.

    Returns:
        A WebP file; nothing where there is nothing to show.
    """
    layers = outcome.layers
    if layers is None and outcome.map is not None:
        return middle(outcome.map, REFERENCE.matrix, *_over_the_template())
    if layers is None:
        return b"" if image is None else _small_head(*_head(image))
    return middle(layers.brain, layers.affine, [Outline(layers.gm, VERMILION)], layers.mask, _white(layers))


def index_page(records: Sequence[Record], folder: Folder) -> str:
    """The page that lists all scans of a folder, those that failed first.

    Args:
        records: Records of all scans.
        folder: Folder which holds their pages and small pictures.
    """
    statuses = Counter(record.status for record in records)
    known = [status for status in STATUSES if statuses[status]]
    counts = f"{len(records)} scans: " + ", ".join(f"{statuses[status]} {status}" for status in known)
    pipelines = {f"{p['name']} {p.get('version', '')}" for record in records if "name" in (p := record.pipeline)}
    content = {
        "title": "Prepared scans",
        "counts": counts,
        "kind": "status",
        "kinds": known,
        "tissues": [name.upper() for name in TISSUES],
        "scans": [_index_row(record, folder) for record in records],
        "facts": [("pipeline", ", ".join(sorted(pipelines)))] if pipelines else [],
    }
    return filled(TEMPLATES, "index.html", "table.js", content)


def _index_row(record: Record, folder: Folder) -> dict[str, Any]:
    page, picture = folder.page_of(record.name), folder.thumbnail_of(record.name)
    volumes = [
        {
            "name": tissue.upper(),
            "ml": f"{record.volumes[tissue]:.0f}" if record.volumes.get(tissue) is not None else "",
        }
        for tissue in TISSUES
    ]
    return {
        "name": record.name,
        "page": page.relative_to(folder.path).as_posix() if page.is_file() and record.status != "refused" else "",
        "thumbnail": data_uri(picture.read_bytes(), "image/webp") if picture.is_file() else "",
        "status": record.status,
        "severity": STATUSES.index(record.status),
        "reason": record.reasons[0] + (" …" if len(record.reasons) > 1 else "") if record.reasons else "",
        "volumes": volumes,
    }


def _volumes(record: Record) -> Iterator[dict[str, str]]:
    total = record.volumes.get("tiv", 0.0)
    for tissue in (name for name in TISSUES if record.volumes.get(name) is not None):
        ml = record.volumes[tissue]
        share = f"{100 * ml / total:.0f}" if total and tissue != "tiv" else ""
        yield {"name": WORDS.get(tissue, tissue), "ml": f"{ml:.0f}", "share": share}


def _checks(measures: Mapping[str, float]) -> Iterator[dict[str, str]]:
    """Each measure with its limits."""
    for name, value in measures.items():
        if (limit := LIMITS.get(name)) is None:
            yield {"name": name.replace("_", " "), "value": str(value)}
            continue
        known = value is not None and np.isfinite(value)  # JSON has null for a number that is not finite
        yield {
            "name": limit.label.removeprefix("the ").rstrip(","),
            "value": f"{value:,.{limit.digits}f} {limit.unit}".rstrip() if known else "not measured",
            "usual": expected(name),
            "possible": expected(name, FAIL),
            "status": verdict_of(name, value if known else np.nan),
        }


def _shown(image: SpatialImage | None, outcome: Outcome | None) -> dict[str, list[dict[str, str]]]:
    """What a person looks at; of a map that was taken there is no scan."""
    if image is not None:
        return _pictures(outcome.layers if outcome else None, image)
    if outcome is None or outcome.map is None:
        return {}
    return {"map": tiles(outcome.map, REFERENCE.matrix, *_over_the_template())}


def _over_the_template() -> tuple[list[Outline], NDArray[np.bool_], float]:
    """How a map is drawn: outlines of the template's brain and grey matter, where its brain is, and white."""
    known = templates(REFERENCE)
    brain = known["brain"] > 0.5
    return [Outline(known["brain"], YELLOW), Outline(known["grey matter"], VERMILION)], brain, 1.0


def _pictures(layers: Layers | None, image: SpatialImage) -> dict[str, list[dict[str, str]]]:
    """What a person looks at; of a scan that was given up early, the scan alone."""
    head, affine = _head(image)
    if layers is None:
        return {"head": tiles(head, affine, [], *_lit(head))}
    given = to_grid(head, affine, Grid.of(layers.brain.shape, layers.affine))
    inside = given[layers.mask]
    bright = float(np.percentile(inside, 99)) if inside.size else 1.0
    tissues = [Outline(layers.wm, SKY), Outline(layers.gm, VERMILION)]
    space = REFERENCE.matrix
    return {
        "mask": tiles(given, layers.affine, [Outline(layers.mask, YELLOW)], layers.mask, bright or 1.0),
        "tissues": tiles(layers.brain, layers.affine, tissues, layers.mask, _white(layers)),
        "warped": tiles(
            layers.template_gm, space, [Outline(layers.warped_gm, VERMILION)], layers.template_gm > 0.1, 1.0
        ),
    }


def _head(image: SpatialImage) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Values and affine of a scan."""
    return np.asarray(image.dataobj, dtype=np.float32).reshape(image.shape[:3]), np.asarray(image.affine, dtype=float)


def _small_head(head: NDArray[np.float32], affine: NDArray[np.float64]) -> bytes:
    return middle(head, affine, [], *_lit(head))


def _lit(head: NDArray[np.float32]) -> tuple[NDArray[np.bool_], float]:
    """What slices of a head pass through, and the intensity that is drawn white."""
    return head > head.mean(), float(np.percentile(head, 99.5)) or 1.0


def _white(layers: Layers) -> float:
    """The intensity that is drawn white: a little above that of white matter."""
    inside = layers.brain[layers.mask]
    return (1.1 * float(np.percentile(inside, 98)) if inside.size else 0.0) or 1.0


def _tissue_chart(layers: Layers) -> Iterator[dict[str, str]]:
    """Intensities of the tissues."""
    figure, axes = chart()
    edges = np.linspace(0, _white(layers), 60)
    fluid = layers.mask & (layers.gm + layers.wm < 0.5)
    for inside, colour, name in (
        (fluid, GREY, "cerebrospinal fluid"),
        (layers.gm > 0.5, ORANGE, "grey matter"),
        (layers.wm > 0.5, BLUE, "white matter"),
    ):
        axes.hist(layers.brain[inside], bins=edges.tolist(), color=colour, alpha=0.6, label=name, histtype="stepfilled")
    axes.set(xlabel="T1w intensity after bias correction", ylabel="voxels")
    yield {
        "image": finished(figure),
        "alt": "Histogram of the T1w intensities of each tissue.",
        "words": "Tissues that a T1w scan tells apart have peaks that stand apart: fluid dark, white matter bright.",
    }


def _map_chart(found: NDArray[np.float32]) -> Iterator[dict[str, str]]:
    """Values of the map."""
    figure, axes = chart()
    axes.hist(found[found > 0.05], bins=60, color=ORANGE, label="voxels above 0.05", histtype="stepfilled")
    axes.set(xlabel="modulated grey matter", ylabel="voxels")
    yield {
        "image": finished(figure),
        "alt": "Histogram of the values of the grey-matter map.",
        "words": "Values above 1 are places that the warp has made smaller; a few are usual.",
    }


def _facts(record: Record) -> list[tuple[str, str]]:
    """What made the map."""
    pipeline = record.pipeline
    facts = [("pipeline", f"{pipeline['name']} {pipeline.get('version', '')}")] if "name" in pipeline else []
    software = pipeline.get("software", {})
    if isinstance(software, Mapping) and software:
        facts.append(("software", ", ".join(f"{name} {version}" for name, version in software.items())))
    if record.seconds:
        parts = ", ".join(f"{name} {value:.0f}" for name, value in record.seconds.items())
        facts.append(("CPU seconds", f"{sum(record.seconds.values()):.0f} ({parts})"))
    if "threads" in pipeline:
        facts.append(("threads", str(pipeline["threads"])))
    if record.input:
        facts.append(("input, sha256", record.input["sha256"]))
    if record.map:
        facts.append(("map", record.map["file"]))
    return facts
