"""Headers of DICOM files, read within limits and without a word of what they hold."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bundle.extras import require
from bundle.preparation.archives import Item
from bundle.preparation.privacy import WHO, secrets_of

PURPOSE = "Reading DICOM"
ENDINGS = (".dcm", ".ima", ".dicom")  # of files that have to be DICOM
LARGEST = 4 << 30  # bytes of a file
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"  # DICOMDIR, which lists files and is none
DEFLATED = "1.2.840.10008.1.2.1.99"  # the whole file is compressed: it may unpack to anything
PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")  # pixels are not compressed
KEYWORDS = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber"),
    *("Modality", "ImageType", "SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName"),
    *("ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "AngioFlag", "ConversionType"),
    *("RepetitionTime", "EchoTime", "InversionTime", "FlipAngle", "EchoNumbers", "ContrastBolusAgent"),
    *("BurnedInAnnotation", "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"),
    *("Rows", "Columns", "NumberOfFrames", "BitsAllocated", "SamplesPerPixel", "ImagesInAcquisition"),
    *("DiffusionBValue", "RescaleSlope", "RescaleIntercept", "PixelRepresentation"),
)


class DicomError(ValueError):
    """A DICOM file that is not read; the message is a sentence without its subject and without values."""


@dataclass(frozen=True)
class Slice:
    """The header of one DICOM file.

    Attributes:
        path: Path of the file.
        inside: Its name with its folders in the source.
        tags: Values of `KEYWORDS` that it has, each as texts.
        secrets: Words and numbers that tell who the patient is.
        patient: Id, name and birth date in one text: the same for the same patient.
        whole: Whether the file holds all the pixels that its header announces.
    """

    path: Path
    inside: PurePosixPath
    tags: Mapping[str, tuple[str, ...]]
    secrets: frozenset[str]
    patient: str
    whole: bool

    def text(self, keyword: str) -> str:
        """Values of an attribute in one text; empty where it has none."""
        return "\\".join(self.tags.get(keyword, ()))

    def numbers(self, keyword: str, count: int = 1) -> tuple[float, ...]:
        """Values of an attribute as numbers; empty where there are not as many, or other texts."""
        values = self.tags.get(keyword, ())
        try:
            return tuple(float(value) for value in values) if len(values) == count else ()
        except ValueError:
            return ()

    def number(self, keyword: str) -> float | None:
        """The value of an attribute as a number; None where it has none."""
        return next(iter(self.numbers(keyword)), None)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its beginning; old files, which lack the mark, begin with the group 0008.

    Args:
        path: Path of the file.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(132)
    except OSError:
        return False
    return head[128:] == b"DICM" or (head[:2] == b"\x08\x00" and head[3:4] == b"\x00" and len(head) == 132)


def read_slice(item: Item) -> Slice | None:
    """Read the header of a DICOM file; None for a list of files (DICOMDIR), which is no image.

    Args:
        item: The file.

    Raises:
        DicomError: The file is damaged, too large, or compressed as a whole.
        ValueError: pydicom is not installed.
    """
    pydicom = require("pydicom", PURPOSE)
    size = item.path.stat().st_size
    if size > LARGEST:
        raise DicomError(f"is larger than {LARGEST >> 30} GiB")
    with _quietly(pydicom), item.path.open("rb") as stream:
        _require_plain_file(pydicom, item.path)
        dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=[*KEYWORDS, *WHO], force=True)
        if _value(dataset.file_meta, "MediaStorageSOPClassUID") == (MEDIA_DIRECTORY,):
            return None
        tags = {word: found for word in KEYWORDS if (found := _value(dataset, word))}
        syntax = _value(dataset.file_meta, "TransferSyntaxUID")
        left = size - stream.tell()
        who = {word: _value(dataset, word) for word in WHO}
    if not {"SOPClassUID", "Modality"} <= set(tags):
        raise DicomError("says neither what it is nor what made it")
    patient = "/".join("\\".join(who[word]) for word in ("PatientID", "PatientName", "PatientBirthDate"))
    return Slice(item.path, item.inside, tags, secrets_of(who), patient, left >= _announced(tags, syntax))


@contextmanager
def _quietly(pydicom: Any) -> Iterator[None]:
    """Read without warnings, log and errors of pydicom, whose words quote what a file holds."""
    log = logging.getLogger("pydicom")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    except (DicomError, MemoryError):
        raise
    except Exception as error:  # pydicom has errors of its own for each way in which a file can be broken
        raise DicomError(f"is damaged ({type(error).__name__})") from None
    finally:
        log.disabled = before


def _require_plain_file(pydicom: Any, path: Path) -> None:
    """Refuse a file that is compressed as a whole: pydicom would unpack it without a limit."""
    with path.open("rb") as stream:
        if stream.read(132)[128:] != b"DICM":
            return
    if _value(pydicom.filereader.read_file_meta_info(path), "TransferSyntaxUID") == (DEFLATED,):
        raise DicomError("is compressed as a whole (deflated); export it without compression")


def _value(dataset: Any, keyword: str) -> tuple[str, ...]:
    """Values of an attribute as texts; none where it is missing or broken."""
    try:
        value = dataset.get(keyword)
    except Exception:  # a value that cannot be understood is as good as none
        return ()
    if value is None or value == "":
        return ()
    several = isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue"
    return tuple(str(one).strip() for one in value) if several else (str(value).strip(),)


def _announced(tags: Mapping[str, tuple[str, ...]], syntax: tuple[str, ...]) -> int:
    """Bytes of pixels that have to follow the header; compressed ones are at least one."""
    try:
        sides = [int(tags[word][0]) for word in ("Rows", "Columns", "BitsAllocated")]
    except (KeyError, ValueError):
        return 0
    if syntax and syntax[0] not in PLAIN:
        return 1
    more = [int(tags[word][0]) for word in ("SamplesPerPixel", "NumberOfFrames") if tags.get(word, ("",))[0].isdigit()]
    return math.prod([*sides, *more]) // 8
