"""Maps that others have made become rows, maps and pages like prepared ones, with every value unchanged."""

import json
import shutil
import zipfile
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bundle.cli.main import main
from bundle.cli.prepare_command import _done
from bundle.prediction.incoming import counted, incoming_scans, preparation_check
from bundle.preparation import FAIL, OK, WARN, run, take_made
from bundle.preparation.made import made_of
from bundle.preparation.output import is_bids
from bundle.preparation.record import Record
from bundle.preparation.run import Report
from bundle.preparation.sources import find_heads
from bundle.scans.contract import PASS
from bundle.scans.grid import NEWER, REFERENCE, templates, to_grid
from bundle.scans.nifti import VolumeError
from tests.preparation.conftest import in_this_process
from tests.preparation.test_made import CAT

T1 = np.diag([2.0, 2.0, 2.0, 1.0])


@pytest.fixture(scope="session")
def grey():
    """A map and how much grey matter it holds, mL."""
    noise = np.random.default_rng(0).normal(1, 0.15, REFERENCE.shape)
    volume = (0.6 * templates(REFERENCE)["grey matter"] * noise).clip(0).astype(np.float32)
    return volume, float(volume.sum(dtype=np.float64)) * REFERENCE.voxel_ml


def write_map(path, volume, grid=REFERENCE, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(to_grid(volume, REFERENCE.matrix, grid), grid.matrix if affine is None else affine), path)
    return path


def write_report(folder, scan, iqr=2.25, gm=650.0):
    folder.mkdir(parents=True, exist_ok=True)
    text = CAT.format(version="12.9", revision="2577").replace("2.25", str(iqr)).replace(" 650 ", f" {gm:.1f} ")
    (folder / f"cat_{scan}.xml").write_text(text)


def write_scan(path):
    nib.save(nib.Nifti1Image(np.full((60, 60, 60), 900, np.int16), T1), path)
    return path


def of_cat(folder, grey, scan="sub-01_T1w", grid=REFERENCE, **more):
    """A map where CAT12 writes it, with its report."""
    path = write_map(folder / f"mri/mwp1{scan}.nii", grey[0], grid)
    write_report(folder / "report", scan, **{"gm": grey[1], **more})
    return path


@pytest.mark.parametrize("grid", [REFERENCE, NEWER], ids=["reference", "newer"])
def test_every_value_is_kept_and_the_report_read(grid, grey, tmp_path):
    outcome = take_made(made_of(of_cat(tmp_path, grey, grid=grid)))
    assert (outcome.status, outcome.reasons, outcome.layers) == (OK, (), None)
    expected = to_grid(to_grid(grey[0], REFERENCE.matrix, grid), grid.matrix, REFERENCE)
    np.testing.assert_array_equal(outcome.map, expected)
    assert list(outcome.volumes) == ["tiv", "gm", "wm", "csf"]
    assert outcome.volumes["tiv"] == 1500.5
    assert outcome.measures == {"NCR": 1.9, "IQR": 2.25}
    assert (outcome.pipeline["name"], outcome.pipeline["version"]) == ("CAT12", "12.9 2577")


def test_a_map_with_turned_axes_comes_onto_the_grid(grey, tmp_path):
    affine = REFERENCE.matrix @ np.array([[-1, 0, 0, 120], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(grey[0][::-1], affine), tmp_path / "mwp1a.nii")
    np.testing.assert_array_equal(take_made(made_of(tmp_path / "mwp1a.nii")).map, grey[0])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"iqr": 4.2}, "CAT12 rates the image quality 4.2"),
        ({"gm": 300}, "The report gives 300 mL of grey matter, and the map holds"),
    ],
)
def test_a_poor_rating_and_a_report_that_does_not_fit_are_warnings(more, words, grey, tmp_path):
    outcome = take_made(made_of(of_cat(tmp_path, grey, **more)))
    assert outcome.status == WARN
    assert words in " ".join(outcome.reasons)


def test_without_a_report_the_map_itself_says_how_much_grey_matter_there_is(grey, tmp_path):
    made = made_of(write_map(tmp_path / "mwp1a.nii", grey[0]))
    outcome = take_made(made)
    assert outcome.status == WARN
    assert outcome.volumes == {"gm": pytest.approx(grey[1])}
    assert "no report gives it" in " ".join(made.remarks)
    assert "total intracranial volume is not known" in outcome.reasons[0]
    assert "Nothing says which pipeline made the map" in outcome.reasons[1]


def test_what_lies_outside_of_the_grid_is_said(grey, tmp_path):
    affine = REFERENCE.matrix.copy()
    affine[2, 3] += 45  # 30 whole voxels
    outcome = take_made(made_of(write_map(tmp_path / "mwp1a.nii", grey[0], affine=affine)))
    assert "lies outside of 121×145×121 voxels" in " ".join(outcome.reasons)


def test_a_map_that_is_no_grey_matter_fails(grey, tmp_path):
    outcome = take_made(made_of(write_map(tmp_path / "mwp1a.nii", grey[0][::-1, ::-1, ::-1])))
    assert outcome.status == FAIL
    assert "likeness to grey matter" in " ".join(outcome.reasons)


@pytest.mark.parametrize("change", ["size", "half a voxel"])
def test_a_map_that_would_have_to_be_interpolated_is_refused(change, grey, tmp_path):
    affine = REFERENCE.matrix.copy()
    if change == "size":
        affine[:3, :3] *= 2
    else:
        affine[0, 3] += 0.75
    with pytest.raises(VolumeError, match=r"would have to be interpolated: make it again with voxels of 1\.5 mm"):
        take_made(made_of(write_map(tmp_path / "mwp1a.nii", grey[0], affine=affine)))


