"""What pipelines report beside their maps: volumes, quality and version, from XML, JSON and tables."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

from bundle.files import read_json
from bundle.scans.names import stem_of

LARGEST = 16 << 20  # bytes of a report
CGW = ("csf", "gm", "wm")  # CAT12's and T1Prep's order of tissues
MARKS = ("IQR", "SIQR", "NCR", "ICR", "res_RMS", "res_ECR", "contrastr")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
TABLE = "deepmriprep_outputs.csv"  # of all scans, above or beside their maps
ABOVE = 5  # folders above a map in which the table is looked for
_DEEPMRIPREP = {"tiv": "tiv", "gm": "gmv", "wm": "wmv", "csf": "csfv"}  # names of its outputs
_COLUMNS = {"tiv": "tiv_cm3", "gmv": "gmv_cm3", "wmv": "wmv_cm3", "csfv": "csfv_cm3"}


@dataclass(frozen=True)
class Report:
    """What a pipeline says of a scan.

    Attributes:
        pipeline: Its name.
        version: Its version; empty where it says none.
        volumes: mL of `tiv`, `gm`, `wm` and `csf`, those that it gives.
        quality: The pipeline's own ratings: of CAT12 and T1Prep marks from 1 (excellent) to 6, of deepmriprep the
            losses of its registrations.
    """

    pipeline: str
    version: str = ""
    volumes: Mapping[str, float] = field(default_factory=dict)
    quality: Mapping[str, float] = field(default_factory=dict)


class ReportError(ValueError):
    """A report that cannot be read; the message is a sentence without its subject."""


class _WithoutDoctype(ElementTree.TreeBuilder):
    """Builds a tree, and refuses what could define entities, which may stand for gigabytes or for other files."""

    def doctype(self, name: str, pubid: str, system: str) -> None:  # noqa: ARG002
        """Called at the beginning of a document type, before what it defines is read."""
        raise ReportError("holds a document type, which may define entities; it is not read")


def report_of(path: Path, scan: str) -> Report | None:
    """What the pipeline says of a map; None where nothing is found.

    Args:
        path: Path of the map.
        scan: Name of the scan that it was made from, as of `map_names.scan_of`.

    Raises:
        ReportError: There is a report, and it cannot be read.
    """
    beside, above = path.parent, path.parent.parent
    if ours := read_ours(path.with_name(f"{stem_of(path.name)}.json")):
        return ours
    if found := _first_existing(_named(beside, above, (f"cat_{scan}.xml", f"{scan}_cat.xml"))):
        return read_cat(found)
    if found := _first_existing(_named(beside, above, (f"log_{scan}.json", f"{scan}_log.json"))):
        return read_t1prep(found)
    row = _row(path)

    def cell(output: str) -> str:
        file = _first_existing(_deepmriprep_files(path, scan, output))
        rows = rows_of(file) if file else []
        return row.get(f"{output}_value", "") or (rows[0].get(_COLUMNS.get(output, "0"), "") if len(rows) == 1 else "")

    report = read_deepmriprep(cell)
    return report if report.volumes else None


def read_cat(path: Path) -> Report:
    """Read `cat_*.xml` of CAT12 or CAT26.

    Args:
        path: The report.

    Raises:
        ReportError: It is damaged, too large, or could define entities.

    Source:
        `cat_vol_qa.m` of CAT12: `vol_abs_CGW` holds CSF, grey and white matter in mL, then lesions.
    """
    _require_size(path)
    parser = ElementTree.XMLParser(target=_WithoutDoctype())
    try:
        with path.open("rb") as stream:
            root = ElementTree.parse(stream, parser).getroot()
    except (ElementTree.ParseError, OSError, LookupError, ValueError) as error:
        said = str(error) if isinstance(error, ReportError) else "is damaged; copy it again"
        raise ReportError(said) from error
    version = " ".join(_first_text(root, "software", word) for word in ("version_cat", "revision_cat")).strip()
    version = version.removeprefix("CAT")  # which some write before the number
    number = re.search(r"\d+", version)
    name = f"CAT{number[0]}" if number and int(number[0]) >= 12 else "CAT12"
    numbers = _block_with_numbers(root, "subjectmeasures", "vol_TIV")
    rated = _block_with_numbers(root, "qualityratings", "IQR", "SIQR", "NCR")
    return Report(name, version, _volumes(numbers), {mark: rated[mark][0] for mark in MARKS if rated.get(mark)})


def read_t1prep(path: Path) -> Report:
    """Read `log_*.json` of T1Prep.

    Args:
        path: The report.

    Raises:
        ReportError: It is damaged, too large, or another file.

    Source:
        `report.py` and `qa.py` of T1Prep 0.8.1: `subjectmeasures` and `qualitymeasures`, each entry with a `value`.
    """
    _require_size(path)
    try:
        content = read_json(path)
    except ValueError as error:
        raise ReportError("is damaged; copy it again") from error
    software = content.get("software") if isinstance(content, Mapping) else None
    if not isinstance(software, Mapping) or "version_t1prep" not in software:
        raise ReportError("is no report of T1Prep")
    measures, marks = (_values(content.get(part)) for part in ("subjectmeasures", "qualitymeasures"))
    quality = {mark: marks[mark][0] for mark in MARKS if marks.get(mark)}
    return Report("T1Prep", _plain(software["version_t1prep"]), _volumes(measures), quality)


def read_ours(path: Path) -> Report | None:
    """Read what `prepare` writes beside a map; None where it is another file, or none.

    Args:
        path: The JSON file.
    """
    try:
        _require_size(path)
        content = read_json(path)
    except (ReportError, ValueError):
        return None
    pipeline = content.get("pipeline") if isinstance(content, Mapping) else None
    if not isinstance(pipeline, Mapping) or not isinstance(pipeline.get("name"), str):
        return None
    stated = content.get("volumes") if isinstance(content.get("volumes"), Mapping) else {}
    known = {tissue: value for tissue in _DEEPMRIPREP if (value := _float(str(stated.get(tissue)))) is not None}
    return Report(_plain(pipeline["name"]), _plain(pipeline.get("version")), known)


def read_deepmriprep(cells: Callable[[str], str]) -> Report:
    """What deepmriprep's tables say of one scan.

    Args:
        cells: Gives the value of an output, such as `tiv`, as a text; empty where there is none.

    Source:
        `preprocess.py` of deepmriprep 0.3.0: volumes are in cm³.
    """
    named = {**_DEEPMRIPREP, "affine_loss": "affine_loss", "warp_mse": "warp_mse"}
    known = {name: value for name, output in named.items() if (value := _float(cells(output))) is not None}
    volumes = {name: value for name, value in known.items() if name in _DEEPMRIPREP}
    return Report("deepmriprep", "", volumes, {name: value for name, value in known.items() if name not in volumes})


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows of a comma-separated table; none where it cannot be read.

    Args:
        path: The table.
    """
    try:
        _require_size(path)
        with path.open(newline="", encoding="utf-8") as stream:
            return [{key: value for key, value in row.items() if key and value} for row in csv.DictReader(stream)]
    except (OSError, UnicodeError, csv.Error, ReportError):
        return []


