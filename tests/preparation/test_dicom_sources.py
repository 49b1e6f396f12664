"""DICOM comes in: the T1w scan is chosen by rule, converted exactly, and nothing says who the patient is."""

import logging
import re
import shutil
import sys

import nibabel as nib
import numpy as np
import pytest

from bundle.preparation.sources import find_heads

pytest.importorskip("pydicom")
pytest.importorskip("dcm2niix")

from tests.preparation.dicom_series import PATIENT, SECRETS, write_series

VOLUME = np.random.default_rng(0).integers(0, 4000, (12, 14, 10)).astype(np.int16)
# Sagittal slices from the right to the left, rows downwards, turned by some degrees about each axis.
TURN = nib.eulerangles.euler2mat(0.2, -0.1, 0.15)
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN @ np.array([[0, 0, -1.2], [-1.0, 0, 0], [0, -1.1, 0]])
AFFINE[:3, 3] = [70, 90, 80]
AXIAL = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
T2 = {"ScanningSequence": "SE", "InversionTime": None, "EchoTime": "402", "SequenceName": "*spcR_282ns"}


def find(folder, tmp_path, **more):
    return find_heads([folder], tmp_path / "work", **more)


def only_head(folder, tmp_path, **more):
    heads, refusals = find(folder, tmp_path, **more)
    assert not refusals, refusals
    assert len(heads) == 1
    return heads[0]


def only_reason(folder, tmp_path, **more):
    heads, refusals = find(folder, tmp_path, **more)
    assert not heads, heads
    assert len(refusals) == 1, refusals
    return refusals[0].reason


@pytest.fixture
def t1(tmp_path):
    write_series(tmp_path / "ward3" / "a", VOLUME, AFFINE)
    return tmp_path / "ward3"


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_every_voxel_and_its_place_are_those_of_the_series(tmp_path, axes):
    volume, affine = np.transpose(VOLUME, axes), AFFINE[:, [*axes, 3]]
    affine[:3, 2] *= -1  # slices in the other direction, too
    write_series(tmp_path / "in", volume, affine)
    image = nib.as_closest_canonical(nib.load(only_head(tmp_path / "in", tmp_path).image))
    truth = nib.as_closest_canonical(nib.Nifti1Image(volume, affine))
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(truth.dataobj))
    np.testing.assert_allclose(image.affine, truth.affine, atol=1e-4)


def test_the_t1w_scan_of_a_study_is_taken_and_the_reason_said(t1, tmp_path):
    write_series(t1 / "b", VOLUME, AFFINE, SeriesNumber="6", SeriesDescription="t2_space_sag", ProtocolName="t2", **T2)
    write_series(t1, VOLUME, AFFINE, SeriesNumber="1", SeriesDescription="localizer", MRAcquisitionType="2D")
    (t1 / "report.pdf").write_text("x")
    head = only_head(t1, tmp_path)
    assert head.name == "ward3"
    said = " ".join(head.remarks)
    assert "The series 5 (t1_mprage_sag) was taken: 3D, inversion recovery, slices every 1.2 mm, TR 2300 ms" in said
    assert "series 1 (localizer): it is a localizer by its name" in said
    assert "series 6 (t2_space_sag): it is a T2-weighted scan by its name" in said
    assert "1 files of other kinds (.pdf)" in said
    given, kept = [sorted(path.read_bytes() for path in folder.iterdir()) for folder in (t1 / "a", head.series)]
    assert given == kept


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Modality": "CT"}, "its modality is CT, expected MR"),
        ({"Modality": "PT"}, "its modality is PT, expected MR"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "it is a screenshot"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.1"}, "enhanced .multi-frame. MR file; convert it"),
        ({"BurnedInAnnotation": "YES"}, "text is burnt into its pictures"),
        ({"SamplesPerPixel": 3}, "its pictures are in colour"),
        ({"RescaleSlope": lambda k: str(1 + k)}, "its slices have several scalings"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, r"reformatted copy \(MPR\)"),
        ({"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE"]}, r"a projection \(MIP\)"),
        ({"ImageType": ["DERIVED", "PRIMARY", "OTHER"]}, "computed from another series"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "a phase image"),
        ({"SeriesDescription": "t2_tse", "ProtocolName": "t2"}, "T2-weighted scan by its name"),
        ({"SeriesDescription": "3D FLAIR", "ProtocolName": "flair"}, "FLAIR or STIR scan by its name"),
        ({"SeriesDescription": "x", "ProtocolName": "x", **T2}, "echo time of 402 ms"),
        ({"ScanningSequence": "SE", "InversionTime": None, "EchoTime": "9"}, "it is a spin echo"),
        ({"MRAcquisitionType": "2D"}, "acquired in 2D"),
        ({"SliceThickness": "5"}, "5 mm thick, expected at most 1.5 mm"),
        ({"AngioFlag": "Y"}, "angiogram"),
        ({"ContrastBolusAgent": "Gadovist"}, "a contrast agent is named .*--series 5"),
        ({"SeriesDescription": "t1_mprage_km"}, "taken with a contrast agent.*--series 5"),
        (
            {"SeriesDescription": "abc", "ProtocolName": "x", "SequenceName": None, "InversionTime": None},
            "neither its times nor its name say that it is T1-weighted.*--series 5",
        ),
        ({"EchoTime": lambda k: "2" if k < 5 else "5"}, "its slices have several echo times"),
        ({"ImageOrientationPatient": lambda k: [1, 0, 0, 0, 1, 0] if k < 5 else [1, 0, 0, 0, 0, 1]}, "orientations"),
        ({"ImagePositionPatient": None}, "do not say where the slices lie"),
        ({**AXIAL, "ImagePositionPatient": lambda k: [k % 2 * 3, 0, k]}, "shifted against each other"),
        ({**AXIAL, "ImagePositionPatient": lambda k: [0, 0, k + 0.3 * (k > 5)]}, "uneven distances"),
        ({**AXIAL, "ImagePositionPatient": lambda k: [0, 0, k + (k > 5)]}, "1 slices are missing between others"),
        ({"ImagesInAcquisition": "12"}, "2 of 12 slices are missing"),
    ],
)  # fmt: skip
def test_what_is_no_t1w_scan_is_refused_for_its_own_reason(tmp_path, tags, reason):
    write_series(tmp_path / "in", VOLUME, AFFINE, **tags)
    assert re.search(reason, said := only_reason(tmp_path / "in", tmp_path)), said


