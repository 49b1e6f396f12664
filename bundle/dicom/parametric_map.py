"""Where the network looked, as a Parametric Map that a viewer lays over the patient's images."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from bundle.dicom import codes
from bundle.dicom.answer import Answer, Attribution
from bundle.dicom.equipment import SERIES, equipment, new_uid
from bundle.dicom.series import PURPOSE, UTF8, Source
from bundle.extras import require


def parametric_map(answer: Answer, source: Source, place: int) -> Any:
    """The attribution of an answer in float32, as axial slices; no value is interpolated.

    In the scanner's coordinates it shares the frame of reference of the series, and viewers lay it over its images. In
    MNI space it has a frame of reference of its own, so that no viewer lays it where it does not belong.

    Args:
        answer: Answer with an attribution.
        source: The series that the scan came from.
        place: Place of our series in the study, from 0.

    Returns:
        A pydicom dataset in the study of the patient.

    Raises:
        ValueError: When the map is no volume of numbers in a grid without shear, or the series states no frame of
            reference.

    Source:
        DICOM PS3.3, A.75; written by highdicom.
    """
    attribution = answer.attribution
    if attribution is None:
        raise ValueError(f"The answer to {answer.scan} has no attribution; there is no map to write of it.")
    _require_map(answer.scan, attribution, source)
    frame = source.frame_of_reference if attribution.in_scanner else new_uid()
    hd, pm = require("highdicom", PURPOSE), require("highdicom.pm", PURPOSE)
    values = np.ascontiguousarray(attribution.values, dtype=np.float32)
    volume = hd.Volume(
        values, np.asarray(attribution.affine, float), "PATIENT", frame, from_reference_convention="RAS"
    ).to_patient_orientation("HPL")
    made = pm.ParametricMap(
        source_images=_in_frame(source, frame),
        pixel_array=volume,
        series_instance_uid=new_uid(),
        series_number=source.number(place),
        sop_instance_uid=new_uid(),
        instance_number=1,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(hd, pm, attribution)],
        voi_lut_transformations=[_window(hd, values)],
        content_label="ATTRIBUTION",
        content_description=codes.short(_described(attribution)),
        series_description=codes.short(SERIES.format(f"where the network looks, {attribution.method}")),
        specific_character_set=UTF8,
        **equipment(answer.model),
    )
    made.BodyPartExamined = "BRAIN"  # says, too, that there is no left and right one
    source.stamp(made)
    return made


def _require_map(scan: str, attribution: Attribution, source: Source) -> None:
    values, affine = np.asarray(attribution.values), np.asarray(attribution.affine, float)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if values.ndim != 3 or not np.isfinite(values).all():
        raise ValueError(
            f"The map of {scan} has {values.ndim} axes and {np.count_nonzero(~np.isfinite(values))} values that are no "
            "numbers; expected a volume of numbers."
        )
    directions = affine[:3, :3] / sizes
    if not np.allclose(directions.T @ directions, np.eye(3), atol=1e-3):
        raise ValueError(f"The grid of the map of {scan} is sheared, which DICOM cannot say; resample it first.")
    if attribution.in_scanner and not source.frame_of_reference:
        raise ValueError(
            f"The series of {scan} states no FrameOfReferenceUID, so that nobody could tell where its map lies; give "
            "the map in MNI space."
        )


def _in_frame(source: Source, frame: str) -> list[Any]:
    """The images that the map is derived from, for highdicom, which takes the map's frame of reference from them."""
    images = [copy.deepcopy(image) for image in source.images]
    for image in images:
        image.FrameOfReferenceUID = frame
    return images


def _mapping(hd: Any, pm: Any, attribution: Attribution) -> Any:
    """What the numbers are."""
    unit, quantity = codes.UNITS[attribution.ucum], codes.ATTRIBUTION
    peak = float(np.abs(attribution.values).max())
    return pm.RealWorldValueMapping(
        lut_label=codes.short(attribution.method.upper(), 16),
        lut_explanation=codes.short(attribution.unit),
        unit=hd.sr.CodedConcept(unit.value, unit.scheme, unit.meaning),
        value_range=(-peak, peak),
        slope=1.0,
        intercept=0.0,
        quantity_definition=hd.sr.CodedConcept(quantity.value, quantity.scheme, quantity.meaning),
    )


def _window(hd: Any, values: Any) -> Any:
    """Everything from the most negative to the most positive, zero in the middle where there is a sign."""
    peak = float(np.abs(values).max()) or 1.0
    is_signed = bool(values.min() < 0)
    return hd.VOILUTTransformation(
        window_center=0.0 if is_signed else peak / 2, window_width=2 * peak if is_signed else peak
    )


def _described(attribution: Attribution) -> str:
    return (
        f"Research only. {'Scanner' if attribution.in_scanner else 'MNI space, not the scanner'}: {attribution.method}"
    )
