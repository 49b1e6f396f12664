"""DICOM files of one source: their studies, and the T1w scan of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bundle.preparation.archives import Item
from bundle.preparation.dicom_headers import DicomError, Slice, is_dicom, read_slice
from bundle.preparation.dicom_series import Series, choose, studies_of
from bundle.preparation.drafts import Draft
from bundle.preparation.images import labels_of


@dataclass(frozen=True)
class DicomFiles:
    """What the DICOM files of a source are.

    Attributes:
        drafts: A head or a refusal for each study, and a refusal for files that cannot be read.
        secrets: Words and numbers that tell who the patients are.
        lists: Number of files that only list others (DICOMDIR).
    """

    drafts: tuple[Draft, ...]
    secrets: frozenset[str]
    lists: int


def dicom_of(items: Sequence[Item], source: Path, wanted: int | None) -> DicomFiles:
    """Read the headers of DICOM files and choose the T1w scan of each study.

    Args:
        items: DICOM files of one source.
        source: Source, as the user gave it.
        wanted: Number of the series that the user asks for, or None.
    """
    slices: list[Slice] = []
    broken: Counter[str] = Counter()
    lists = 0
    try:
        for item in items:
            one = _read(item)
            if isinstance(one, Slice):
                slices.append(one)
            elif one:
                broken[one] += 1
            else:
                lists += 1
    except ValueError as error:  # pydicom is not there
        reason = f"{len(items)} DICOM files were found. {error}"
        return DicomFiles((Draft("", str(source), source, reason),), frozenset(), 0)
    secrets = frozenset(secret for one in slices for secret in one.secrets)
    drafts = [_draft(study, source, wanted) for study in studies_of(slices, secrets)]
    return DicomFiles((*drafts, *_unreadable(broken, source)), secrets, lists)


def _read(item: Item) -> Slice | str:
    """The header of a file, or why it cannot be read; an empty text for a list of files."""
    try:
        return read_slice(item) or ""
    except DicomError as error:
        return str(error)
    except OSError:
        return "cannot be opened"


def whole_series(path: Path) -> list[Item]:
    """The files of the series that one DICOM file belongs to, in its folder; the file alone where it cannot be read.

    Args:
        path: Path of a DICOM file.
    """
    alone = Item(path, _inside(path))
    try:
        first = _read(alone)
        if isinstance(first, str):
            return [alone]
        files = (Item(other, _inside(other)) for other in sorted(path.parent.iterdir()) if is_dicom(other))
        return [item for item in files if _has_series(item, first.text("SeriesInstanceUID"))]
    except ValueError:  # pydicom is not there
        return [alone]


def _inside(path: Path) -> PurePosixPath:
    return PurePosixPath(path.resolve().parent.name, path.name)


def _has_series(item: Item, uid: str) -> bool:
    one = _read(item)
    return isinstance(one, Slice) and one.text("SeriesInstanceUID") == uid


def _draft(study: Sequence[Series], source: Path, wanted: int | None) -> Draft:
    """The head of a study, or why it has none."""
    choice = choose(study, wanted)
    folder = PurePosixPath(os.path.commonpath([one.inside.parent for series in study for one in series.slices]))
    participant, session = labels_of(str(folder))
    name = "_".join(label for label in (participant, session) if label) or folder.name
    place = study[0].slices[0].text("StudyInstanceUID") + str(folder)
    return Draft(name, place, source, choice.reason, None, choice.series, participant, session, choice.remarks)


def _unreadable(counts: Counter[str], source: Path) -> list[Draft]:
    """A refusal for DICOM files that cannot be read, or none."""
    if not counts:
        return []
    kinds = "; ".join(f"{count} of them: each {reason}" for reason, count in sorted(counts.items()))
    reason = f"{sum(counts.values())} DICOM files cannot be read ({kinds}). Copy or export them again."
    return [Draft("", f"{source} unreadable", source, reason)]