def test_a_doubt_is_settled_by_the_user_and_other_faults_are_not(tmp_path):
    write_series(tmp_path / "in", VOLUME, AFFINE, ContrastBolusAgent="Gadovist")
    assert (
        "was asked for with `--series 5`, although a contrast agent"
        in only_head(tmp_path / "in", tmp_path, series=5).remarks[0]
    )
    write_series(tmp_path / "ct", VOLUME, AFFINE, Modality="CT")
    assert "cannot be prepared: its modality is CT" in only_reason(tmp_path / "ct", tmp_path, series=5)
    assert "It has no series 7; it has series 5 (t1_mprage_sag), 10 files" in only_reason(
        tmp_path / "ct", tmp_path, series=7
    )


def test_two_t1w_scans_are_a_question(t1, tmp_path):
    write_series(t1 / "b", VOLUME, AFFINE, SeriesNumber="9", SeriesDescription="t1 mprage Erika Musterfrau")
    assert only_reason(t1, tmp_path) == (
        "Several series are T1w scans: series 5 (t1_mprage_sag), 10 files, series 9, 10 files. "
        "Say which one is meant, such as with `--series 5`."
    )
    assert only_head(t1, tmp_path, series=9).image.name == "series-9.nii"


def test_each_patient_and_each_study_is_a_head(t1, tmp_path):
    write_series(t1 / "b", VOLUME, AFFINE, PatientID="other", PatientName="Someone^Else")
    write_series(t1 / "c", VOLUME, AFFINE, StudyID="2")
    heads, refusals = find(t1, tmp_path)
    assert not refusals
    assert [head.name for head in heads] == ["a", "b", "c"]
    assert len({head.image for head in heads}) == 3


def test_slices_that_are_missing_doubled_or_cut_off_are_refused(t1, tmp_path):
    files = sorted((t1 / "a").iterdir())
    content = files[4].read_bytes()
    files[4].unlink()
    assert "1 slices are missing between others (9 are there)" in only_reason(t1, tmp_path)
    files[4].write_bytes(content[:-100])
    assert "1 of its 10 files are cut off" in only_reason(t1, tmp_path)
    files[4].write_bytes(content[:200])
    reasons = [refusal.reason for refusal in find(t1, tmp_path)[1]]
    assert any("DICOM file" in reason or "cut off" in reason for reason in reasons), reasons
    files[4].write_bytes(content)
    shutil.copy(files[4], t1 / "copy")  # the same slice exported twice
    assert "1 files are copies of others" in " ".join(only_head(t1, tmp_path).remarks)
    write_series(t1 / "a", VOLUME, AFFINE, InstanceNumber=lambda k: str(100 + k))
    for path in files[:3]:
        shutil.copy(path, t1 / f"{path.name}_old")
    write_series(t1 / "more", VOLUME[:, :, :3], AFFINE, InstanceNumber=lambda k: str(200 + k))
    assert "slices are doubled" in only_reason(t1, tmp_path)


def test_a_series_of_several_volumes_is_refused(tmp_path):
    for time in (1, 2):
        write_series(tmp_path / "in" / str(time), VOLUME, AFFINE, InstanceNumber=lambda k, t=time: str(t * 100 + k))
    assert "a series of 2 volumes (4D)" in only_reason(tmp_path / "in", tmp_path)


def test_a_series_of_two_patients_is_refused(tmp_path):
    write_series(tmp_path / "in", VOLUME, AFFINE, PatientID=lambda k: str(k % 2), SeriesInstanceUID="1.2.3")
    heads, refusals = find(tmp_path / "in", tmp_path)
    assert not heads
    assert all("its files name several patients" in refusal.reason for refusal in refusals)