@pytest.fixture(scope="module")
def taken(grey, tmp_path_factory):
    """`in/` as CAT12 leaves it, with a T1w scan, and `out/` of `prepare`."""
    folder = tmp_path_factory.mktemp("taken")
    of_cat(folder / "in", grey)
    of_cat(folder / "in", grey, "sub-02_T1w", iqr=4.2)
    (folder / "in/mri/mwp1sub-03_T1w.nii").write_text("no image")
    write_scan(folder / "in/sub-01_T1w.nii")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "each_in_a_process", in_this_process)
        assert main(["prepare", str(folder / "in"), "--output", str(folder / "out")]) == 3
    return folder


def test_maps_become_rows_records_and_pages(taken, grey):
    table = pd.read_csv(taken / "out/qc.tsv", sep="\t", index_col="name", keep_default_na=False)
    assert table["status"].to_dict() == {"sub-01": "ok", "sub-02": "warn", "sub-03": "fail"}
    assert table.loc["sub-01", ["participant_id", "tiv", "IQR"]].tolist() == ["sub-01", "1500.5", "2.25"]
    assert "cannot be read" in table.loc["sub-03", "reasons"]
    assert pd.read_csv(taken / "out/tiv.tsv", sep="\t")["name"].tolist() == ["sub-01", "sub-02"]
    np.testing.assert_array_equal(nib.load(taken / "out/mwp1sub-01.nii.gz").get_fdata(dtype=np.float32), grey[0])
    record = json.loads((taken / "out/mwp1sub-01.json").read_text())
    assert record["pipeline"].items() >= {"name": "CAT12", "version": "12.9 2577"}.items()
    assert "SpatialReference" not in record
    assert "was not prepared again; `prepare --again`" in record["remarks"][1]
    page = (taken / "out/scans/sub-01.html").read_text()
    assert page.count("data:image/webp") == 12
    for said in ("Does the map fit the template?", "CAT12 12.9 2577", "taken as another pipeline made it"):
        assert said in page
    assert (taken / "out/index.html").read_text().count('class="thumbnail"') == 2


def test_a_second_run_keeps_what_is_there_until_the_report_changes(taken, grey, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "each_in_a_process", in_this_process)
    taken = shutil.copytree(taken, tmp_path / "taken")
    heads, _ = find_heads([taken / "in"], taken / "work")
    usable = [head for head in heads if head.name != "sub-03"]
    assert run.prepare_scans(usable, [], taken / "out").kept == 2
    write_report(taken / "in/report", "sub-02_T1w", iqr=2.0, gm=grey[1])
    heads, _ = find_heads([taken / "in"], taken / "work")
    report = run.prepare_scans([head for head in heads if head.name != "sub-03"], [], taken / "out")
    assert (report.kept, [record.status for record in report.records]) == (1, ["ok", "ok"])


def test_maps_that_prepare_wrote_are_not_copied(taken):
    heads, refusals = find_heads([taken / "out"], taken / "work")
    assert not heads
    assert "2 maps that `prepare` wrote before (give them to `predict`)" in refusals[0].reason


def test_predict_takes_them_with_head_sizes_and_once_a_person(taken, caplog):
    caplog.set_level("INFO")
    records = {r["participant_id"]: r for r in incoming_scans(taken / "in", prepared=taken / "none")}
    assert set(records) == {"sub-01", "sub-02", "sub-03"}
    assert records["sub-01"]["image"].endswith("mwp1sub-01_T1w.nii")
    assert records["sub-01"]["tiv"] == 1500.5
    assert "1 scans are left out, because their maps are there" in caplog.text
    assert counted(taken / "in").startswith("3 and") or counted(taken / "in") == "3"
    known = {r["participant_id"]: preparation_check(r) for r in incoming_scans(taken / "out", prepared=taken / "none")}
    assert (known["sub-01"].measured, known["sub-01"].verdict) == ("CAT12 12.9 2577, IQR 2.2", PASS)


def test_only_the_scan_of_the_map_is_left_out(grey, tmp_path):
    for person in "ab":
        (tmp_path / person).mkdir()
        write_scan(tmp_path / person / "T1.nii")
    of_cat(tmp_path / "a", grey, "T1")
    heads, refusals = find_heads([tmp_path], tmp_path / "work")
    assert not refusals
    assert sorted(str(head.image.relative_to(tmp_path)) for head in heads) == ["a/mri/mwp1T1.nii", "b/T1.nii"]


def test_a_map_in_an_archive_has_lost_its_report_and_is_refused(grey, tmp_path):
    path = write_map(tmp_path / "mwp1a.nii", grey[0])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "mri/mwp1a.nii")
    heads, refusals = find_heads([tmp_path / "a.zip"], tmp_path / "work")
    assert not heads
    assert "a grey-matter map in an archive; unpack it" in refusals[0].reason


def test_a_run_whose_maps_come_from_two_pipelines_says_so(tmp_path):
    taken = Record("a", OK, pipeline={"name": "CAT12", "version": "12.9"})
    ours, failed = replace(taken, pipeline={"name": "yaware-ants", "version": "1"}), Record("c", FAIL)
    assert "CAT12 12.9 (2), yaware-ants 1 (1)" in _done(Report(tmp_path, (taken, ours, taken, failed), 0))
    assert "pipelines" not in _done(Report(tmp_path, (taken, taken, failed), 0))


def test_taken_maps_are_no_bids_derivatives_unless_asked_for(grey, tmp_path):
    (tmp_path / "sub-01/anat").mkdir(parents=True)
    write_map(tmp_path / "sub-01/anat/mwp1sub-01_T1w.nii", grey[0])
    heads, _ = find_heads([tmp_path], tmp_path / "work")
    assert (heads[0].participant_id, is_bids(heads)) == ("sub-01", False)
