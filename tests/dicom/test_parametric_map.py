"""A voxel of the map lies where it lay, and its value has a unit."""

import subprocess
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from bundle.dicom.parametric_map import parametric_map
from bundle.dicom.series import read_source
from tests.dicom.examples import OBLIQUE, SHAPE, attribution, given, write_scan
from tests.dicom.needed import hd, pydicom


@pytest.fixture(scope="module")
def image(written):
    return hd.imread(written / "0001_map.dcm")


def test_a_voxel_lies_where_it_lay(image, series):
    volume = image.get_volume()
    wanted = attribution()
    for index in ((0, 0, 0), (3, 7, 2), tuple(n - 1 for n in SHAPE)):
        ras = (OBLIQUE @ [*index, 1])[:3]
        place = volume.map_reference_to_indices(np.array([ras * [-1, -1, 1]]), round_output=True)[0]
        assert volume.array[tuple(place)] == pytest.approx(wanted.values[index])
    assert image.FrameOfReferenceUID == read_source(series).frame_of_reference
    rows_and_columns = image.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    assert np.round([float(v) for v in rows_and_columns]).tolist() == [1, 0, 0, 0, 1, 0], "axial"


def test_a_slice_of_the_series_lies_where_its_slice_of_the_map_lies(image, series):
    """Both were written from one affine, by different code."""
    first = read_source(series).images[0]
    corner = np.array([[float(v) for v in first.ImagePositionPatient]])
    place = image.get_volume().map_reference_to_indices(corner, round_output=True)[0]
    assert image.get_volume().array[tuple(place)] == pytest.approx(attribution().values[0, 0, 0])


def test_a_map_on_the_grid_of_the_conversion_lies_on_the_pixels(tmp_path, series):
    """What `dcm2niix` makes of the series, written back as a map, has each pixel where the scanner had it."""
    converter = pytest.importorskip("dcm2niix")
    subprocess.run([converter.bin, "-z", "n", "-f", "scan", "-o", tmp_path, series], check=True, capture_output=True)
    converted = nib.load(tmp_path / "scan.nii")
    native = replace(attribution(), values=converted.get_fdata(dtype=np.float32), affine=converted.affine)
    volume = parametric_map(given(attribution=native), read_source(series), 2).get_volume()
    for path in series.iterdir():
        slice_ = pydicom.dcmread(path)
        origin, row, column = (
            np.array(slice_.ImagePositionPatient, float),
            *np.array(slice_.ImageOrientationPatient, float).reshape(2, 3)
            * np.array(slice_.PixelSpacing, float)[::-1, None],
        )
        for i, j in ((0, 0), (2, 7), (slice_.Rows - 1, slice_.Columns - 1)):
            place = volume.map_reference_to_indices((origin + j * row + i * column)[None], round_output=True)[0]
            assert volume.array[tuple(place)] == slice_.pixel_array[i, j]


def test_its_values_are_float32_and_have_a_unit(image):
    mapping = image.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert "FloatPixelData" in image
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "%"
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    assert mapping.LUTExplanation == "change of the network's own probability, percentage points"
    assert image.ContentQualification == "RESEARCH"
    assert image.SeriesDescription == "Research only: where the network looks, occlusion"
    assert (mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeMeaning).startswith("Attribution")


def test_a_map_in_mni_space_has_a_frame_of_its_own_and_says_so(series):
    source = read_source(series)
    image = parametric_map(given(attribution=attribution(in_scanner=False, ucum="[arb'U]")), source, 2)
    assert image.FrameOfReferenceUID != source.frame_of_reference
    assert "MNI space, not the scanner" in image.ContentDescription
    unit = image.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0].MeasurementUnitsCodeSequence[0]
    assert unit.CodeValue == "[arb'U]"
    assert source.images[0].FrameOfReferenceUID == source.frame_of_reference


SHEARED = np.eye(4)
SHEARED[0, 1] = 0.2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"affine": SHEARED}, "is sheared"),
        ({"values": np.full(SHAPE, np.nan, np.float32)}, "expected a volume of numbers"),
        ({"values": np.zeros((4, 4), np.float32)}, "has 2 axes"),
    ],
)
def test_a_map_that_dicom_cannot_say_is_refused(series, changes, said):
    answer = given(attribution=replace(attribution(), **changes))
    with pytest.raises(ValueError, match=said):
        parametric_map(answer, read_source(series), 2)


def test_a_map_of_a_series_without_coordinates_is_refused(tmp_path):
    source = replace(read_source(write_scan(tmp_path)), frame_of_reference="")
    with pytest.raises(ValueError, match="states no FrameOfReferenceUID"):
        parametric_map(given(), source, 2)


def test_a_map_of_nothing_but_zeros_can_be_shown(series):
    answer = given(attribution=replace(attribution(), values=np.zeros(SHAPE, np.float32)))
    image = parametric_map(answer, read_source(series), 2)
    assert float(image.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0].WindowWidth) > 0
