"""From a table of participants and a folder of images to a checked datalist, and back."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from monai.data import load_decathlon_datalist

from bundle.cards import check_format
from bundle.files import read_json, write_text
from bundle.names import nearest, quoted
from bundle.participants import (
    TIV_RANGE,
    CohortError,
    Faults,
    Problem,
    id_faults,
    labels,
    name_columns,
    numbers,
    read_table,
    sexes,
)
from bundle.records import CACHE_FORMAT, RECORD_KEYS, collatable, stored_records
from bundle.volumes import expand_pattern, find_images, pattern_fields, volume_faults

__all__ = [
    "SECTIONS",
    "CohortError",
    "Problem",
    "load_section",
    "load_sections",
    "read_cohort",
    "write_datalist",
    "write_excluded",
]

logger = logging.getLogger(__name__)

SECTIONS = ("training", "validation", "test")
METADATA_COLUMNS = ("age", "sex", "site", "tiv")
_YEARS = "write years as a plain number such as 25.5, or n/a"
_MILLILITRES = "give millilitres (FreeSurfer writes mm³: divide by 1000), or n/a"


def read_cohort(
    table: Path,
    images: str,
    *,
    columns: Mapping[str, str] | None = None,
    label_values: Mapping[str, int] | None = None,
    sex_values: Mapping[str, str] | None = None,
    expected_shape: Sequence[int] | None = (121, 145, 121),
    age_range: tuple[float, float] = (0.0, 120.0),
    workers: int = 2,
) -> tuple[list[dict], list[Problem]]:
    """Read a table of participants, find the image of every row and check both.

    Args:
        table: a tab-, comma- or semicolon-separated file; empty or `n/a` = unknown.
        images: pattern of the image files, absolute or relative to the table's folder, with fields
            of the row: `"mwp1{participant_id}_T1w.nii.gz"`, `"{participant_id}/**/*gm*.npy"`.
        columns: our names → the table's, such as `{"site": "siteXacq"}`, where it does not use
            the common ones; `split` and `study` are kept in the records only when named here.
        label_values: diagnosis → 0 (control) or 1 (patient). Without it 0 and 1 are taken as they
            are, the usual words for controls are 0, and exactly one other word is 1.
        sex_values: code → "F" or "M", beside the words female, male, F and M.
        expected_shape: voxels along each axis; None accepts every 3D shape.
        age_range: lowest and highest plausible age, years.
        workers: threads that read the images.

    Returns:
        Records of the scans without a problem (absolute image path, age in years, tiv in mL, None =
        unknown), and the problems of all others; both in the table's order.

    Raises:
        CohortError: the table, its columns, the pattern or the diagnoses are not understood at all.

    Example:
        >>> records, problems = read_cohort(
        ...     Path("participants.tsv"), "mri/mwp1{participant_id}.nii"
        ... )  # doctest: +SKIP
    """
    table = Path(table)
    cells = read_table(table)
    texts, used = name_columns(cells, columns or {}, table)
    rows = _pattern_rows(images, cells.assign(**texts))
    diagnoses = labels(texts["label"], label_values, used.get("label", ""))
    values, faults = _values(texts, age_range, sexes(texts["sex"], sex_values), diagnoses)
    values["image"], more = _checked_images(images, table, rows, expected_shape, workers)
    return _sorted_out(values, sorted(faults + more, key=lambda fault: fault[0]), table)


def write_excluded(path: Path, problems: Sequence[Problem]) -> None:
    """Write problems as a tab-separated table; with none, only its header.

    Args:
        path: the file to write, usually `excluded.tsv` beside the datalist; images are written
            relative to its folder.
        problems: what `read_cohort` found.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t", lineterminator="\n")
    writer.writerow(field.name for field in fields(Problem))
    for problem in problems:
        participant, session, image, reason = (" ".join(c.split()) for c in astuple(problem))
        image = _relative(problem.image, path) if image else ""
        writer.writerow([participant, session, image, reason])
    write_text(path, buffer.getvalue())


