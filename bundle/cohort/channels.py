"""Further files of a scan, one for each channel after the first: found for a table, and checked in a datalist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bundle.cohort.participants import CohortError, Faults
from bundle.scans.channels import channels_fault
from bundle.scans.modality import Modality
from bundle.scans.volumes import volume_faults

REFUSE = "refuse"
NO_FILE = "no image matches"  # how the fault of a row without a file begins
Paths = Sequence[str | None]


def require_patterns(patterns: Sequence[str], modality: Modality) -> None:
    """Refuse another number of patterns than a modality has further channels.

    Args:
        patterns: Pattern of each channel after the first.
        modality: Modality of the scans.

    Raises:
        CohortError: says which patterns are expected.
    """
    wanted = [channel.plural for channel in modality.each[1:]]
    if len(patterns) == len(wanted):
        return
    if not wanted:
        raise CohortError(
            f"--channels names further files of a scan, but {modality.plural} have one file each. Say of which "
            "modality the scans are, such as --modality gm_wm, or leave --channels out."
        )
    raise CohortError(
        f"A {modality.words} has {1 + len(wanted)} files: --images is the pattern of the {modality.first.plural}, and "
        f"--channels has to give {len(wanted)} more ({', '.join(wanted)}), but {len(patterns)} are given."
    )


def checked_channels(
    images: Paths, channels: Sequence[tuple[Paths, Faults]], modality: Modality, missing: str, workers: int
) -> tuple[list[list[str | None]], Faults]:
    """The further files of every row, each looked at as its own modality says.

    Args:
        images: File of the first channel of each row; None where there is none.
        channels: Of each further channel the files by row and the faults, as of `table.match_images`.
        modality: Modality of the scans.
        missing: What a row without a file is: `refuse`, a fault; or `keep`, a scan that lacks a channel.
        workers: Threads that read files.

    Returns:
        Files of the further channels of each row, None where one is missing; and faults.
    """
    found: list[list[str | None]] = []
    faults: Faults = []
    for channel, (paths, unmatched) in zip(modality.each[1:], channels, strict=True):
        kept = () if missing == REFUSE else (NO_FILE,)
        faults += [(row, f"{channel.words}: {fault}") for row, fault in unmatched if not fault.startswith(kept)]
        there = {row: path for row, path in enumerate(paths) if path is not None}
        ends = (channel.lowest, channel.highest)
        answers = volume_faults([Path(path) for path in there.values()], None, workers, ends)
        faults += [(row, f"{channel.words}: {said}") for row, said in zip(there, answers, strict=True) if said]
        found.append(list(paths))
    rows = [list(files) for files in zip(*found, strict=True)]
    with ThreadPoolExecutor(max(1, workers)) as pool:
        elsewhere = list(pool.map(_fault, images, rows))
    return rows, [*faults, *((row, fault) for row, fault in enumerate(elsewhere) if fault)]


def _fault(image: str | None, others: Paths) -> str | None:
    """What is wrong with the files of a scan together."""
    files = [path for path in (image, *others) if path]
    if len(set(files)) < len(files):
        return f"two channels are the same file, {files[0]}; give each its own pattern"
    return channels_fault(image, others) if image else None


def require_channels(records: Sequence[Mapping[str, Any]], modality: Modality, datalist: str | Path) -> None:
    """Refuse records that do not have the files that the modality of their datalist says.

    Args:
        records: Records of a datalist; those of a cache hold all channels in one file.
        modality: Modality that the datalist states.
        datalist: Datalist, for the message.

    Raises:
        CohortError: names the first record, what it has and what was expected.
    """
    wanted = len(modality.each) - 1
    for record in records:
        if "intensity" in record or len(record.get("channels", ())) == wanted:
            continue
        held = 1 + len(record.get("channels", ()))
        if not modality.channels:
            raise CohortError(
                f"{datalist} is of {modality.plural}, which have one file each, but its record {record['image']} has "
                f"{held} channels. State the modality that they are of, such as gm_wm, or leave `channels` out."
            )
        raise CohortError(
            f"{datalist} is of {modality.plural}, which have {1 + wanted} files each ({', '.join(modality.channels)}), "
            f"but its record {record['image']} has {held}. Make it again with `cohort --modality {modality.option} "
            "--channels PATTERN`."
        )


def require_same_grids(records: Sequence[Mapping[str, Any]], workers: int = 8) -> None:
    """Refuse scans whose channels lie on different grids; headers alone are read.

    Args:
        records: Records of a datalist.
        workers: Threads that read headers.

    Raises:
        CohortError: names two files and their grids.
    """
    several = [record for record in records if record.get("channels")]
    with ThreadPoolExecutor(max(1, workers)) as pool:
        faults = pool.map(lambda record: channels_fault(record["image"], record["channels"]), several)
        if fault := next(filter(None, faults), None):
            raise CohortError(fault)


def require_same_channels(records: Sequence[Mapping[str, Any]], datalist: str | Path) -> None:
    """Refuse one image with two sets of further channels: the first file stands for the scan.

    Args:
        records: Records of a datalist.
        datalist: Datalist, for the message.

    Raises:
        CohortError: names the image.
    """
    known: dict[str, Any] = {}
    for record in records:
        own = record.get("channels")
        if known.setdefault(record["image"], own) != own:
            raise CohortError(f"{datalist} names {record['image']} twice, with other channels; correct the datalist.")
