"""From a zip of DICOM files to an answer, and back into the study: the whole way, with the real libraries."""

import zipfile
from functools import partial
from shutil import which

import numpy as np
import pandas as pd
import pytest

from bundle.cli.main import main
from bundle.extras import is_there

pytestmark = [pytest.mark.ants, pytest.mark.long]
NEEDED = ("ants", "deepbet", "deepmriprep", "pydicom", "dcm2niix", "highdicom", "fpdf")


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """Answers to a zip whose name and headers say who the patient is, prepared with voxels of 3 and 6 mm."""
    missing = [name for name in NEEDED if not is_there(name)]
    if missing:
        pytest.skip(f"the extra is not installed ({', '.join(missing)}): make prepare")
    from bundle.phantom.head import make_head
    from bundle.preparation.pipeline import prepare_with_ants
    from bundle.preparation.run import prepare_scans
    from bundle.preparation.settings import Settings
    from tests.preparation.dicom_series import write_series

    folder = tmp_path_factory.mktemp("scanner")
    image, _ = make_head(1.5)
    write_series(folder / "dicom", np.asarray(image.dataobj).clip(0).astype(np.int16), image.affine)
    packed = folder / "Musterfrau_Erika.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in (folder / "dicom").iterdir():
            archive.write(path, f"Musterfrau_Erika/{path.name}")
    settings = Settings(
        working_mm=3.0, warp_iterations=(10, 5), affine_mm=(9.0, 6.0), warp_mm=6.0, n4_iterations=(10,), n4_shrink=2
    )
    coarse = partial(prepare_with_ants, settings=settings)

    def side_by_side(heads, refusals, output, pipeline, workers=None):
        return prepare_scans(heads, refusals, output, coarse, bids=False).records

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bundle.prediction.incoming.prepare_side_by_side", side_by_side)
        assert main(["predict", str(packed), "--output", str(folder / "out"), "--dicom-out", "--explain", "none"]) == 0
    return folder / "out"


def test_the_table_says_what_prepared_the_scan_and_how_well(answered):
    row = pd.read_csv(answered / "predictions.csv").iloc[0]
    assert row["pipeline"] == "yaware-ants 1"
    assert row["preparation"] in ("ok", "warn")
    assert row["file"].startswith(str(answered / "prepared"))
    assert row["answer"] == "cannot answer"  # DICOM does not say that the head is a phantom's
    regions = pd.read_csv(answered / "regions.tsv", sep="\t")
    assert len(regions) == 35
    assert 400 < regions["volume_ml"].sum() < 1000


def test_the_page_leads_to_that_of_the_preparation(answered):
    (page,) = (answered / "scans").glob("*.html")
    assert 'href="../prepared/scans/scan-01.html"' in page.read_text()
    assert (answered / "prepared/scans/scan-01.html").is_file()


def test_nothing_but_the_dicom_objects_says_who_the_patient_is(answered):
    from tests.preparation.dicom_series import SECRETS

    written = [path for path in answered.rglob("*") if path.is_file()]
    assert not [path for path in written for secret in SECRETS if secret in path.relative_to(answered).as_posix()]
    texts = [p.read_text() for p in written if p.suffix in (".html", ".csv", ".tsv", ".json")]
    assert len(texts) > 6
    assert not [secret for secret in SECRETS for text in texts if secret in text]


def test_document_and_report_lie_in_the_patients_study(answered):
    import pydicom

    from tests.preparation.dicom_series import PATIENT

    files = sorted((answered / "dicom").rglob("*.dcm"))
    assert [path.name for path in files] == ["0001_document.dcm", "0001_report.dcm"]
    for path in files:
        dataset = pydicom.dcmread(path)
        assert str(dataset.PatientName) == PATIENT["PatientName"]
        assert dataset.PatientID == PATIENT["PatientID"]
    said = files[1].read_bytes()
    assert b"Research use only" in said
    assert b"cannot answer" in said


@pytest.mark.skipif(which("dciodvfy") is None, reason="dciodvfy is not installed: apt-get install dicom3tools")
def test_a_validator_finds_no_error(answered):
    import subprocess

    for path in (answered / "dicom").rglob("*.dcm"):
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in said.stdout + said.stderr
