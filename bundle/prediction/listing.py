"""Which scans to predict: a scan, a folder, a table, a table of participants with a pattern, or a datalist."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bundle.cohort.columns import find_columns, name_columns
from bundle.cohort.datalist import load_sections
from bundle.cohort.participants import CohortError, Faults, Problem, sexes
from bundle.cohort.quantities import ages, head_sizes
from bundle.cohort.sheet import ENDINGS, read_table
from bundle.cohort.table import match_images, pattern_rows
from bundle.hints import quoted
from bundle.people import person_of
from bundle.scans.names import BIDS_ID, safe_names
from bundle.scans.scan import find_scans

_ADVICE = "Correct these rows, or leave them out of the table."
_ASKED = ("participant_id", "age", "sex", "tiv")  # what is read of a person
HEAD_SIZES = "tiv.tsv"  # beside the maps of a folder: how large each head is
_IN_YEARS = "divide them, or write DICOM's ages, such as 864M, in the table: they are in"


def list_scans(source: str | Path, images: str | None = None) -> list[dict[str, Any]]:
    """Which scans to predict.

    Args:
        source: A scan; a folder, searched to any depth; a datalist (.json), all its sections; or a table (.tsv, .csv,
            .xlsx) with a column `file`, relative to the table, and optionally `participant_id`, `age`, `sex` and `tiv`.
            The head sizes of scans may also stand in a table `tiv.tsv` beside them, such as `prepare` writes.
        images: Pattern of the images from the table's folder, such as `mri/mwp1{participant_id}.nii`, for a table of
            participants that names no files; None for any other source.

    Returns:
        Records of `image`, `participant_id`, `age` (years, NaN = unknown), `sex` (F, M, or nothing), `tiv` (mL, NaN =
        unknown) and `name`, unique and safe as a file name.

    Raises:
        ValueError: when there is none, or a table has rows that are not certain.
    """
    source = Path(source)
    is_table = source.suffix.lower() in ENDINGS and not source.is_dir()
    if images and not is_table:
        raise ValueError(f"--images goes with a table of participants, but {source} is none; leave it out.")
    if source.is_dir():
        records = [_record(path) for path in find_scans(source)]
    elif is_table:
        records = _from_participants(source, images) if images else _from_table(source)
    elif source.suffix.lower() == ".json":
        records = _from_datalist(source)
    else:
        records = [_record(source)]
    if not records:
        raise ValueError(f"{source} holds no scan; give a scan, a folder of scans, a datalist, or a table.")
    return named(_with_head_sizes(records))


def _from_table(table: Path) -> list[dict[str, Any]]:
    """A table that names the files."""
    cells = read_table(table)
    used = find_columns(cells, {}, ("image", *_ASKED), table, options=False)
    if "image" not in used:
        raise ValueError(
            f"{table} has no column 'file'; it has {quoted(cells.columns)}. Name the files there, or say where the "
            "images are with --images 'mri/mwp1{participant_id}.nii'."
        )
    texts = pd.DataFrame({name: cells[used[name]] for name in _ASKED if name in used}, index=cells.index)
    files = cells[used["image"]]
    nameless = [(int(row), "names no file; give it one") for row in cells.index[files == ""]]
    return _certain([table.parent / name for name in files], texts, nameless, used)


def _from_participants(table: Path, images: str) -> list[dict[str, Any]]:
    """A table of participants, whose images are found as `cohort` finds them."""
    cells = read_table(table)
    texts, used = name_columns(cells, {}, table, options=False)
    paths, faults = match_images(images, table, pattern_rows(images, cells.assign(**texts)))
    return _certain([Path(path or "") for path in paths], texts, faults, used)


def _from_datalist(datalist: Path) -> list[dict[str, Any]]:
    found = [record for records in load_sections(datalist, cached=False).values() for record in records]
    texts = pd.DataFrame({name: [_text(record[name]) for record in found] for name in _ASKED}, dtype=object)
    records = _certain([Path(record["image"]) for record in found], texts, [], {})
    more = [{"channels": old["channels"]} if "channels" in old else {} for old in found]
    return [{**record, **channels} for record, channels in zip(records, more, strict=True)]


def _text(value: Any) -> str:
    """A value of a datalist as a table would have it."""
    return "" if isinstance(value, float) and math.isnan(value) else str(value)


def _certain(
    paths: Sequence[Path], texts: pd.DataFrame, faults: Faults, used: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Records of rows, or a refusal that names all rows that are not certain.

    Args:
        paths: Paths of the images.
        texts: What is said of each person, as text; columns that are not there are unknown.
        faults: Faults of the rows, found before.
        used: Our names → the table's.
    """
    texts = texts.assign(**{name: "" for name in _ASKED if name not in texts})
    years, wrong = ages(texts["age"], column=used.get("age", "age"), other_unit=_IN_YEARS)
    words, unread = sexes(texts["sex"], None, used.get("sex", "sex"), options=False)
    sizes, odd = head_sizes(texts["tiv"])
    if every := sorted([*faults, *wrong, *unread, *odd]):
        ids = texts["participant_id"]
        raise CohortError([Problem(ids[row], "", "", f"row {row + 1}: {reason}") for row, reason in every], _ADVICE)
    known = zip(paths, texts["participant_id"], years, words.where(words.notna(), ""), sizes, strict=True)
    return [_record(*row) for row in known]