def write_datalist(
    path: Path,
    sections: Mapping[str, list[dict]],
    *,
    description: str,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write MONAI's datalist: images relative to its folder, null = unknown.

    Args:
        path: the JSON file to write.
        sections: records of `training`, `validation` and `test`; one left out is written empty.
        description: where the scans come from, for people.
        extra: further entries at the top, such as `{"licence": "CC0"}`.

    Raises:
        CohortError: a section is unknown, or a record has no image.
    """
    for name in sections:
        if name not in SECTIONS:
            raise CohortError(f"A datalist has no section '{name}'; use {quoted(SECTIONS)}.")
    content: dict[str, Any] = {"description": description, **(extra or {})}
    lists = {name: [_written(r, path) for r in sections.get(name, [])] for name in SECTIONS}
    content |= {f"num{name.capitalize()}": len(records) for name, records in lists.items()} | lists
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def load_section(
    datalist: Path, section: str, metadata_columns: Sequence[str] = (), cached: bool | None = False
) -> list[dict]:
    """Read one section of a datalist, ready for a data loader.

    Images become absolute paths. Unknown values become what a batch can hold: NaN for age and tiv,
    -1 for label, an empty string elsewhere. With `metadata_columns` every item gets `metadata`:
    age in years, tiv in mL, sex F = 0 and M = 1, site = its place in the sorted sites of the whole
    datalist, NaN = unknown.

    Args:
        datalist: the JSON file.
        section: `training`, `validation` or `test`.
        metadata_columns: which of `age`, `sex`, `site`, `tiv` to stack, in this order.
        cached: whether the images are volumes of a cache, which other preprocessing cannot read; None: either.

    Shape:
        `metadata` of an item: (M,), float32.

    Raises:
        CohortError: the file or section is missing, a value is not understood, or an image is or is not `cached`.
        ValueError: a metadata column is unknown.
    """
    for name in metadata_columns:
        if name not in METADATA_COLUMNS:
            raise ValueError(f"No metadata column '{name}'{nearest(name, METADATA_COLUMNS)}")
    datalist = Path(datalist)
    content = _read_json(datalist)
    _require_section(content, datalist, section)
    stored = stored_records(content[section], section, datalist)
    if not stored:  # MONAI fails on an empty test section.
        return []
    loaded = load_decathlon_datalist(datalist, is_segmentation=False, data_list_key=section)
    # Only the image: MONAI makes a path of every string that happens to name one, such as "sub-01".
    paths = [new["image"] for new in loaded]
    items = [collatable({**old, "image": path}) for old, path in zip(stored, paths, strict=True)]
    if cached is not None:
        _require_cached(items, datalist, cached)
    check_format(content.get("cache_format", CACHE_FORMAT), CACHE_FORMAT, datalist)
    if metadata_columns:
        sites = _sites(content)
        for item in items:
            row = [_metadata(item, name, sites) for name in metadata_columns]
            item["metadata"] = np.asarray(row, dtype=np.float32)
    return items


def load_sections(datalist: Path) -> dict[str, list[dict]]:
    """Read all sections that a datalist has, of images or of cached volumes, as `load_section` does.

    Args:
        datalist: the JSON file.

    Raises:
        CohortError: as of `load_section`; and none of the sections is there.
    """
    content = _read_json(Path(datalist))
    names = [name for name in SECTIONS if isinstance(content.get(name), list)]
    if not names:
        raise CohortError(f"The datalist {datalist} has none of the sections {quoted(SECTIONS)}.")
    return {name: load_section(datalist, name, cached=None) for name in names}


# Rows


def _values(
    texts: pd.DataFrame, age_range: tuple[float, float], *parsed: tuple[pd.Series, Faults]
) -> tuple[pd.DataFrame, Faults]:
    ages = numbers("age", texts["age"], age_range, "years", _YEARS)
    volumes = numbers("tiv", texts["tiv"], TIV_RANGE, "mL", _MILLILITRES)
    values = texts.mask(texts == "", None)
    faults = id_faults(texts["participant_id"], texts["session_id"])
    for name, (column, wrong) in zip(("age", "tiv", "sex", "label"), (ages, volumes, *parsed), strict=True):
        values[name] = column
        faults += wrong
    return values, faults


def _pattern_rows(images: str, cells: pd.DataFrame) -> list[dict[str, str]]:
    names = pattern_fields(images)
    for name in names:
        if name not in cells:
            near = nearest(name, cells.columns)
            raise CohortError(f"The image pattern '{images}' names a field {{{name}}}{near}")
    if not names:
        raise CohortError(
            f"The image pattern '{images}' names no field, so every row would get the same files; "
            "write the id where it stands in the file names, such as 'mwp1{participant_id}.nii'."
        )
    return [
        {str(name): value for name, value in row.items()}
        for row in cells[list(dict.fromkeys(names))].to_dict("records")
    ]


def _checked_images(
    pattern: str,
    table: Path,
    rows: Sequence[dict[str, str]],
    expected_shape: Sequence[int] | None,
    workers: int,
) -> tuple[list[str | None], Faults]:
    root = table.absolute().parent
    wanted = [row if all(row.values()) else None for row in rows]
    found, orphans = find_images(pattern, root, wanted)
    owners = Counter(path for paths in found for path in paths)
    faults: Faults = []
    for number, (row, paths) in enumerate(zip(rows, found, strict=True)):
        fault = _match_fault(pattern, root, row, paths, owners)
        faults += [(number, fault)] if fault else []
    chosen = {i: paths[0] for i, paths in enumerate(found) if len(paths) == 1}
    answers = volume_faults(list(chosen.values()), expected_shape, workers)
    faults += [(i, fault) for i, fault in zip(chosen, answers, strict=True) if fault]
    if orphans:
        names = quoted(path.name for path in orphans[:5])
        logger.warning("%d images match no row of %s, first %s", len(orphans), table, names)
    return [os.path.normpath(chosen[i]) if i in chosen else None for i in range(len(rows))], faults


def _match_fault(pattern: str, root: Path, row: dict[str, str], paths: list[Path], owners: Counter[Path]) -> str | None:
    empty = [name for name, value in row.items() if not value]
    if empty:
        return f"{' and '.join(empty)} is unknown, but the image pattern '{pattern}' needs it"
    if not paths:
        wanted = expand_pattern(pattern, row)
        return f"no image matches '{wanted}' in {root}; correct the pattern or leave the row out"
    if len(paths) > 1:
        names = quoted(path.relative_to(root) if path.is_relative_to(root) else path for path in paths[:5])
        return f"{len(paths)} images match, {names}; narrow the pattern '{pattern}' down to one"
    if owners[paths[0]] > 1:
        return (
            f"{owners[paths[0]]} rows match the same image {paths[0].name}; put what tells them "
            f"apart, such as {{session_id}}, into the pattern '{pattern}'"
        )
    return None


def _sorted_out(values: pd.DataFrame, faults: Faults, table: Path) -> tuple[list[dict], list[Problem]]:
    plain = values.astype(object).where(values.notna(), None)
    kept = [*RECORD_KEYS, *(name for name in plain if name not in RECORD_KEYS)]
    records = plain[kept].to_dict("records")
    refused = {row for row, _ in faults}
    who = [(r["participant_id"] or "", r["session_id"] or "", r["image"] or "") for r in records]
    problems = list(dict.fromkeys(Problem(*who[row], reason) for row, reason in faults))  # two rows, one sentence
    logger.info("%s: %d of %d rows can be used", table, len(records) - len(refused), len(records))
    return [_typed(r) for i, r in enumerate(records) if i not in refused], problems


def _typed(record: dict) -> dict:
    return {**record, "label": None if record["label"] is None else int(record["label"])}


# Datalist


def _relative(image: str, file: Path) -> str:
    return Path(os.path.relpath(image, file.absolute().parent)).as_posix()


def _written(record: Mapping[str, Any], path: Path) -> dict[str, Any]:
    if not record.get("image"):
        raise CohortError(f"The record of '{record.get('participant_id')}' names no image.")
    plain = {name: _plain(record.get(name)) for name in (*RECORD_KEYS, *record)}
    return {**plain, "image": _relative(str(record["image"]), path)}


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and math.isnan(value) else value


def _read_json(datalist: Path) -> dict[str, Any]:
    if not datalist.is_file():
        raise CohortError(f"The datalist {datalist} does not exist; make it first.")
    try:
        content = read_json(datalist, "The datalist ")
    except ValueError as error:
        raise CohortError(str(error)) from error
    return content if isinstance(content, dict) else {}


def _require_section(content: Mapping[str, Any], datalist: Path, section: str) -> None:
    lists = [name for name, value in content.items() if isinstance(value, list)]
    if section not in lists:
        raise CohortError(f"The datalist {datalist} has no section '{section}'{nearest(section, lists)}")
    kinds = {type(item) for item in content[section]}
    if kinds - {dict} and not (section == "test" and kinds == {str}):  # MONAI reads bare paths in `test` alone
        raise CohortError(
            f"{datalist}: section '{section}' has an item that is no record; write {{\"image\": …, "
            '"participant_id": …}.'
        )


def _require_cached(items: Sequence[Mapping[str, Any]], datalist: Path, cached: bool) -> None:
    wrong = next((item for item in items if ("intensity" in item) != cached), None)
    if wrong is None:
        return
    if cached:
        raise CohortError(
            f"{datalist} names {wrong['image']}, which is no volume of a cache; give --dataset_dir the folder that "
            f"`python -m bundle cache --datalist {datalist}` writes, or leave configs/cached.yaml out."
        )
    raise CohortError(
        f"{datalist} names {wrong['image']}, a volume of a cache; these are for `pretrain --config "
        "configs/cached.yaml` alone. Give the datalist it was cached from, or that overlay."
    )


def _sites(content: Mapping[str, Any]) -> list[str]:
    lists = [section for name in SECTIONS if isinstance(section := content.get(name), list)]
    items = [item for section in lists for item in section if isinstance(item, dict)]
    return sorted({str(item["site"]) for item in items if item.get("site") is not None})


def _metadata(item: Mapping[str, Any], name: str, sites: Sequence[str]) -> float:
    if name in ("age", "tiv"):
        return item[name]
    levels = ["F", "M"] if name == "sex" else list(sites)
    value = str(item[name])
    if not value:
        return math.nan
    if value not in levels:
        raise CohortError(f"{item['image']} has {name} '{value}', expected {quoted(levels)} or null.")
    return float(levels.index(value))
