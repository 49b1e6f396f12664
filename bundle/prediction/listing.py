"""Which scans to predict: a scan, a folder, a table, a table of participants with a pattern, or a datalist."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bundle.cohort.columns import find_columns, name_columns
from bundle.cohort.datalist import load_sections
from bundle.cohort.participants import CohortError, Faults, Problem
from bundle.cohort.quantities import ages
from bundle.cohort.sheet import ENDINGS, read_table
from bundle.cohort.table import match_images, pattern_rows
from bundle.hints import quoted
from bundle.scans.names import BIDS_ID, safe_names
from bundle.scans.scan import find_scans

_ADVICE = "Correct these rows, or leave them out of the table."
_IN_YEARS = "divide them, or write DICOM's ages, such as 864M, in the table: they are in"


def list_scans(source: str | Path, images: str | None = None) -> list[dict[str, Any]]:
    """Which scans to predict.

    Args:
        source: a scan; a folder, searched to any depth; a datalist (.json), all its sections; or a table (.tsv, .csv,
            .xlsx) with a column `file`, relative to the table, and optionally `participant_id` and `age`.
        images: pattern of the images from the table's folder, such as `mri/mwp1{participant_id}.nii`, for a table of
            participants that names no files; None for any other source.

    Returns:
        Records of `image`, `participant_id`, `age` (years, NaN = unknown) and `name`, unique and safe as a file name.

    Raises:
        ValueError: when there is none, or a table has rows that are not certain.
    """
    source = Path(source)
    is_table = source.suffix.lower() in ENDINGS and not source.is_dir()
    if images and not is_table:
        raise ValueError(f"--images goes with a table of participants, but {source} is none; leave it out.")
    if source.is_dir():
        records = [_record(path, "", math.nan) for path in find_scans(source)]
    elif is_table:
        records = _from_participants(source, images) if images else _from_table(source)
    elif source.suffix.lower() == ".json":
        records = _from_datalist(source)
    else:
        records = [_record(source, "", math.nan)]
    if not records:
        raise ValueError(f"{source} holds no scan; give a scan, a folder of scans, a datalist, or a table.")
    return _named(records)


def _from_table(table: Path) -> list[dict[str, Any]]:
    """A table that names the files."""
    cells = read_table(table)
    used = find_columns(cells, {}, ("image", "participant_id", "age"), table, options=False)
    if "image" not in used:
        raise ValueError(
            f"{table} has no column 'file'; it has {quoted(cells.columns)}. Name the files there, or say where the "
            "images are with --images 'mri/mwp1{participant_id}.nii'."
        )
    empty = pd.Series("", index=cells.index)
    ids = cells[used["participant_id"]] if "participant_id" in used else empty
    texts = cells[used["age"]] if "age" in used else empty
    files = cells[used["image"]]
    nameless = [(int(row), "names no file; give it one") for row in cells.index[files == ""]]
    return _certain([table.parent / name for name in files], ids, texts, nameless, used.get("age", "age"))


def _from_participants(table: Path, images: str) -> list[dict[str, Any]]:
    """A table of participants, whose images are found as `cohort` finds them."""
    cells = read_table(table)
    texts, used = name_columns(cells, {}, table, options=False)
    paths, faults = match_images(images, table, pattern_rows(images, cells.assign(**texts)))
    places = [Path(path or "") for path in paths]
    return _certain(places, texts["participant_id"], texts["age"], faults, used.get("age", "age"))


def _from_datalist(datalist: Path) -> list[dict[str, Any]]:
    found = [record for records in load_sections(datalist, cached=False).values() for record in records]
    texts = pd.Series(["" if math.isnan(r["age"]) else f"{r['age']!r}" for r in found], dtype=object)
    ids = pd.Series([str(r["participant_id"]) for r in found], dtype=object)
    return _certain([Path(r["image"]) for r in found], ids, texts, [], "age")


def _certain(
    paths: Sequence[Path], ids: pd.Series, texts: pd.Series, faults: Faults, column: str
) -> list[dict[str, Any]]:
    """Records of rows, or a refusal that names all rows that are not certain."""
    years, wrong = ages(texts, column=column, other_unit=_IN_YEARS)
    if faults or wrong:
        problems = [Problem(ids[row], "", "", f"row {row + 1}: {reason}") for row, reason in sorted([*faults, *wrong])]
        raise CohortError(problems, _ADVICE)
    return [_record(*row) for row in zip(paths, ids, years, strict=True)]


def _record(path: Path, participant: str, age: float) -> dict[str, Any]:
    found = BIDS_ID.search(path.name)
    name = participant or (found[0] if found else path.name.split(".")[0])
    return {"image": str(path), "participant_id": name, "age": float(age)}


def _named(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give each record a file name of safe characters, different from all others."""
    names = safe_names([r["participant_id"] for r in records], [r["image"] for r in records])
    return [{**record, "name": name} for record, name in zip(records, names, strict=True)]
