"""Which scans to predict: a scan, a folder, or a table."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bundle.cohort.participants import read_table
from bundle.hints import quoted
from bundle.scans.scan import find_scans

IMAGE_COLUMNS = ("file", "image", "path", "scan")
_BIDS_ID = re.compile(r"sub-[A-Za-z0-9]+(?:_ses-[A-Za-z0-9]+)?")


def list_scans(source: str | Path) -> list[dict[str, Any]]:
    """Which scans to predict.

    Args:
        source: a scan; a folder, searched to any depth; or a table (.tsv, .csv) with a column `file`, relative to the
            table, and optionally `participant_id` and `age`.

    Returns:
        Records of `image`, `participant_id`, `age` (years, NaN = unknown) and `name`, unique and safe as a file name.

    Raises:
        ValueError: when there is none.
    """
    source = Path(source)
    if source.is_dir():
        records = [_record(path, "", np.nan) for path in find_scans(source)]
    elif source.suffix.lower() in (".tsv", ".csv"):
        records = _from_table(source)
    else:
        records = [_record(source, "", np.nan)]
    if not records:
        raise ValueError(f"{source} holds no scan; give a scan, a folder of scans, or a table with a column 'file'.")
    return _named(records)


def _from_table(table: Path) -> list[dict[str, Any]]:
    rows = read_table(table)
    column = next((name for name in IMAGE_COLUMNS if name in rows), None)
    if column is None:
        raise ValueError(f"{table} has no column {quoted(IMAGE_COLUMNS)}; it has {quoted(rows.columns)}.")
    ids = rows.get("participant_id", pd.Series("", index=rows.index))
    ages = pd.to_numeric(rows.get("age", pd.Series(np.nan, index=rows.index)), errors="coerce")
    paths = [table.parent / name for name in rows[column]]
    return [_record(*row) for row in zip(paths, ids, ages, strict=True)]


def _record(path: Path, participant: str, age: float) -> dict[str, Any]:
    found = _BIDS_ID.search(path.name)
    name = participant or (found[0] if found else path.name.split(".")[0])
    return {"image": str(path), "participant_id": name, "age": float(age)}


def _named(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give each record a file name of safe characters; where two would be the same, the path tells them apart."""
    names = [re.sub(r"[^A-Za-z0-9_-]", "_", r["participant_id"])[:60] or "scan" for r in records]
    lower = [name.lower() for name in names]
    for number, (record, name) in enumerate(zip(records, names, strict=True)):
        digest = hashlib.sha256(f"{record['image']} {number}".encode(errors="surrogateescape")).hexdigest()[:8]
        plain = lower.count(name.lower()) == 1 and name == record["participant_id"]
        record["name"] = name if plain else f"{name}_{digest}"
    return records
