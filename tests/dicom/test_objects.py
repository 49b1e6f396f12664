"""Three files in the patient's study: validated, sent and received, and with nobody's name outside of them."""

import logging
import shutil
import socket
import subprocess
import time

import pytest

from bundle.dicom import objects, write_objects
from bundle.dicom.answer import REFUSED
from bundle.prediction.judgement import CANNOT, NOT_CALIBRATED
from tests.dicom.examples import NAME, given, without, write_enhanced, write_scan
from tests.dicom.needed import pydicom
from tests.preparation.dicom_series import PATIENT, SECRETS

NAMES = ["0001_document.dcm", "0001_report.dcm", "0001_map.dcm"]
COPIED = ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber")
COPIED += ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "ReferringPhysicianName")


KNOWN = (  # warnings: a private scheme, a term newer than the tool's table, what the scan's own series lacks
    *("Unrecognized defined term = <99YAWARE>", "Unrecognized defined term = <QUANTITY>"),
    "Missing attribute or value that would be needed to build DICOMDIR",
)


def read(folder, names=NAMES):
    return [pydicom.dcmread(folder / name) for name in names]


def test_all_objects_are_in_the_study_of_the_patient(series, written):
    original = pydicom.dcmread(next(series.iterdir()))
    for dataset in read(written):
        for keyword in COPIED:
            assert dataset[keyword].value == original[keyword].value, keyword
        assert str(dataset.PatientName) == NAME
        assert dataset.SpecificCharacterSet == "ISO_IR 192"
        assert dataset.SeriesDescription.startswith("Research only: ")
        assert dataset.Manufacturer == "brain_mri_yaware_classification"
        assert dataset.ManufacturerModelName == "alzheimer-4mm"
        assert list(dataset.SoftwareVersions)[1] == "model 0.3"


def test_their_uids_are_new_and_their_numbers_free(series, written, tmp_path):
    original = [pydicom.dcmread(path) for path in series.iterdir()]
    again = read(tmp_path, [path.name for path in write_objects(given(), series, tmp_path)])
    found = [*original, *read(written), *again]
    assert len({dataset.SOPInstanceUID for dataset in found}) == len(found)
    assert len({dataset.SeriesInstanceUID for dataset in found}) == 1 + 6
    assert [dataset.SeriesNumber for dataset in read(written)] == [901, 902, 903]
    for dataset in read(written):
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID


