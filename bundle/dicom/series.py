"""The DICOM series that a scan came from: whose it is, and what our objects take from it."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.extras import require

PURPOSE = "Writing DICOM objects"
UTF8 = "ISO_IR 192"
ASCII = {"", "ISO_IR 6", "ISO 2022 IR 6"}  # character sets without other letters
LARGEST = 20_000  # files in a series
# What an archive knows a patient and a study by; the same in every file, and copied as it is.
IDENTITY = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("PatientIdentityRemoved", "DeidentificationMethod"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
GEOMETRY = (
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "Rows", "Columns", "NumberOfFrames", "Modality"),
    *("PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "ImageOrientationPatient", "ImagePositionPatient"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DimensionIndexSequence"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)
EMPTY_ALLOWED = (  # every object has them, if only empty (type 2)
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
TALKATIVE = ("highdicom", "fontTools", "fpdf")
OURS = range(901, 1000)  # numbers of our series


@dataclass(frozen=True)
class Source:
    """A series that was read.

    Attributes:
        identity: Values of `IDENTITY` that the series has, by keyword; names and texts decoded.
        images: Datasets of all images with what geometry and references need; nobody's name or id is in them.
        series_number: Series number of the series; 0 where it has none.
        frame_of_reference: UID of the scanner's coordinates; "" where the series states none.
    """

    identity: Mapping[str, str]
    images: Sequence[Any]
    series_number: int
    frame_of_reference: str

    def stamp(self, dataset: Any) -> None:
        """Put an object into the patient's study."""
        values = dict.fromkeys(EMPTY_ALLOWED, "") | dict(self.identity)
        for keyword, value in values.items():
            if keyword in dataset:
                del dataset[keyword]  # its element may be shared with an image
            setattr(dataset, keyword, value)

    def number(self, place: int) -> int:
        """Number of our series at a place, other than the series' own.

        Args:
            place: 0 for the first.
        """
        return [n for n in OURS if n != self.series_number][place]


def read_source(series: Path) -> Source:
    """Read what objects take from a DICOM series; no pixel is read.

    Args:
        series: Folder with the files of one series and nothing else.

    Raises:
        ValueError: When the folder holds something else, mixes patients, studies or series, or lacks what an archive
            needs. No message holds a name, an id or a date.
    """
    paths = sorted(path for path in series.rglob("*") if path.is_file())
    if not 0 < len(paths) <= LARGEST:
        raise _refusal(series, f"holds {len(paths)} files, expected 1 to {LARGEST}")
    with copying():
        found = [_read(path) for path in paths]
        if None in found:
            raise _refusal(series, f"{found.count(None)} of its {len(found)} files are no DICOM files")
        headers = [header for header in found if header is not None]
        _require_one(series, headers)
        identity = {keyword: _text(series, headers[0], keyword) for keyword in IDENTITY if keyword in headers[0]}
        if not identity.get("PatientID") and not identity.get("PatientName"):
            raise _refusal(series, "says neither PatientID nor PatientName, so that nobody could tell whose it is")
        images = [_image(header) for header in {h.SOPInstanceUID: h for h in headers}.values()]
        number, frame = headers[0].get("SeriesNumber"), headers[0].get("FrameOfReferenceUID")
    return Source(identity, images, int(number or 0), str(frame or ""))


@contextlib.contextmanager
def copying() -> Iterator[None]:
    """Copy values as they are: pydicom checks them otherwise, and its warnings show names and dates.

    What the libraries say of each step is left out, too.
    """
    levels = {logger: logger.level for logger in map(logging.getLogger, TALKATIVE)}
    for logger in levels:
        logger.setLevel(logging.WARNING)
    try:
        with require("pydicom.config", PURPOSE).disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def _read(path: Path) -> Any:
    """The header of a file; None where it is no DICOM file."""
    pydicom = require("pydicom", PURPOSE)
    wanted = [*IDENTITY, *NEEDED, *GEOMETRY, "SeriesNumber", "InstanceNumber"]
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=wanted)
    except (pydicom.errors.InvalidDicomError, OSError, EOFError):
        return None


def _require_one(series: Path, headers: Sequence[Any]) -> None:
    """Refuse files that are of more than one patient, study or series, or that lack what identifies them."""
    for keyword in NEEDED:
        lacking = sum(not header.get(keyword) for header in headers)
        if lacking:
            raise _refusal(series, f"{lacking} of its {len(headers)} files have no {keyword}")
    for keyword in (*IDENTITY, "SeriesInstanceUID", "FrameOfReferenceUID"):
        values = {str(header.get(keyword) or "") for header in headers}
        if len(values) > 1:
            raise _refusal(series, f"its files have {len(values)} different values of {keyword}")


def _text(series: Path, header: Any, keyword: str) -> str:
    """A value as it is read in the character set that the file states."""
    known = require("pydicom.charset", PURPOSE).python_encoding
    stated = header.get("SpecificCharacterSet") or ""
    sets = {str(one) for one in ([stated] if isinstance(stated, str) else stated)}
    text = str(header.get(keyword) or "")
    is_certain = bool(sets - ASCII) and all(one in known for one in sets) and "\ufffd" not in text
    if not (is_certain or text.isascii()):
        raise _refusal(series, f"{keyword} cannot be read: its letters are not those of the character set it states")
    return text


def _image(header: Any) -> Any:
    """What geometry and references need of an image."""
    dataset = require("pydicom", PURPOSE).Dataset()
    for keyword in (*NEEDED, *GEOMETRY):
        if keyword in header:
            dataset[keyword] = header[keyword]
    for keyword in EMPTY_ALLOWED:
        setattr(dataset, keyword, None)
    dataset.SpecificCharacterSet = UTF8
    return dataset


def _refusal(series: Path, found: str) -> ValueError:
    return ValueError(
        f"The DICOM series in {series} cannot take an answer back: {found}; give a folder that holds the files of one "
        "series as the archive sent them, or leave --dicom-out out."
    )
