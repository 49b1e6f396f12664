"""The answer as files that an archive takes: a document, a report, and a map."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bundle.dicom.answer import Answer
from bundle.dicom.encapsulated_pdf import encapsulated_pdf
from bundle.dicom.parametric_map import parametric_map
from bundle.dicom.series import copying, read_source
from bundle.dicom.structured_report import structured_report
from bundle.files import replacing

KINDS = {"document": encapsulated_pdf, "report": structured_report, "map": parametric_map}
_NUMBERED = re.compile(r"(\d{4,})_(?:document|report|map)\.dcm")


def write_objects(answer: Answer, series: Path, folder: Path) -> list[Path]:
    """Write the answer to a scan as DICOM objects in the study of the patient.

    An Encapsulated PDF and a Comprehensive 3D SR are always written, a Parametric Map where the answer has an
    attribution. Files are named by a counter that goes on from what lies in the folder; nothing is replaced.

    Args:
        answer: Answer to the scan.
        series: Folder with the files of the DICOM series that the scan came from, and nothing else.
        folder: Folder that receives `0001_document.dcm`, `0001_report.dcm` and `0001_map.dcm`.

    Returns:
        The files.

    Raises:
        ValueError: When the series mixes patients, studies or series, or lacks what an archive needs.
        OSError: When a file cannot be written; none of the objects stays.
    """
    source, number = read_source(series), _next(folder)
    kinds = [kind for kind in KINDS if kind != "map" or answer.attribution is not None]
    written: list[Path] = []
    try:
        with copying():
            made = {kind: KINDS[kind](answer, source, place) for place, kind in enumerate(kinds)}
            for kind, dataset in made.items():
                path = folder / f"{number:04d}_{kind}.dcm"
                _save(dataset, path)
                written.append(path)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return written


def _next(folder: Path) -> int:
    """The first number that no file of the folder has."""
    found = [_NUMBERED.fullmatch(path.name) for path in folder.glob("*.dcm")]
    return max((int(match[1]) for match in found if match), default=0) + 1


def _save(dataset: Any, path: Path) -> None:
    with replacing(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
