"""From a T1w scan, as NIfTI or DICOM, to the grey-matter map that models read, with quality control."""

from bundle.preparation.deepmriprep_backend import prepare_with_deepmriprep
from bundle.preparation.made import find_made, take_made
from bundle.preparation.outcome import FAIL, OK, WARN, Head, Layers, Made, Outcome, Refusal
from bundle.preparation.sources import find_heads

__all__ = [
    "FAIL",
    "OK",
    "WARN",
    "Head",
    "Layers",
    "Made",
    "Outcome",
    "Refusal",
    "find_heads",
    "find_made",
    "prepare_with_deepmriprep",
    "take_made",
]
