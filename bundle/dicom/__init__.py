"""The answer as DICOM objects that go back into the study of the patient."""

__all__ = ()
