"""From a table of participants and a folder of images to checked records."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path

import pandas as pd

from bundle.cohort.datalist import RECORD_KEYS
from bundle.cohort.participants import (
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
from bundle.cohort.patterns import expand_pattern, find_images, pattern_fields
from bundle.files import relative_to, write_text
from bundle.hints import nearest, quoted
from bundle.scans.volumes import volume_faults

logger = logging.getLogger(__name__)

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
        image = relative_to(problem.image, path.parent) if image else ""
        writer.writerow([participant, session, image, reason])
    write_text(path, buffer.getvalue())


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
