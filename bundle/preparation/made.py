"""Grey-matter maps that CAT12, CAT26, T1Prep, deepmriprep or `prepare` have made, with their volumes and quality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from bundle.preparation.map_names import scan_of
from bundle.preparation.reports import (
    Report,
    ReportError,
    first_existing,
    read_cat,
    read_deepmriprep,
    read_ours,
    read_t1prep,
    rows_of,
)
from bundle.scans.grid import NEWER, REFERENCE
from bundle.scans.made_by import UNKNOWN, pipeline_of
from bundle.scans.names import BIDS_ID, safe_names, stem_of
from bundle.scans.nifti import VolumeError
from bundle.scans.placement import grid_of, in_words
from bundle.scans.scan import find_scans

TABLE = "deepmriprep_outputs.csv"
_OUTPUTS = {"tiv": "tiv_cm3", "gmv": "gmv_cm3", "wmv": "wmv_cm3", "csfv": "csfv_cm3"}  # deepmriprep's columns
_POOR = 3.5  # mark of CAT12's rating above which images are called problematic here


@dataclass(frozen=True)
class Made:
    """A grey-matter map that is there already.

    Attributes:
        path: The map.
        name: Unique and safe as a file name.
        pipeline: What made it, such as `CAT12`; `unknown` where nothing says it.
        version: Of the pipeline; empty where nothing says it.
        volumes: mL of `tiv`, `gm`, `wm` and `csf`, those that are known.
        quality: The pipeline's own ratings by name.
        remarks: Sentences on what is missing or unusual.
    """

    path: Path
    name: str
    pipeline: str
    version: str = ""
    volumes: Mapping[str, float] = field(default_factory=dict)
    quality: Mapping[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def find_made(folder: Path) -> list[Made]:
    """List the grey-matter maps below a folder, with what their pipelines report of them.

    Args:
        folder: Output of CAT12, CAT26, T1Prep or deepmriprep, in any of their orders of folders; searched to any depth.

    Returns:
        Maps in the order of their paths; T1w scans and other outputs are left to `find_heads`.
    """
    paths = [path for path in find_scans(folder) if scan_of(PurePosixPath(path.relative_to(folder).as_posix()))]
    scans = [scan_of(PurePosixPath(path.as_posix())) for path in paths]
    wanted = [found[0] if (found := BIDS_ID.search(scan)) else scan for scan in scans]
    tables = {place: rows_of(place) for place in sorted(folder.rglob(TABLE))}
    names = safe_names(wanted, [str(path) for path in paths])
    return [_made(path, scan, name, tables) for path, scan, name in zip(paths, scans, names, strict=True)]


def _made(path: Path, scan: str, name: str, tables: Mapping[Path, list[dict[str, str]]]) -> Made:
    remarks = list(_grid_remarks(path))
    try:
        report = _report(path, scan, tables)
    except ReportError as error:
        report = None
        remarks.append(f"The report beside the map {error}.")
    if report is None:
        stated = pipeline_of(path)
        pipeline, _, version = (stated, "", "") if stated == UNKNOWN else stated.partition(" ")
        report = Report(pipeline, version)
    if "tiv" not in report.volumes:
        remarks.append("The total intracranial volume is not known: no report with volumes lies beside the map.")
    rating = report.quality.get("IQR", report.quality.get("SIQR", 0.0))
    if rating > _POOR:
        remarks.append(f"{report.pipeline} rates the image quality {rating:.1f} (1 = excellent, 6 = unusable).")
    return Made(path, name, report.pipeline, report.version, report.volumes, report.quality, tuple(remarks))


def _report(path: Path, scan: str, tables: Mapping[Path, list[dict[str, str]]]) -> Report | None:
    """What the pipeline says of the scan; None where nothing is found."""
    beside, above = path.parent, path.parent.parent
    if found := first_existing(_named(beside, above, "report", (f"cat_{scan}.xml", f"{scan}_cat.xml"))):
        return read_cat(found)
    if found := first_existing(_named(beside, above, "report", (f"log_{scan}.json", f"{scan}_log.json"))):
        return read_t1prep(found)
    if (found := beside / f"{stem_of(path.name)}.json").is_file() and pipeline_of(path) != UNKNOWN:
        return read_ours(found)
    row = _row(path, tables)

    def cell(output: str) -> str:
        file = first_existing(_deepmriprep_files(path, scan, output))
        rows = rows_of(file) if file else []
        column = _OUTPUTS.get(output, "0")
        return row.get(f"{output}_value", "") or (rows[0].get(column, "") if len(rows) == 1 else "")

    report = read_deepmriprep(cell)
    return report if report.volumes else None


def _named(beside: Path, above: Path, folder: str, names: tuple[str, ...]) -> Iterator[Path]:
    for place in (above / folder, beside, beside / folder):
        yield from (place / name for name in names)


def _deepmriprep_files(path: Path, scan: str, output: str) -> Iterator[Path]:
    """Where deepmriprep writes a number of a scan, in each of its orders of folders."""
    beside, above = path.parent, path.parent.parent
    yield beside / f"{output}{scan}.csv"
    yield above / "label" / f"{output}{scan}.csv"
    yield above / output / f"{scan}.csv"
    yield beside / f"{scan}_{output}.csv"


def _row(path: Path, tables: Mapping[Path, list[dict[str, str]]]) -> dict[str, str]:
    """The row of a map in the nearest of deepmriprep's tables; empty where there is none."""
    for place in sorted(tables, key=lambda table: -len(table.parts)):
        if place.parent in path.parents:
            rows = [row for row in tables[place] if _ends_alike(row.get("mwp1", ""), path)]
            if len(rows) == 1:
                return rows[0]
    return {}


def _ends_alike(stated: str, path: Path) -> bool:
    """Whether a path of another machine ends like the one here: folder and name."""
    return PurePosixPath(stated.replace("\\", "/")).parts[-2:] == path.parts[-2:]


def _grid_remarks(path: Path) -> Iterator[str]:
    try:
        grid = grid_of(path)
    except VolumeError as error:
        yield f"The map {str(error).rstrip('.')}."
        return
    if grid is not None and grid.is_same(NEWER.shape, NEWER.matrix):
        yield "It lies on the smaller box of newer versions; it is brought onto the model's grid voxel by voxel."
    elif grid is not None and not grid.is_same(REFERENCE.shape, REFERENCE.matrix):
        yield f"It lies on {in_words(grid)}, expected {REFERENCE}."
