"""A series with an invented patient, and an answer of every kind."""

import base64
import io
from dataclasses import replace

import numpy as np

from bundle.dicom import (
    Answer,
    Attribution,
    BrainAge,
    Chart,
    Network,
    OperatingPoint,
    Preparation,
    Region,
)
from bundle.dicom.answer import REFUSED
from bundle.prediction.judgement import CANNOT, GIVEN, NOT_CALIBRATED
from tests.dicom.needed import pydicom
from tests.preparation.dicom_series import write_series

NAME = "Müller-Łukasz^Jürgen=山田^太郎"  # not one of the character sets but Unicode has all of these letters
OBLIQUE = np.array([[0.0, 0.0, 1.5, -20], [-1.9, 0.2, 0.0, 30], [0.2, 1.9, 0.0, -25], [0, 0, 0, 1]])  # sagittal slices
OBLIQUE[:3, :2] *= 2 / np.linalg.norm(OBLIQUE[:3, :2], axis=0)
SHAPE = (12, 10, 8)
ENHANCED = "1.2.840.10008.5.1.4.1.1.4.1"  # Enhanced MR Image Storage
PREPARATION = Preparation("ants", "1", "warn", ("The contrast is low.",), {"antspyx": "0.6.3"}, {"mask Dice": 0.97})
REASON = "the embedding is further from the training subjects than theirs from each other: the model cannot answer"


def picture(shape=(8, 8, 3)):
    """A picture as a data URI."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, np.full(shape, 90, np.uint8), format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def network(**changes):
    trained = "412 training subjects, 118 for validation"
    facts = (("task", "Alzheimer's disease, from grey matter"), ("trained on", trained))
    known = {
        "name": "alzheimer-4mm",
        "version": "0.3",
        "sha256": "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8",
        "intended_use": "research only; not a medical device",
        "classes": ("control", "Alzheimer's disease"),
        "facts": facts,
    }
    return Network(**known | changes)


def attribution(in_scanner=True, ucum="%"):
    values = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE) / 40 - 8
    unit = "change of the network's own probability, percentage points"
    explanation = "Warm: the network's own probability of Alzheimer's disease falls when a place is replaced."
    return Attribution(values, OBLIQUE, unit, ucum, "occlusion", explanation, in_scanner)


def given(**changes):
    """An answer with everything that one can have."""
    checks = [
        {
            "name": "grey matter",
            "measured": "612 mL",
            "limit": "350 to 1,100 mL",
            "verdict": "pass",
            "source": "adults have 400 to 900 mL",
        }
    ]
    regions = [Region("hippocampus", "left", 3.1, -1.8), Region("hippocampus", "right", 3.3, -1.4)]
    regions += [Region("superior_temporal", "left", 12.4, 0.2), Region("cerebellum", "", 98.2)]
    answer = Answer(
        scan="scan_0001",
        model=network(),
        state=GIVEN,
        headline="0.83",
        verdict="warn",
        reasons=("T1 contrast is 0.18, expected 0.20 or more: look at the segmentation",),
        called="Alzheimer's disease",
        probability=0.8312345,
        uncertainty=0.024,
        operating_point=OperatingPoint(0.47, 0.86, 0.79, 0.05, 0.177, 0.991, 118),
        brain_age=BrainAge(78.4, 4.9, 6.2),
        distance_percentile=61.25,
        volumes={"tiv": 1512.3, "gm": 612.4, "wm": 498.2, "csf": 401.7},
        regions=regions,
        preparation=PREPARATION,
        attribution=attribution(),
        checks=checks,
        charts=(Chart(picture(), "Distance from the training subjects."),),
    )
    return replace(answer, **changes)


def without(state, **changes):
    """An answer without a probability."""
    said = {
        NOT_CALIBRATED: ("not calibrated: 48 subjects", "warn", ()),
        CANNOT: ("cannot answer", "warn", (REASON,)),
        REFUSED: ("", "refuse", ("background is 99 % of voxels, expected 30 to 97: the map is cut off",)),
    }
    words, verdict, reasons = said[state]
    none = {"probability": None, "uncertainty": None, "headline": words, "verdict": verdict, "reasons": reasons}
    if state == NOT_CALIBRATED:
        point = OperatingPoint(None, 0.86, 0.79, 0.5, 0.8, 0.85, 48)
        return given(state=state, operating_point=point, **none | changes)
    unanswered = {"called": "", "operating_point": None, "brain_age": None, "attribution": None, "charts": ()}
    if state == REFUSED:
        unanswered |= {"distance_percentile": None, "volumes": {}, "regions": (), "preparation": None}
    return given(state=state, **none | unanswered | changes)


def write_scan(folder, **tags):
    """A small series, oblique as head scans are."""
    volume = np.random.default_rng(0).integers(0, 900, SHAPE)
    known = {"SpecificCharacterSet": "ISO_IR 192", "PatientName": NAME, "StudyDescription": "Schädel-MRT"}
    write_series(folder, volume, OBLIQUE, **known | tags)
    return folder


def write_enhanced(folder):
    """The series of `write_scan` as one file with all frames, as newer scanners store it."""
    single = [pydicom.dcmread(path) for path in sorted(write_scan(folder / "single").iterdir())]
    first, positions = single[0], [one.ImagePositionPatient for one in single]
    dataset = pydicom.dcmread(folder / "single" / "IM5_0001")
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        del dataset[keyword]
    measures, orientation, shared = (pydicom.Dataset() for _ in range(3))
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, first.SliceThickness
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], []
    for position in positions:
        place, frame = pydicom.Dataset(), pydicom.Dataset()
        place.ImagePositionPatient = position
        frame.PlanePositionSequence = [place]
        dataset.PerFrameFunctionalGroupsSequence.append(frame)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = ENHANCED
    dataset.NumberOfFrames, dataset.PixelData = len(single), b"".join(one.PixelData for one in single)
    (folder / "series").mkdir()
    dataset.save_as(folder / "series" / "IM1", enforce_file_format=True)
    return folder / "series"
