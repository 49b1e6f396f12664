"""Grey-matter maps that CAT12, CAT26, T1Prep, deepmriprep or `prepare` have made, with their volumes and quality."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from bundle.preparation.outcome import FAIL, OK, TISSUES, WARN, Made, Outcome
from bundle.preparation.record import Record, read_record
from bundle.scans.contract import REFUSE, Contract, Examination
from bundle.scans.grid import NEWER, REFERENCE, is_exact
from bundle.scans.made_by import UNKNOWN, pipeline_of
from bundle.scans.map_names import scan_of
from bundle.scans.names import BIDS_ID, safe_names, stem_of
from bundle.scans.nifti import VolumeError
from bundle.scans.placement import grid_of, in_words
from bundle.scans.reports import MARKS, Report, ReportError, report_of
from bundle.scans.scan import find_scans

RATINGS = ("IQR", "SIQR")  # marks of the whole image, of which the first that is there counts
POOR = 3.5  # mark of CAT12's rating above which images are called problematic here
_APART = 0.1  # of the reported grey matter by which the map may differ
_CUT = 1e-4  # of the map that may lie outside of the grid
_NO_SIZE = "The total intracranial volume is not known: no report with volumes lies beside the map."


def find_made(folder: Path) -> list[Made]:
    """List the grey-matter maps below a folder, with what their pipelines report of them.

    Args:
        folder: Output of CAT12, CAT26, T1Prep or deepmriprep, in any of their orders of folders; searched to any depth.

    Returns:
        Maps in the order of their paths; T1w scans and other outputs are left to `find_heads`.
    """
    paths = [path for path in find_scans(folder) if scan_of(PurePosixPath(path.relative_to(folder).as_posix()))]
    scans = [scan_of(path) for path in paths]
    wanted = [found[0] if (found := BIDS_ID.search(scan)) else scan for scan in scans]
    return [made_of(path, name) for path, name in zip(paths, safe_names(wanted, [*map(str, paths)]), strict=True)]


def made_of(path: Path, name: str = "") -> Made:
    """What is known of a map from the files beside it.

    Args:
        path: Path of a map whose name `map_names.scan_of` knows.
        name: Name that it gets; empty: that of its scan.
    """
    name = name or scan_of(path)
    if record := own_record(path):
        return _of_record(path, name, record)
    remarks, doubts = [*_grid_remarks(path)], []
    try:
        report = report_of(path, scan_of(path))
    except ReportError as error:
        report = None
        doubts.append(f"The report beside the map {error}.")
    if report is None:
        stated = pipeline_of(path)
        pipeline, _, version = stated.partition(" ")
        report = Report(pipeline, version)
    if "tiv" not in report.volumes:
        remarks.append(_NO_SIZE)
    if "gm" not in report.volumes:
        remarks.append("The volume of grey matter is the sum of the map: no report gives it.")
    if (rating := _rating(report.quality)) and rating[1] > POOR:
        doubts.append(f"{report.pipeline} rates the image quality {rating[1]:.1f} (1 = excellent, 6 = unusable).")
    found = (report.pipeline, report.version, report.volumes, report.quality)
    return Made(path, name, *found, tuple(remarks), tuple(doubts))


def own_record(path: Path) -> Record | None:
    """The record that `prepare` wrote of a map; None of maps that lie where others made them.

    Args:
        path: Path of the map.
    """
    record = read_record(path.with_name(f"{stem_of(path.name)}.json"))
    return record if record is not None and record.map else None


def rated(made: Made) -> str:
    """The pipeline's mark of the whole image in words, such as `IQR 2.1`; empty where it gives none.

    Args:
        made: The map.
    """
    found = _rating(made.quality)
    return f"{found[0]} {found[1]:.1f}" if found else ""


def stated_of(made: Made) -> dict[str, Any]:
    """What records say of the pipeline of a map that was taken; another report is another `report`.

    Args:
        made: The map.
    """
    said = json.dumps([dict(made.volumes), dict(made.quality), made.remarks, made.doubts], sort_keys=True)
    digest = hashlib.sha256(said.encode()).hexdigest()[:16]
    return {"name": made.pipeline, "version": made.version, "report": digest}


def take_made(made: Made) -> Outcome:
    """Take a map as it is: every value is kept, on the grid that models read.

    Args:
        made: The map.

    Returns:
        `ok`; `warn` where its pipeline rates it poorly, its head size is not known or its values are unusual;
        `fail` where its values cannot be those of grey matter.

    Raises:
        VolumeError: It cannot be read, or voxels do not coincide with those of the grid.
    """
    _require_whole_voxels(made.path)
    seen = Contract().examine(made.path)
    if seen.volume is None or seen.scan is None or seen.measures is None:
        raise VolumeError(" ".join(seen.reasons))
    known = {"gm": float(seen.measures["grey matter"]), **made.volumes}
    volumes = {tissue: known[tissue] for tissue in TISSUES if tissue in known}
    reasons = (*seen.reasons, *made.doubts, *_doubts(made, seen))
    status = FAIL if seen.verdict == REFUSE else WARN if reasons else OK
    return Outcome(status, reasons, made.quality, volumes, seen.volume, None, stated_of(made))


def _of_record(path: Path, name: str, record: Record) -> Made:
    """What `prepare` wrote of a map."""
    quality = {mark: value for mark, value in record.measures.items() if mark in MARKS}
    pipeline, version = (str(record.pipeline.get(part, "")) for part in ("name", "version"))
    volumes = {tissue: value for tissue, value in record.volumes.items() if value is not None}
    return Made(path, name, pipeline or UNKNOWN, version, volumes, quality, record.remarks, record.reasons)


def _rating(quality: Mapping[str, float]) -> tuple[str, float] | None:
    return next(((mark, quality[mark]) for mark in RATINGS if mark in quality), None)


def _doubts(made: Made, seen: Examination) -> Iterator[str]:
    """What the map itself tells against it, or against its report."""
    assert seen.scan is not None
    assert seen.volume is not None
    assert seen.measures is not None
    if "tiv" not in made.volumes:
        yield _NO_SIZE
    if made.pipeline == UNKNOWN:
        yield "Nothing says which pipeline made the map, or whether it is modulated."
    total, stated = seen.measures["grey matter"], made.volumes.get("gm", 0.0)
    if stated and abs(total / stated - 1) > _APART:
        yield (
            f"The report gives {stated:.0f} mL of grey matter, and the map holds {total:.0f} mL: is the report that of "
            "another scan, or the map not modulated?"
        )
    whole = float(seen.scan.volume.sum(dtype=np.float64))
    lost = whole - float(seen.volume.sum(dtype=np.float64))
    if lost > _CUT * whole:
        yield f"{100 * lost / whole:.1f} % of its grey matter lies outside of {REFERENCE} and was cut off."


def _require_whole_voxels(path: Path) -> None:
    """Refuse a map whose values would have to be interpolated."""
    try:
        grid = grid_of(path)
    except VolumeError as error:
        raise VolumeError(f"The map {str(error).rstrip('.')}.") from error
    if grid is None or not is_exact(grid.shape, grid.matrix, REFERENCE):
        lies = "an unknown grid" if grid is None else in_words(grid)
        raise VolumeError(
            f"The map lies on {lies}, expected {in_words(REFERENCE)}, or voxels that coincide with these. Its values "
            "would have to be interpolated: make it again with voxels of 1.5 mm, or give the T1w scan."
        )


def _grid_remarks(path: Path) -> Iterator[str]:
    try:
        grid = grid_of(path)
    except VolumeError as error:
        yield f"The map {str(error).rstrip('.')}."
        return
    if grid is not None and grid.is_same(NEWER.shape, NEWER.matrix):
        yield "It lies on the smaller box of newer versions; it is brought onto the model's grid voxel by voxel."
    elif grid is not None and not is_exact(grid.shape, grid.matrix, REFERENCE):
        yield f"It lies on {in_words(grid)}, expected {REFERENCE}."
    elif grid is not None and not grid.is_same(REFERENCE.shape, REFERENCE.matrix):
        yield f"It lies on {in_words(grid)}; it is brought onto the model's grid voxel by voxel."
