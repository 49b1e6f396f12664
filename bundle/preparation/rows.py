"""Scans that the rows of a table name: one scan a row, prepared together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bundle.hints import quoted
from bundle.preparation.outcome import Head, Refusal
from bundle.preparation.record import Record
from bundle.preparation.run import prepare_scans
from bundle.preparation.sources import find_heads

MOST_THREADS = 2  # for a scan: more gain little, and maps differ in their last digits by the number of threads
MOST_AT_ONCE = 4  # scans prepared side by side; each takes up to 3 GiB


def one_head(name: str, place: Path, work: Path, series: int | None = None) -> Head | Refusal:
    """The one scan that a file, a folder or an archive holds.

    Args:
        name: Name that the scan gets.
        place: Place where it lies.
        work: Work; see `find_heads`.
        series: Series; see `find_heads`.
    """
    heads, refusals = find_heads([place], work / name, series)
    if len(heads) == 1:
        return replace(heads[0], name=name)
    if not heads:
        return Refusal(name, place, " ".join(refusal.reason for refusal in refusals))
    found = quoted(head.name for head in heads)
    return Refusal(
        name, place, f"It holds {len(heads)} scans ({found}), expected one for a row; give each its own row."
    )


def prepare_rows(
    found: Mapping[str, Head | Refusal], folder: Path, pipeline: str = "ants", workers: int | None = None
) -> dict[str, Record]:
    """Prepare the scans of rows.

    Args:
        found: Tensors of `one_head`, by name.
        folder: Folder that keeps the maps, and from which they are taken the next time.
        pipeline: Pipeline; see `prepare_scans`.
        workers: How many scans are prepared at a time; None: as the cores allow.

    Returns:
        The record of each, by name.
    """
    heads = [each for each in found.values() if isinstance(each, Head)]
    refusals = [each for each in found.values() if isinstance(each, Refusal)]
    return {record.name: record for record in prepare_side_by_side(heads, refusals, folder, pipeline, workers)}


def prepare_side_by_side(
    heads: Sequence[Head], refusals: Sequence[Refusal], folder: Path, pipeline: str, workers: int | None = None
) -> tuple[Record, ...]:
    """Prepare as many scans at a time as the cores allow; where there is none to prepare, nothing is written.

    Args:
        heads: Scans.
        refusals: Inputs that cannot be prepared.
        folder: Folder that keeps the maps.
        pipeline: Pipeline; see `prepare_scans`.
        workers: How many at a time; None: as the cores allow.
    """
    if not heads:
        return tuple(Record.of_refusal(refusal) for refusal in refusals)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    side_by_side = workers or max(1, min(cores, len(heads), MOST_AT_ONCE))
    threads = min(MOST_THREADS, max(1, cores // side_by_side))
    return prepare_scans(heads, refusals, folder, pipeline, side_by_side, threads, bids=False).records
