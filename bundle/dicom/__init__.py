"""The answer as DICOM objects that go back into the study of the patient."""

from bundle.dicom.answer import (
    Answer,
    Attribution,
    BrainAge,
    Chart,
    Network,
    OperatingPoint,
    Preparation,
    Region,
)
from bundle.dicom.answers import check_tools, write_answers
from bundle.dicom.from_prediction import answer_from, attribution_of
from bundle.dicom.objects import write_objects

__all__ = [
    "Answer",
    "Attribution",
    "BrainAge",
    "Chart",
    "Network",
    "OperatingPoint",
    "Preparation",
    "Region",
    "answer_from",
    "attribution_of",
    "check_tools",
    "write_answers",
    "write_objects",
]
