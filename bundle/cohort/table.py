"""From a table of participants and a folder of images to checked records."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from bundle.cohort.channels import NO_FILE, REFUSE, checked_channels, require_patterns
from bundle.cohort.columns import name_columns, option_of, require_columns
from bundle.cohort.datalist import RECORD_KEYS
from bundle.cohort.one_grid import on_one_grid
from bundle.cohort.participants import (
    CohortError,
    Faults,
    Problem,
    id_faults,
    labels,
    refuse_ids_of_several_sites,
    sexes,
)
from bundle.cohort.patterns import expand_pattern, find_images, pattern_fields
from bundle.cohort.quantities import AGE_RANGE, ages, head_sizes
from bundle.cohort.sheet import read_table
from bundle.files import relative_to, write_text
from bundle.hints import nearest, quoted
from bundle.scans.modality import GREY_MATTER, Modality
from bundle.scans.volumes import volume_faults

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ready:
    """What became of an image that was prepared before it is read.

    Attributes:
        image: Path of the map; empty where there is none.
        tiv: Intracranial volume, mL; None = unknown.
        fault: Why there is no map, or nothing.
    """

    image: str
    tiv: float | None = None
    fault: str = ""


Prepare = Callable[[Mapping[int, Path], Mapping[int, str]], Mapping[int, Ready]]


def read_cohort(
    table: Path,
    images: str,
    *,
    columns: Mapping[str, str] | None = None,
    label_values: Mapping[str, int | None] | None = None,
    sex_values: Mapping[str, str | None] | None = None,
    expected_shape: Sequence[int] | None = (121, 145, 121),
    age_range: tuple[float, float] = AGE_RANGE,
    age_unit: str = "",
    regrid: Path | None = None,
    prepare: Prepare | None = None,
    kept: Sequence[str] = (),
    workers: int = 2,
    modality: Modality | None = None,
    channels: Sequence[str] = (),
    missing_channels: str = REFUSE,
) -> tuple[list[dict], list[Problem]]:
    """Read a table of participants, find the image of every row and check both.

    Args:
        table: Table; see `read_table`; empty or `n/a` = unknown.
        images: Pattern of the image files, absolute or relative to the table's folder, with fields
            of the row: `"mwp1{participant_id}_T1w.nii.gz"`, `"{participant_id}/**/*gm*.npy"`.
        columns: Our names → the table's, such as `{"site": "siteXacq"}`, where it does not use
            the common ones; `split` and `study` are kept in the records only when named here.
        label_values: Values of the labels; see `labels`.
        sex_values: Values of the sexes; see `sexes`.
        expected_shape: Voxels along each axis; None accepts every 3D shape.
        age_range: Lowest and highest plausible age, years.
        age_unit: Unit of ages; see `ages`.
        regrid: Folder that receives images which lie on another grid than most, moved onto it; None: they are problems.
        prepare: Makes maps of the images, by row and called after participant and session, and says head sizes, which
            fill unknown ones; None: they are maps.
        kept: Further columns of the table that records keep, as text.
        workers: Threads that read the images.
        modality: Modality of the images, whose values must lie in its ranges; None: values are not looked at.
        channels: Pattern of the files of each further channel, where the modality has several; see `checked_channels`.
        missing_channels: What becomes of a row without one of them: `refuse`, a problem; or `keep`, None in its place.

    Returns:
        Records of the scans without a problem (absolute image path, age in years, tiv in mL, None =
        unknown; `channels` where there are any), and the problems of all others; both in the table's order.

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
    require_columns([name for name in kept if name not in texts], cells.columns, table)
    rows = pattern_rows(images, cells.assign(**texts))
    refuse_ids_of_several_sites(texts["participant_id"], texts["session_id"], texts["site"])
    diagnoses = labels(texts["label"], label_values, used.get("label", ""))
    known_ages = ages(texts["age"], age_range, age_unit, used.get("age", "age"))
    values, faults = _values(texts, known_ages, sexes(texts["sex"], sex_values, used.get("sex", "sex")), diagnoses)
    if modality is not None or channels:
        require_patterns(channels, modality or GREY_MATTER)
    paths, unmatched = match_images(images, table, rows)
    if prepare is not None:
        paths, values["tiv"], unprepared = _prepared(prepare, paths, values["tiv"], texts)
        unmatched = [*unmatched, *unprepared]
    values["image"], more = _checked_images(paths, expected_shape, regrid, workers, modality)
    more = [*unmatched, *more]
    values = values.assign(**{name: cells[name] for name in kept if name not in values})
    if modality is not None and channels:
        cells = cells.assign(**texts)
        found = [match_images(pattern, table, pattern_rows(pattern, cells)) for pattern in channels]
        values["channels"], wrong = checked_channels(paths, found, modality, missing_channels, workers)
        more += wrong
    return _sorted_out(values, sorted(faults + more, key=lambda fault: fault[0]), table)


