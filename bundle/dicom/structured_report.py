"""The answer as a Comprehensive 3D SR that software reads: measurements with codes and units, and sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bundle.dicom import codes, sentences
from bundle.dicom.answer import Answer, BrainAge, Network, OperatingPoint, Preparation
from bundle.dicom.codes import Code
from bundle.dicom.equipment import MANUFACTURER, RESEARCH, SERIES, equipment, new_uid, uid_of
from bundle.dicom.series import PURPOSE, UTF8, Source
from bundle.extras import require


def structured_report(answer: Answer, source: Source, place: int) -> Any:
    """A measurement report (TID 1500) whose first sentence says that it is for research only.

    Only an answer that is given has a probability; of any other the report says why there is none.

    Args:
        answer: What is reported.
        source: The series that the scan came from.
        place: Place of our series in the study, from 0.

    Returns:
        A pydicom dataset in the study of the patient.

    Source:
        DICOM PS3.16, TID 1500; written by highdicom.
    """
    hd = require("highdicom", PURPOSE)
    sr = require("highdicom.sr", PURPOSE)
    report = sr.Comprehensive3DSR(
        evidence=list(source.images),
        content=_content(sr, answer, source),
        series_instance_uid=new_uid(),
        series_number=source.number(place),
        sop_instance_uid=new_uid(),
        instance_number=1,
        is_complete=True,
        is_final=False,  # a person has not read it
        series_description=SERIES.format("measurements"),
        coding_schemes=[_scheme(hd)],
        specific_character_set=UTF8,
        **equipment(answer.model),
    )
    source.stamp(report)
    return report


def _scheme(hd: Any) -> Any:
    """Says whose codes ours are."""
    return hd.coding_schemes.CodingSchemeIdentificationItem(
        designator=codes.SCHEME,
        name=codes.SCHEME_NAME,
        version=codes.SCHEME_VERSION,
        responsible_organization=MANUFACTURER,
    )


def _content(sr: Any, answer: Answer, source: Source) -> Any:
    """The tree of a measurement report, with the intended use before everything else that it contains."""
    observer = sr.ObserverContext(
        observer_type=_concept(sr, Code("121007", "DCM", "Device")),
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=uid_of(answer.model.sha256),
            name=codes.short(answer.model.name) or "model",
            manufacturer_name=MANUFACTURER,
            serial_number=codes.short(answer.model.sha256) or None,
        ),
    )
    root = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=_concept(sr, codes.BRAIN_MRI),
        imaging_measurements=[group for group in _groups(sr, answer, source) if group is not None],
    )
    items = root[0].ContentSequence
    first = next(i for i, item in enumerate(items) if item.RelationshipType == "CONTAINS")
    items.insert(first, _text(sr, codes.INTENDED_USE, f"{RESEARCH} {sentences.limits(answer)}"))
    items.append(_sentences(sr, answer))
    return root


def _groups(sr: Any, answer: Answer, source: Source) -> Iterable[Any]:
    """The groups of measurements; None stands for one that has nothing in it."""
    yield _answer_group(sr, answer, source)
    performance = [_measured(sr, *one) for one in _performance(answer.operating_point)]
    yield _group(sr, codes.PERFORMANCE, _network(sr, answer.model), performance)
    maker = _network(sr, answer.model) if answer.preparation is None else _pipeline(sr, answer.preparation)
    tissues = [_volume(sr, codes.TISSUES[name], "", volume, None) for name, volume in answer.volumes.items()]
    yield _group(sr, codes.TISSUE_VOLUMES, maker, tissues)
    regions = [_volume(sr, codes.region(r.name), r.side, r.millilitres, r.z) for r in answer.regions]
    yield _group(sr, codes.REGION_VOLUMES, maker, regions)


def _answer_group(sr: Any, answer: Answer, source: Source) -> Any:
    """The answer itself, and the images that it is about."""
    measurements = [*_probability(sr, answer), *_age(sr, answer.brain_age)]
    if answer.distance_percentile is not None:
        measurements.append(_measured(sr, codes.DISTANCE, answer.distance_percentile, codes.PERCENT))
    said = {codes.STATE: codes.STATES[answer.state]}
    if answer.called:
        said[codes.CALLED] = codes.of_name("class", answer.called)
    if answer.probability is not None:
        said[codes.CLASS] = codes.of_name("class", answer.disease)
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(sr, codes.ANSWER),
        finding_category=_concept(sr, codes.ANSWER),  # no `Finding`: readers would take the class for a diagnosis
        finding_sites=[sr.FindingSite(_concept(sr, codes.BRAIN))],
        algorithm_id=_network(sr, answer.model),
        measurements=measurements,
        qualitative_evaluations=[sr.QualitativeEvaluation(*_concepts(sr, *one)) for one in said.items()],
        source_images=[sr.SourceImageForMeasurementGroup(i.SOPClassUID, i.SOPInstanceUID) for i in source.images],
    )


def _probability(sr: Any, answer: Answer) -> list[Any]:
    if answer.probability is None:
        return []
    spread = [] if answer.uncertainty is None else _interval(sr, answer.uncertainty, codes.NO_UNITS)
    return [_measured(sr, codes.PROBABILITY, answer.probability, codes.NO_UNITS, spread)]


def _age(sr: Any, age: BrainAge | None) -> list[Any]:
    if age is None:
        return []
    found = [_measured(sr, codes.AGE, age.years, codes.YEARS, _interval(sr, age.error, codes.YEARS))]
    return found if age.gap is None else [*found, _measured(sr, codes.AGE_GAP, age.gap, codes.YEARS)]


def _performance(point: OperatingPoint | None) -> list[tuple[Code, float, Code]]:
    if point is None:
        return []
    values = {
        codes.OPERATING_POINT: point.probability,
        codes.SENSITIVITY: point.sensitivity,
        codes.SPECIFICITY: point.specificity,
        codes.PREVALENCE: point.prevalence,
        codes.PPV: point.ppv,
        codes.NPV: point.npv,
    }
    return [(code, value, codes.NO_UNITS) for code, value in values.items() if value is not None]


def _group(sr: Any, name: Code, algorithm: Any, measurements: Sequence[Any]) -> Any:
    """A group of measurements about the brain; None where there are none."""
    if not measurements:
        return None
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(sr, name),
        finding_category=_concept(sr, name),
        finding_sites=[sr.FindingSite(_concept(sr, codes.BRAIN))],
        algorithm_id=algorithm,
        measurements=measurements,
    )


def _volume(sr: Any, place: Code, side: str, millilitres: float, z: float | None) -> Any:
    """The volume of a place, with its distance from what is expected."""
    laterality = _concept(sr, codes.SIDES[side]) if side else None
    site = sr.FindingSite(_concept(sr, place), laterality)
    properties = [] if z is None else [_number(sr, codes.Z_SCORE, z, codes.NO_UNITS)]
    return _measured(sr, codes.VOLUME, millilitres, codes.MILLILITRES, properties, [site])


def _measured(
    sr: Any,
    name: Code,
    value: float,
    unit: Code,
    properties: Sequence[Any] = (),
    sites: Sequence[Any] | None = None,
) -> Any:
    """A measurement (TID 300) with as many digits as the table has."""
    described = sr.MeasurementProperties()
    described.extend(properties)
    return sr.Measurement(
        name=_concept(sr, name),
        value=_rounded(value),
        unit=_concept(sr, unit),
        finding_sites=sites,
        properties=described,
    )


def _interval(sr: Any, spread: float, unit: Code) -> list[Any]:
    """By how much a value may be higher or lower (TID 310)."""
    return [_number(sr, name, spread, unit) for name in (codes.UPPER, codes.LOWER)]


def _number(sr: Any, name: Code, value: float, unit: Code) -> Any:
    return sr.NumContentItem(
        name=_concept(sr, name), value=_rounded(value), unit=_concept(sr, unit), relationship_type="HAS PROPERTIES"
    )


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _sentences(sr: Any, answer: Answer) -> Any:
    """Everything that is said in words."""
    said = [
        (codes.ANSWER, [sentences.headline(answer)]),
        (codes.REASON, answer.reasons),
        (codes.HOW_TO_READ, sentences.reading(answer)),
        (codes.MADE_BY, sentences.preparation(answer)),
    ]
    found = sr.ContainerContentItem(name=_concept(sr, codes.QUALITATIVE), relationship_type="CONTAINS")
    found.ContentSequence = sr.ContentSequence([_text(sr, name, text) for name, texts in said for text in texts])
    return found


def _text(sr: Any, name: Code, text: str) -> Any:
    return sr.TextContentItem(name=_concept(sr, name), value=codes.plain(text), relationship_type="CONTAINS")


def _network(sr: Any, model: Network) -> Any:
    """Which network of which version it was."""
    return sr.AlgorithmIdentification(
        name=model.name or "model",
        version=model.version or "unknown",
        manufacturer=MANUFACTURER,
        parameters=[f"SHA-256 of the weights: {model.sha256}", f"Intended use: {model.intended_use}"],
    )


def _pipeline(sr: Any, made: Preparation) -> Any:
    """What measured the volumes."""
    software = [f"{name} {version}" for name, version in made.software.items()]
    return sr.AlgorithmIdentification(
        name=made.name or "unknown", version=made.version or "unknown", parameters=software or None
    )


def _tracking(sr: Any, name: Code) -> Any:
    return sr.TrackingIdentifier(uid=new_uid(), identifier=name.meaning)


def _concept(sr: Any, code: Code) -> Any:
    return sr.CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def _concepts(sr: Any, *found: Code) -> list[Any]:
    return [_concept(sr, code) for code in found]
