"""From a T1w scan, as NIfTI or DICOM, to the grey-matter map that models read, with quality control."""

from bundle.preparation.outcome import FAIL, OK, WARN, Head, Layers, Outcome, Refusal

__all__ = ["FAIL", "OK", "WARN", "Head", "Layers", "Outcome", "Refusal"]