def write_excluded(path: Path, problems: Sequence[Problem]) -> None:
    """Write problems as a tab-separated table; with none, only its header.

    Args:
        path: The file to write, usually `excluded.tsv` beside the datalist; images are written
            relative to its folder.
        problems: What `read_cohort` found.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t", lineterminator="\n")
    writer.writerow(field.name for field in fields(Problem))
    for problem in problems:
        participant, session, image, reason = (" ".join(c.split()) for c in astuple(problem))
        image = relative_to(problem.image, path.parent) if image else ""
        writer.writerow([participant, session, image, reason])
    write_text(path, buffer.getvalue())


def unknown_sentences(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """What must be said of records without ages or diagnoses, which the method needs.

    Args:
        records: Records of `read_cohort`.
    """
    uses = {
        "age": ("y-Aware pretraining compares ages; a scan of unknown age is similar to no other", "an age"),
        "label": ("Probes, fine-tuning and evaluation need diagnoses; pretraining does not", "a diagnosis"),
    }
    said = []
    for name, (use, what) in uses.items():
        unknown = sum(record[name] is None for record in records)
        if unknown == len(records):
            said.append(
                f"NO SCAN HAS {what.upper()}. {use}. If the table has such a column, name it: {option_of(name)} NAME."
            )
        elif unknown:
            said.append(f"{unknown} of {len(records)} scans do not have {what}. {use}.")
    return said


def _values(texts: pd.DataFrame, *parsed: tuple[pd.Series, Faults]) -> tuple[pd.DataFrame, Faults]:
    volumes = head_sizes(texts["tiv"])
    values = texts.mask(texts == "", None)
    faults = id_faults(texts["participant_id"], texts["session_id"])
    for name, (column, wrong) in zip(("tiv", "age", "sex", "label"), (volumes, *parsed), strict=True):
        values[name] = column
        faults += wrong
    return values, faults


def pattern_rows(images: str, cells: pd.DataFrame) -> list[dict[str, str]]:
    """The values that a pattern of images needs, row by row.

    Args:
        images: The pattern.
        cells: The table as text, under its own names and ours.

    Raises:
        CohortError: the pattern names no column, or one that is not there.
    """
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


def _prepared(
    prepare: Prepare, paths: Sequence[str | None], tiv: pd.Series, texts: pd.DataFrame
) -> tuple[list[str | None], pd.Series, Faults]:
    """Maps of the images, head sizes where the table has none, and what could not be prepared."""
    ids = (texts["participant_id"] + "_" + texts["session_id"]).str.strip("_")
    found = {row: Path(path) for row, path in enumerate(paths) if path is not None}
    ready = prepare(found, {row: str(ids[row]) for row in found})  # a file's own name may be a patient's
    maps = [ready[row].image or None if row in ready else path for row, path in enumerate(paths)]
    sizes = pd.Series({row: each.tiv for row, each in ready.items()}, dtype=float).reindex(tiv.index)
    return maps, tiv.fillna(sizes), [(row, each.fault) for row, each in ready.items() if each.fault]


def _checked_images(
    paths: Sequence[str | None],
    expected_shape: Sequence[int] | None,
    regrid: Path | None,
    workers: int,
    modality: Modality | None,
) -> tuple[list[str | None], Faults]:
    chosen = {i: path for i, path in enumerate(paths) if path is not None}
    ends = None if modality is None else (modality.lowest, modality.highest)
    shape = None if regrid else expected_shape
    answers = volume_faults([Path(path) for path in chosen.values()], shape, workers, ends)
    wrong = [(i, fault) for i, fault in zip(chosen, answers, strict=True) if fault]
    readable = {i: path for i, path in chosen.items() if i not in dict(wrong)}
    placed, elsewhere = on_one_grid(readable, expected_shape, regrid, workers)
    return [placed.get(i, path) for i, path in enumerate(paths)], [*wrong, *elsewhere]


def match_images(pattern: str, table: Path, rows: Sequence[dict[str, str]]) -> tuple[list[str | None], Faults]:
    """The image of every row, unopened; a warning counts images that belong to no row.

    Args:
        pattern: Pattern of the images, absolute or relative to the table's folder.
        table: The file that the rows are from.
        rows: Rows of `pattern_rows`.

    Returns:
        Paths (None where there is not exactly one), and faults.
    """
    root = table.absolute().parent
    wanted = [row if all(row.values()) else None for row in rows]
    found, orphans = find_images(pattern, root, wanted)
    owners = Counter(path for paths in found for path in paths)
    faults: Faults = []
    for number, (row, paths) in enumerate(zip(rows, found, strict=True)):
        fault = _match_fault(pattern, root, row, paths, owners)
        faults += [(number, fault)] if fault else []
    if orphans:
        names = quoted(path.name for path in orphans[:5])
        logger.warning("%d images match no row of %s, first %s", len(orphans), table, names)
    return [os.path.normpath(paths[0]) if len(paths) == 1 else None for paths in found], faults


def _match_fault(pattern: str, root: Path, row: dict[str, str], paths: list[Path], owners: Counter[Path]) -> str | None:
    empty = [name for name, value in row.items() if not value]
    if empty:
        return f"{' and '.join(empty)} is unknown, but the image pattern '{pattern}' needs it"
    if not paths:
        wanted = expand_pattern(pattern, row)
        return f"{NO_FILE} '{wanted}' in {root}; correct the pattern or leave the row out"
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
