"""Whose a series is, and the series that no answer may go back into."""

import shutil

import pytest

from bundle.dicom.series import read_source
from tests.dicom.examples import NAME, SHAPE, write_scan
from tests.dicom.needed import pydicom
from tests.preparation.dicom_series import PATIENT, SECRETS


def test_a_series_is_known_by_its_patient_and_study(series):
    source = read_source(series)
    assert source.identity["PatientName"] == NAME
    assert source.identity["StudyDescription"] == "Schädel-MRT"
    for keyword in ("PatientID", "PatientBirthDate", "AccessionNumber", "StudyDate", "ReferringPhysicianName"):
        assert source.identity[keyword] == PATIENT[keyword]
    assert len(source.images) == SHAPE[2]
    assert source.series_number == 5


def test_nothing_of_the_patient_is_in_what_libraries_are_given(series):
    for image in read_source(series).images:
        assert not image.PatientName
        assert not any(secret in str(image) for secret in (*SECRETS, "Müller"))


@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO_IR 100", "Müller^Jürgen"), ("ISO_IR 144", "Люкceмбypг"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎")],
)
def test_a_name_is_read_in_its_own_character_set(tmp_path, charset, name):
    write_scan(tmp_path, SpecificCharacterSet=charset, PatientName=name, StudyDescription="MRT")
    assert read_source(tmp_path).identity["PatientName"] == name


def test_a_number_of_ours_is_not_that_of_the_series(tmp_path):
    assert read_source(write_scan(tmp_path, SeriesNumber="902")).number(1) == 903


MIXED = {
    "PatientID": lambda n: f"KH-4711-0815-{n > 3}",
    "PatientName": lambda n: "Musterfrau^Erika" if n else "Musterfrau^Ida",
    "StudyInstanceUID": lambda n: f"1.2.3.{n % 2}",
    "SeriesInstanceUID": lambda n: f"1.2.3.{n % 2}",
    "FrameOfReferenceUID": lambda n: f"1.2.3.{n % 2}",
    "AccessionNumber": lambda n: f"ACC998877{n}",
}


@pytest.mark.parametrize("keyword", MIXED)
def test_a_folder_that_mixes_patients_studies_or_series_is_refused(tmp_path, keyword):
    write_scan(tmp_path, **{keyword: MIXED[keyword]})
    with pytest.raises(ValueError, match=f"different values of {keyword}; give a folder") as refusal:
        read_source(tmp_path)
    assert not any(secret in str(refusal.value) for secret in SECRETS)


def test_a_series_that_is_nobodys_is_refused(tmp_path):
    write_scan(tmp_path, PatientID="", PatientName="")
    with pytest.raises(ValueError, match="neither PatientID nor PatientName"):
        read_source(tmp_path)


def test_a_series_without_what_an_archive_needs_is_refused(tmp_path, series):
    shutil.copytree(series, tmp_path / "series")
    path = sorted((tmp_path / "series").iterdir())[0]
    dataset = pydicom.dcmread(path)
    del dataset.StudyInstanceUID
    dataset.save_as(path)
    with pytest.raises(ValueError, match="1 of its 8 files have no StudyInstanceUID"):
        read_source(tmp_path / "series")


def test_a_name_that_cannot_be_read_for_certain_is_refused(tmp_path, series):
    """Letters beyond ASCII in a file that states no character set: the archive might show another name."""
    shutil.copytree(series, tmp_path / "series")
    for path in (tmp_path / "series").iterdir():
        content = path.read_bytes()
        path.write_bytes(content.replace(b"ISO_IR 192", b"ISO_IR 6  "))
    with pytest.raises(ValueError, match="PatientName cannot be read: its letters") as refusal:
        read_source(tmp_path / "series")
    assert "ller" not in str(refusal.value)


def test_a_value_that_dicom_does_not_allow_is_copied_and_not_shown(tmp_path, series, caplog, recwarn):
    shutil.copytree(series, tmp_path / "series")
    for path in (tmp_path / "series").iterdir():
        path.write_bytes(path.read_bytes().replace(b"19531017", b"17.10.53"))
    assert read_source(tmp_path / "series").identity["PatientBirthDate"] == "17.10.53"
    assert not caplog.text
    assert not recwarn.list


def test_what_is_no_dicom_file_is_refused_and_counted(tmp_path, series):
    shutil.copytree(series, tmp_path / "series")
    (tmp_path / "series" / "Musterfrau.txt").write_text("notes")
    with pytest.raises(ValueError, match="1 of its 9 files are no DICOM files") as refusal:
        read_source(tmp_path / "series")
    assert "Musterfrau" not in str(refusal.value)
    with pytest.raises(ValueError, match="holds 0 files"):
        read_source(tmp_path / "nothing")
