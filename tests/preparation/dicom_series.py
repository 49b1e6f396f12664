"""DICOM series for tests, written from an array: what a scanner would have stored, with an invented patient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

# Whatever of these stands in an output, a message or the name of a file tells who the patient is.
PATIENT = {
    "PatientName": "Musterfrau^Erika",
    "PatientID": "KH-4711-0815",
    "PatientBirthDate": "19531017",
    "AccessionNumber": "ACC998877",
    "StudyDate": "20240229",
    "SeriesDate": "20240229",
    "AcquisitionDate": "20240229",
    "ContentDate": "20240229",
    "StudyTime": "101112",
    "InstitutionName": "Klinikum Beispielstadt",
    "ReferringPhysicianName": "Doktor^Vera",
}
SECRETS = ("Musterfrau", "Erika", "4711", "0815", "19531017", "998877", "20240229", "101112", "Beispielstadt", "Doktor")
MPRAGE = {
    "Modality": "MR",
    "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
    "Manufacturer": "SIEMENS",
    "ManufacturerModelName": "Invented",
    "MagneticFieldStrength": "3",
    "StudyID": "1",
    "SeriesNumber": "5",
    "SeriesDescription": "t1_mprage_sag",
    "ProtocolName": "t1_mprage_sag",
    "ScanningSequence": ["GR", "IR"],
    "SequenceVariant": ["SK", "SP", "MP"],
    "ScanOptions": "IR",
    "SequenceName": "*tfl3d1_16ns",
    "MRAcquisitionType": "3D",
    "RepetitionTime": "2300",
    "EchoTime": "2.98",
    "InversionTime": "900",
    "FlipAngle": "9",
    "PatientPosition": "HFS",
    "PatientSex": "F",
    "PatientAge": "070Y",
    "AcquisitionNumber": "1",
}
LPS = np.diag([-1.0, -1.0, 1.0])  # of DICOM, from the RAS of NIfTI


def write_series(folder: Path, volume: np.ndarray, affine: np.ndarray, **tags: Any) -> list[Path]:
    """Write a DICOM series, a file per slice, without endings.

    Args:
        folder: Where the files are written; made when missing. Files of another series stay.
        volume: (X, Y, Z) whole numbers from 0 to 32767; slices run along the last axis, columns along the first.
        affine: 4 × 4, index → mm, RAS as in NIfTI, without shear.
        **tags: Attributes that replace those of `PATIENT` and `MPRAGE`, by keyword; None removes one, and a function
            of the slice's number gives each slice its own.

    Returns:
        The files, in the order of the slices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = str(tags.get("SeriesNumber", MPRAGE["SeriesNumber"]))
    paths = []
    for number in range(volume.shape[2]):
        slice_ = sliced(volume, np.asarray(affine, float), number)
        _tag(slice_, {**PATIENT, **MPRAGE, "InstanceNumber": str(number + 1), **tags}, number)
        _identify(slice_, series, number)
        path = folder / f"IM{series}_{number + 1:04d}"
        slice_.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def sliced(volume: np.ndarray, affine: np.ndarray, number: int) -> Dataset:
    """Pixels of one slice and where they lie."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    directions = LPS @ affine[:3, :3] / sizes
    dataset = Dataset()
    dataset.PixelData = np.ascontiguousarray(volume[:, :, number].T).astype("<u2").tobytes()
    dataset.Columns, dataset.Rows = volume.shape[:2]
    dataset.PixelSpacing = [f"{sizes[1]:.8g}", f"{sizes[0]:.8g}"]
    dataset.SliceThickness = dataset.SpacingBetweenSlices = f"{sizes[2]:.8g}"
    dataset.ImageOrientationPatient = [f"{v:.10f}" for v in directions[:, :2].T.ravel()]
    dataset.ImagePositionPatient = [f"{v:.8f}" for v in LPS @ (affine @ [0, 0, number, 1])[:3]]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    return dataset


def _tag(dataset: Dataset, tags: dict[str, Any], number: int) -> None:
    for keyword, value in tags.items():
        given = value(number) if isinstance(value, Callable) else value
        if given is not None:
            setattr(dataset, keyword, given)
        elif keyword in dataset:
            delattr(dataset, keyword)


def _identify(dataset: Dataset, series: str, number: int) -> None:
    """UIDs that are the same every time, and the file's own header."""
    study = str(dataset.get("StudyInstanceUID") or _uid(dataset.get("PatientID", ""), dataset.get("StudyID", "")))
    defaults = {
        "SOPClassUID": MRImageStorage,
        "StudyInstanceUID": study,
        "SeriesInstanceUID": _uid(study, series),
        "FrameOfReferenceUID": _uid(study, "frame"),
        "SOPInstanceUID": _uid(study, series, dataset.get("InstanceNumber", ""), number),
    }
    for keyword, value in defaults.items():
        if keyword not in dataset:
            setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID


def _uid(*parts: Any) -> str:
    return generate_uid(entropy_srcs=[str(part) for part in parts])