def _require_size(path: Path) -> None:
    try:
        if path.stat().st_size > LARGEST:
            raise ReportError(f"is larger than {LARGEST >> 20} MiB; it is not read")
    except OSError as error:
        raise ReportError("cannot be opened") from error


def _first_text(root: ElementTree.Element, block: str, name: str) -> str:
    return next((_plain(found.text) for part in root.iter(block) for found in part.iter(name) if found.text), "")


def _block_with_numbers(root: ElementTree.Element, block: str, *names: str) -> dict[str, list[float]]:
    """Numbers of the first block that has them; CAT12 repeats its blocks with explanations in place of numbers."""
    for part in root.iter(block):
        values = {child.tag: _numbers(child.text) for child in part}
        if any(values.get(name) for name in names):
            return values
    return {}


def _numbers(text: object) -> list[float]:
    """Numbers of a text such as `[250.1 612.9 540]`; none where it holds anything else."""
    inner = str(text or "").strip().strip("[]")
    parts = [part for part in re.split(r"[\s;,]+", inner) if part]
    return [float(part) for part in parts] if parts and all(map(_NUMBER.fullmatch, parts)) else []


def _values(part: object) -> dict[str, list[float]]:
    entries = part if isinstance(part, Mapping) else {}
    return {
        str(name): _numbers(str(entry.get("value")).replace(",", " "))
        for name, entry in entries.items()
        if isinstance(entry, Mapping)
    }


def _volumes(measures: Mapping[str, list[float]]) -> dict[str, float]:
    """The total and the tissues, where they are numbers above zero."""
    named = {"tiv": measures.get("vol_TIV", [])[:1]}
    named |= {tissue: [value] for tissue, value in zip(CGW, measures.get("vol_abs_CGW", []), strict=False)}
    return {tissue: value[0] for tissue, value in named.items() if value and math.isfinite(value[0]) and value[0] > 0}


def _float(text: str) -> float | None:
    found = _numbers(text)
    return found[0] if len(found) == 1 and math.isfinite(found[0]) else None


def _plain(text: Any) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]", "", str(text or ""))[:40]


def _named(beside: Path, above: Path, names: tuple[str, ...]) -> Iterator[Path]:
    for place in (above / "report", beside, beside / "report"):
        yield from (place / name for name in names)


def _deepmriprep_files(path: Path, scan: str, output: str) -> Iterator[Path]:
    """Where deepmriprep writes a number of a scan, in each of its orders of folders."""
    beside, above = path.parent, path.parent.parent
    yield beside / f"{output}{scan}.csv"
    yield above / "label" / f"{output}{scan}.csv"
    yield above / output / f"{scan}.csv"
    yield beside / f"{scan}_{output}.csv"


def _row(path: Path) -> Mapping[str, str]:
    """The row of a map in the nearest of deepmriprep's tables; empty where there is none."""
    for place in list(path.absolute().parents)[:ABOVE]:
        table = place / TABLE
        if not table.is_file():
            continue
        stat = table.stat()
        rows = [row for row in _table(table, stat.st_mtime_ns, stat.st_size) if _ends_alike(row.get("mwp1", ""), path)]
        if len(rows) == 1:
            return rows[0]
    return {}


@lru_cache(maxsize=4)
def _table(path: Path, changed: int, size: int) -> list[dict[str, str]]:  # noqa: ARG001
    """Rows of a table of many scans, read again where it has changed."""
    return rows_of(path)


def _ends_alike(stated: str, path: Path) -> bool:
    """Whether a path of another machine ends like the one here: folder and name."""
    return PurePosixPath(stated.replace("\\", "/")).parts[-2:] == path.absolute().parts[-2:]


def _first_existing(places: Iterable[Path]) -> Path | None:
    """The first of several files that is there."""
    return next((place for place in places if place.is_file()), None)