def _record(path: Path, participant: str = "", age: float = math.nan, sex: str = "", tiv: float = math.nan) -> dict:
    found = BIDS_ID.search(path.name)
    name = participant or (found[0] if found else path.name.split(".")[0])
    return {"image": str(path), "participant_id": name, "age": float(age), "sex": sex, "tiv": float(tiv)}


def _with_head_sizes(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Head sizes of the `tiv.tsv` beside the scans, where nothing else has said them."""
    said: dict[Path, dict[str, float]] = {}
    for record in records:
        path = Path(record["image"])
        table = _folder_of(path) / HEAD_SIZES
        if math.isnan(record["tiv"]) and table.is_file():
            if table not in said:
                said[table] = _head_sizes_of(table)
            known = said[table]
            names = (path.name, _plain_name(path.name), person_of(record["participant_id"]))
            record["tiv"] = next((known[name] for name in names if name in known), math.nan)
    return records


def _folder_of(path: Path) -> Path:
    """Where the tables of a scan lie: beside it, or, where BIDS puts it into folders of its own, beside those."""
    above = [folder for folder in path.parents if folder.name.startswith("sub-")]
    return above[-1].parent if above and path.parent.name == "anat" else path.parent


def _plain_name(name: str) -> str:
    """What `prepare` calls the scan of a map: without `mwp1`, endings, and what BIDS adds."""
    return re.sub(r"_space-.*|\.(nii|nii\.gz|npy|mgz)$", "", name).removeprefix("mwp1")


def _head_sizes_of(table: Path) -> dict[str, float]:
    """Scan or else person → mL; who has several sizes is left out.

    Raises:
        ValueError: when the table does not say which scan is meant, or a size cannot be right.
    """
    cells = read_table(table)
    used = find_columns(cells, {}, ("image", "participant_id", "tiv"), table, options=False)
    if "name" in cells and "image" not in used:
        used["image"] = "name"
    key = next((name for name in ("image", "participant_id") if name in used), "")
    if "tiv" not in used or not key:
        raise ValueError(
            f"{table} needs a column 'tiv' (mL) and one of 'file' or 'participant_id'; add or rename them."
        )
    sizes, faults = head_sizes(cells[used["tiv"]])
    if faults:
        raise ValueError(f"{table}: row {faults[0][0] + 1}: {faults[0][1]}.")
    rows = [(name, size) for text, size in zip(cells[used[key]], sizes, strict=True) for name in _names_of(text, key)]
    found = pd.DataFrame(rows, columns=["name", "size"]).drop_duplicates()
    return dict(found[~found["name"].duplicated(keep=False)].itertuples(index=False, name=None))


def _names_of(text: str, key: str) -> set[str]:
    """What a row may be found by: the person, or the scan, with and without the suffix of a BIDS name."""
    if key == "participant_id":
        return {person_of(text)}
    name = Path(text).name
    return {name, re.sub(r"_[A-Za-z0-9]+$", "", name)} if name.startswith("sub-") else {name}


def file_of(record: Mapping[str, Any]) -> str:
    """What tables say of where a scan lies: its full path; of a prepared one, the path of what was prepared.

    Args:
        record: Training record of `list_scans` or `incoming_scans`.
    """
    return str(Path(record.get("file") or record["image"]).absolute())


def named(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give each record a file name of safe characters, different from all others.

    Args:
        records: Records with `participant_id` and `image`.
    """
    names = safe_names([r["participant_id"] for r in records], [r["image"] for r in records])
    return [{**record, "name": name} for record, name in zip(records, names, strict=True)]