def test_one_file_stands_for_its_series(t1, tmp_path):
    write_series(t1 / "a", VOLUME, AFFINE, SeriesNumber="6", SeriesDescription="t1_mprage_again")
    head = only_head(sorted((t1 / "a").iterdir())[0], tmp_path)
    assert len(list(head.series.iterdir())) == 10
    assert "One file was given; all 10 files of its series were read." in head.remarks


@pytest.mark.parametrize("folder", ["Musterfrau", "kh 4711-0815", "MRT 29.02.2024", "erika", "Klinikum_Beispielstadt"])
def test_nothing_says_who_the_patient_is(tmp_path, folder, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    place = tmp_path / folder
    description = {"SeriesDescription": "t1_mprage Musterfrau 1953-10-17"}
    write_series(place / "KH-4711-0815", VOLUME, AFFINE, ImageComments="Erika Musterfrau", **description)
    write_series(place / "x", VOLUME, AFFINE, SeriesNumber="6", Modality="CT", **description)
    (place / "Musterfrau.txt").write_text("Erika")
    (place / "broken Musterfrau.dcm").write_bytes((place / "x" / "IM6_0001").read_bytes()[:300])
    heads, refusals = find(place, tmp_path)
    assert [head.name for head in heads] == ["scan-01"]
    assert "holds the patient's name, an id or a date, so it is called scan-01 here" in heads[0].remarks[0]
    texts = [
        repr((found.name, getattr(found, "remarks", ""), getattr(found, "reason", ""))) for found in (*heads, *refusals)
    ]
    texts += [*capfd.readouterr(), caplog.text, *(str(p.relative_to(tmp_path)) for p in (tmp_path / "work").rglob("*"))]
    head = heads[0].image.read_bytes()[:352].decode("latin-1")
    for secret in SECRETS:
        assert not any(secret.lower() in text.lower() for text in (*texts, head)), (secret, texts)


def test_a_name_of_two_letters_is_no_part_of_words(tmp_path):
    write_series(tmp_path / "lister ward", VOLUME, AFFINE, **{**PATIENT, "PatientName": "Li^Wu"})
    write_series(tmp_path / "Wu 2", VOLUME, AFFINE, **{**PATIENT, "PatientName": "Li^Wu"})
    assert only_head(tmp_path / "lister ward", tmp_path).name.startswith("lister_ward_")
    assert only_head(tmp_path / "Wu 2", tmp_path).name == "scan-01"


def test_without_pydicom_it_is_said_how_to_install_it(t1, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert "10 DICOM files were found. Reading DICOM needs pydicom, which is not installed" in only_reason(t1, tmp_path)


def test_a_conversion_that_gives_something_else_is_refused(t1, tmp_path, monkeypatch):
    import dcm2niix

    monkeypatch.setattr(dcm2niix, "bin", shutil.which("true"))
    assert "dcm2niix made 0 volumes of the series, expected one" in only_reason(t1, tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_a_broken_file_is_never_a_head_and_never_an_error(tmp_path, seed, capfd):
    """Cut off anywhere, or with bytes changed in its header: the series is refused, or whole."""
    random = np.random.default_rng(seed)
    files = write_series(tmp_path / "in", VOLUME, AFFINE)
    content = files[3].read_bytes()
    for _ in range(8):
        broken = bytearray(content)
        for place in random.integers(132, 1200, 3):
            broken[place] = random.integers(256)
        files[3].write_bytes(bytes(broken[: random.integers(len(content))]))
        heads, refusals = find(tmp_path / "in", tmp_path)
        assert not heads
        assert refusals
        files[3].write_bytes(bytes(broken))
        heads, refusals = find(tmp_path / "in", tmp_path)
        assert heads or refusals
        assert all(len(list(head.series.iterdir())) == 10 for head in heads)
    assert "".join(capfd.readouterr()) == ""


def test_a_file_that_is_compressed_as_a_whole_is_not_unpacked(tmp_path):
    import pydicom

    files = write_series(tmp_path / "in", VOLUME, AFFINE)
    dataset = pydicom.dcmread(files[0])
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    dataset.save_as(files[0])
    reasons = " ".join(refusal.reason for refusal in find(tmp_path / "in", tmp_path)[1])
    assert "compressed as a whole (deflated)" in reasons


@pytest.mark.parametrize("syntax", ["RLELossless", "ImplicitVRLittleEndian", "without a preamble"])
def test_other_ways_of_writing_give_the_same_volume(tmp_path, syntax):
    import pydicom

    plain = tmp_path / "plain"
    write_series(plain, VOLUME, AFFINE)
    before = nib.load(only_head(plain, tmp_path).image)
    expected = np.array(before.dataobj)  # the file is replaced below
    for path in plain.iterdir():
        dataset = pydicom.dcmread(path)
        if syntax == "RLELossless":
            dataset.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        else:
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        content = path.with_name("new")
        pydicom.dcmwrite(content, dataset)
        if syntax == "without a preamble":
            written = content.read_bytes()
            content.write_bytes(written[written.index(b"\x08\x00\x08\x00", 200) :])
        content.replace(path)
    image = nib.load(only_head(plain, tmp_path).image)
    np.testing.assert_array_equal(np.asarray(image.dataobj), expected)
    np.testing.assert_allclose(image.affine, before.affine)
