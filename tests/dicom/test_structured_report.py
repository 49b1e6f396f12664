"""What a machine reads in the report: values, units and codes, and what is said first."""

import pytest

from bundle.dicom import codes
from bundle.dicom.answer import REFUSED
from bundle.dicom.series import read_source
from bundle.dicom.structured_report import structured_report
from bundle.prediction.judgement import CANNOT, NOT_CALIBRATED
from tests.dicom.examples import REASON, without
from tests.dicom.needed import hd


@pytest.fixture(scope="module")
def report(written):
    return hd.sr.srread(written / "0001_report.dcm")


def items(dataset):
    """Every content item, in the order of the tree."""
    for item in getattr(dataset, "ContentSequence", []):
        yield item
        yield from items(item)


def numbers(dataset):
    """Value and unit of every number, by the code of its name."""
    found = {}
    for item in items(dataset):
        if item.ValueType == "NUM":
            value = item.MeasuredValueSequence[0]
            unit = value.MeasurementUnitsCodeSequence[0].CodeValue
            name = item.ConceptNameCodeSequence[0].CodeValue
            found.setdefault(name, []).append((float(value.NumericValue), unit))
    return found


def texts(dataset):
    return [item.TextValue for item in items(dataset) if item.ValueType == "TEXT"]


def chosen(dataset, name):
    """The value of a coded item."""
    found = [
        i for i in items(dataset) if i.ValueType == "CODE" and i.ConceptNameCodeSequence[0].CodeValue == name.value
    ]
    return [i.ConceptCodeSequence[0].CodeMeaning for i in found]


def test_it_is_a_measurement_report_that_begins_with_research_use_only(report):
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    contained = [item for item in report.ContentSequence if item.RelationshipType == "CONTAINS"]
    assert contained[0].ConceptNameCodeSequence[0].CodeMeaning == "Intended use"
    assert contained[0].TextValue.startswith("Research use only. Not a medical device.")
    assert report.SeriesDescription.startswith("Research only")


def test_numbers_have_values_and_units(report):
    found = numbers(report)
    assert found["probability"] == [(0.831234, "1")]
    assert found["371886008"] == found["371885007"] == [(0.024, "1"), (4.9, "a")]
    assert found["brain-age"] == [(78.4, "a")]
    assert found["brain-age-gap"] == [(6.2, "a")]
    assert found["111088"] == [(0.86, "1")]
    assert found["ppv"] == [(0.177, "1")]
    assert found["118565006"] == [(v, "mL") for v in (1512.3, 612.4, 498.2, 401.7, 3.1, 3.3, 12.4, 98.2)]
    assert found["121416"] == [(-1.8, "1"), (-1.4, "1"), (0.2, "1")]


def test_a_volume_says_where_it_is_and_on_which_side(report):
    groups = hd.sr.Comprehensive3DSR.from_dataset(report).content.get_image_measurement_groups()
    tissues, regions = groups[2].get_measurements(), groups[3].get_measurements()
    sites = [m.finding_sites[0].value.meaning for m in tissues]
    assert sites == ["Intracranial structure", "Gray Matter", "White Matter", "Cerebrospinal Fluid"]
    assert regions[0].finding_sites[0].value == hd.sr.CodedConcept("5366008", "SCT", "Hippocampus")
    assert [m.finding_sites[0].laterality and m.finding_sites[0].laterality.meaning for m in regions] == [
        *("Left", "Right", "Left"),
        None,
    ]


def test_the_call_is_no_finding(report):
    """A reader of the archive would take a coded finding for a diagnosis."""
    assert chosen(report, codes.CALLED) == ["Alzheimer's disease"]
    assert chosen(report, codes.STATE) == ["Answer is given"]
    assert not [i for i in items(report) if i.ConceptNameCodeSequence[0].CodeValue == "121071"]


def test_model_and_pipeline_are_named_and_the_images_referenced(report, series):
    assert {"alzheimer-4mm", "0.3", "ants", "antspyx 0.6.3"} <= set(texts(report))
    assert any("5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8" in text for text in texts(report))
    uids = {image.SOPInstanceUID for image in read_source(series).images}
    assert {
        i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in items(report) if i.ValueType == "IMAGE"
    } == uids
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert {i.ReferencedSOPInstanceUID for i in evidence.ReferencedSOPSequence} == uids


def test_our_own_codes_are_declared(report):
    used = {i.ConceptNameCodeSequence[0].CodingSchemeDesignator for i in items(report)}
    assert codes.SCHEME in used
    declared = report.CodingSchemeIdentificationSequence
    assert [item.CodingSchemeDesignator for item in declared] == [codes.SCHEME]


def test_nobody_has_verified_it(report):
    assert report.VerificationFlag == "UNVERIFIED"
    assert report.PreliminaryFlag == "PRELIMINARY"


@pytest.mark.parametrize("state", [NOT_CALIBRATED, CANNOT, REFUSED])
def test_without_an_answer_there_is_no_probability_but_the_reason(series, state):
    answer, source = without(state), read_source(series)
    report = structured_report(answer, source, 1)
    assert report.PatientName
    assert not source.images[0].PatientName, "the library gets the images of the next object without a name"
    assert not {"probability", "operating-point", "371886008"} & set(numbers(report)) - {"371886008"}
    assert not any("Probability of" in text for text in texts(report))
    assert chosen(report, codes.STATE) == [codes.STATES[state].meaning]
    assert chosen(report, codes.CLASS) == []
    reason = {NOT_CALIBRATED: "not calibrated: 48 subjects", CANNOT: REASON, REFUSED: "the map is cut off"}[state]
    assert any(reason in text for text in texts(report))
    assert bool(chosen(report, codes.CALLED)) == (state == NOT_CALIBRATED)
    assert ("brain-age" in numbers(report)) == (state == NOT_CALIBRATED)
