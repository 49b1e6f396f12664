"""The page of a scan as an Encapsulated PDF, which any viewer of an archive shows."""

from __future__ import annotations

from typing import Any

from bundle.dicom import codes
from bundle.dicom.answer import Answer
from bundle.dicom.document import document
from bundle.dicom.equipment import SERIES, equipment, new_uid
from bundle.dicom.series import PURPOSE, UTF8, Source
from bundle.extras import require

PDF = "1.2.840.10008.5.1.4.1.1.104.1"  # Encapsulated PDF Storage
EXPLICIT = "1.2.840.10008.1.2.1"  # Explicit VR Little Endian


def encapsulated_pdf(answer: Answer, source: Source, place: int) -> Any:
    """The page as a PDF in a DICOM object.

    Args:
        answer: What the page says.
        source: The series that the scan came from.
        place: Place of our series in the study, from 0.

    Returns:
        A pydicom dataset in the study of the patient.

    Source:
        DICOM PS3.3, A.45.1.
    """
    base = require("highdicom.base", PURPOSE)
    made = base.SOPClass(
        study_instance_uid=source.identity["StudyInstanceUID"],
        series_instance_uid=new_uid(),
        series_number=source.number(place),
        sop_instance_uid=new_uid(),
        sop_class_uid=PDF,
        instance_number=1,
        modality="DOC",
        transfer_syntax_uid=EXPLICIT,
        series_description=SERIES.format("page of the answer"),
        specific_character_set=UTF8,
        **equipment(answer.model),
    )
    made.AcquisitionDateTime = ""
    made.ConversionType = "WSD"
    made.BurnedInAnnotation = "NO"  # nobody's name, id or date is on the page
    made.RecognizableVisualFeatures = "NO"
    made.VerificationFlag = "UNVERIFIED"
    made.DocumentTitle = codes.short(f"Research use only: answer of {answer.model.name}")
    made.ConceptNameCodeSequence = []
    made.SourceInstanceSequence = [_reference(image) for image in source.images]
    pages = document(answer)
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocumentLength = len(pages)
    made.EncapsulatedDocument = pages + b"\0" * (len(pages) % 2)
    source.stamp(made)
    return made


def _reference(image: Any) -> Any:
    found = require("pydicom", PURPOSE).Dataset()
    found.ReferencedSOPClassUID, found.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return found