def test_a_name_of_another_character_set_survives(tmp_path):
    tags = {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jürgen", "StudyDescription": "Schädel"}
    write_scan(tmp_path / "series", **tags)
    write_objects(given(), tmp_path / "series", tmp_path / "out")
    for dataset in read(tmp_path / "out"):
        assert str(dataset.PatientName) == "Müller^Jürgen"
        assert dataset.StudyDescription == "Schädel"


def test_a_series_that_was_made_anonymous_stays_so(tmp_path):
    write_scan(
        tmp_path / "series", PatientIdentityRemoved="YES", DeidentificationMethod="removed names", PatientName=""
    )
    write_objects(without(CANNOT), tmp_path / "series", tmp_path / "out")
    for dataset in read(tmp_path / "out", NAMES[:2]):
        assert (dataset.PatientIdentityRemoved, dataset.DeidentificationMethod) == ("YES", "removed names")


def test_no_name_id_or_date_of_the_patient_is_in_a_page_a_name_or_a_log(tmp_path, caplog, recwarn):
    caplog.set_level(logging.DEBUG)
    write_scan(tmp_path / "series", PatientName=PATIENT["PatientName"].replace("^", " "))  # which highdicom warns of
    paths = write_objects(given(), tmp_path / "series", tmp_path / "out")
    assert not [one for one in caplog.records if one.levelno == logging.INFO], "steps of libraries"
    said = caplog.text + "".join(path.name for path in paths) + "".join(str(one.message) for one in recwarn.list)
    document = read(tmp_path / "out")[0].EncapsulatedDocument
    assert document.startswith(b"%PDF-")
    assert not any(secret in said for secret in SECRETS)
    assert not any(secret.encode() in document for secret in SECRETS)
    for path in paths:
        for element in pydicom.dcmread(path).iterall():
            own = element.keyword in (*COPIED, "EncapsulatedDocument", "FloatPixelData") or element.VR in ("UI", "SQ")
            dated = element.VR in ("DA", "TM", "DT")
            assert own or dated or not any(secret in str(element.value) for secret in SECRETS), element.keyword


@pytest.mark.parametrize("state", [NOT_CALIBRATED, CANNOT, REFUSED])
def test_a_map_is_written_only_of_an_answer(series, tmp_path, state):
    found = [path.name for path in write_objects(without(state), series, tmp_path)]
    assert found == (NAMES if state == NOT_CALIBRATED else NAMES[:2])


def test_files_are_counted_on_and_nothing_is_replaced(series, tmp_path):
    (tmp_path / "0007_report.dcm").write_bytes(b"of somebody")
    found = [path.name for path in write_objects(without(CANNOT), series, tmp_path)]
    assert found == ["0008_document.dcm", "0008_report.dcm"]
    assert (tmp_path / "0007_report.dcm").read_bytes() == b"of somebody"


def test_nothing_stays_when_one_of_them_cannot_be_written(series, tmp_path, monkeypatch):
    save = objects._save

    def full(dataset, path):
        if "report" in path.name:
            raise OSError("the disk is full")
        save(dataset, path)

    monkeypatch.setattr(objects, "_save", full)
    with pytest.raises(OSError, match="full"):
        write_objects(given(), series, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy: Debian's dicom3tools")
@pytest.mark.parametrize("state", ["given", NOT_CALIBRATED, CANNOT, REFUSED, "anonymous", "enhanced"])
def test_dciodvfy_finds_no_error(series, written, tmp_path, state):
    folder = written if state == "given" else tmp_path / "out"
    if state == "anonymous":
        empty = dict.fromkeys(("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyTime"), "")
        write_scan(tmp_path / "series", **empty, PatientName="", StudyDescription=None, ReferringPhysicianName="")
        write_objects(given(), tmp_path / "series", folder)
    elif state == "enhanced":
        write_objects(given(), write_enhanced(tmp_path), folder)
    elif state != "given":
        write_objects(without(state), series, folder)
    for path in sorted(folder.iterdir()):
        said = subprocess.run(
            ["dciodvfy", "-new", path], capture_output=True, text=True, check=False
        ).stderr.splitlines()
        kind = {"document": "EncapsulatedPDF", "report": "Comprehensive3DSR", "map": "ParametricMap"}
        assert kind[path.stem.split("_")[1]] in said, "the tool has not taken it for what it is"
        assert not [line for line in said if "Error" in line]
        assert not [line for line in said if "Warning" in line and not line.endswith(KNOWN)]


@pytest.fixture
def archive(tmp_path):
    """A port on which dcmtk's storescp stores what it is sent, and the folder where it does."""
    if shutil.which("storescp") is None or shutil.which("storescu") is None:
        pytest.skip("needs storescp and storescu: Debian's dcmtk")
    folder = tmp_path / "archive"
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(["storescp", "--output-directory", folder, str(port)], stderr=subprocess.PIPE) as process:
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield port, folder
        finally:
            process.terminate()


def test_an_archive_stores_what_it_is_sent(archive, written):
    port, folder = archive
    sent = [written / name for name in NAMES]
    subprocess.run(["storescu", "--required", "127.0.0.1", str(port), *sent], check=True, capture_output=True)
    received = {dataset.SOPInstanceUID: dataset for dataset in map(pydicom.dcmread, folder.iterdir())}
    assert len(received) == len(sent)
    for dataset in read(written):
        assert received[dataset.SOPInstanceUID] == dataset
