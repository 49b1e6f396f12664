"""Scans as they come: what needs no preparation is taken as it is, the rest becomes maps, or is refused in words."""

import json
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bundle.prediction import incoming
from bundle.prediction.incoming import counted, incoming_scans, needs_preparation, preparation_check, preparations
from bundle.preparation.record import Record
from bundle.scans.contract import PASS, REFUSE, WARN
from bundle.scans.grid import REFERENCE

T1W = np.diag([-3.0, 3.0, 3.0, 1.0])


def write(path, top, affine=T1W, shape=(40, 48, 40), description=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = np.linspace(0, top, np.prod(shape), dtype=np.float32).reshape(shape)
    image = nib.Nifti1Image(volume, affine)
    image.header["descrip"] = description
    nib.save(image, path)
    return path


@pytest.fixture
def prepared(monkeypatch):
    """A preparation that fails for names with 'bad' and warns for names with 'odd'; it keeps what it was given."""
    given = []

    def prepare(heads, refusals, folder, pipeline, workers=None):
        given.extend(heads)
        found = []
        for head in heads:
            status = "fail" if "bad" in head.name else "warn" if "odd" in head.name else "ok"
            file = {} if status == "fail" else {"file": f"mwp1{head.name}.nii.gz"}
            reasons = () if status == "ok" else ("The head is cropped.",)
            made_by = {"name": "yaware-ants", "version": "1"}
            found.append(
                Record(
                    head.name, status, reasons, head.participant_id, map=file, pipeline=made_by, volumes={"tiv": 1500.0}
                )
            )
        return (*found, *map(Record.of_refusal, refusals))

    monkeypatch.setattr(incoming, "prepare_side_by_side", prepare)
    monkeypatch.setattr("bundle.preparation.rows.prepare_side_by_side", prepare)
    return given


@pytest.mark.parametrize(
    ("name", "top", "affine", "shape", "expected"),
    [
        ("sub-1_T1w.nii.gz", 900, T1W, (40, 48, 40), True),
        ("density.nii.gz", 1.7, T1W, (40, 48, 40), False),
        ("t1_on_the_templates_grid.nii.gz", 900, REFERENCE.matrix, REFERENCE.shape, False),
    ],
)
def test_an_image_with_a_scanners_values_needs_a_preparation(name, top, affine, shape, expected, tmp_path):
    assert needs_preparation(write(tmp_path / name, top, affine, shape)) is expected


def test_what_cannot_be_read_is_left_to_the_contract_and_what_is_no_image_to_the_preparation(tmp_path):
    broken, packed = tmp_path / "a.nii.gz", tmp_path / "a.zip"
    broken.write_bytes(b"no image")
    packed.write_bytes(b"no archive")
    assert not needs_preparation(broken)
    assert not needs_preparation(tmp_path / "missing.nii")
    assert not needs_preparation(tmp_path / "array.npy")
    assert needs_preparation(packed)


def test_a_map_that_says_its_pipeline_is_taken_as_it_is_whatever_its_values(tmp_path):
    path = write(tmp_path / "mwp1a.nii.gz", 900)
    path.with_name("mwp1a.json").write_text(json.dumps({"pipeline": {"name": "CAT12", "version": "12.9"}}))
    assert not needs_preparation(path)
    assert preparations([{"image": str(path)}]) == {"pipeline": ["CAT12 12.9"], "preparation": [""]}


def test_a_folder_gives_its_maps_and_what_was_made_of_its_other_scans(tmp_path, prepared):
    write(tmp_path / "in/sub-1_T1w.nii.gz", 900)
    write(tmp_path / "in/sub-bad_T1w.nii.gz", 900)
    known = write(tmp_path / "in/density.nii.gz", 1.5)
    (tmp_path / "in/notes.txt").write_text("nothing")
    records = incoming_scans(tmp_path / "in", prepared=tmp_path / "out")
    by_id = {record["participant_id"]: record for record in records}
    assert by_id["density"]["image"] == str(known)
    assert "prepared" not in by_id["density"]
    made, failed = by_id["sub-1"], by_id["sub-bad"]
    assert made["image"] == str(tmp_path / "out" / f"mwp1{prepared[0].name}.nii.gz")
    assert made["file"] == str(tmp_path / "in/sub-1_T1w.nii.gz")
    assert made["tiv"] == 1500
    assert failed["image"] == ""
    assert preparation_check(failed).verdict == REFUSE
    assert "cropped" in preparation_check(failed).reason


def test_a_folder_of_maps_alone_is_listed_as_before(tmp_path, prepared):
    write(tmp_path / "density.nii.gz", 1.5)
    (tmp_path / "tiv.tsv").write_text("participant_id\ttiv\ndensity\t1400\n")
    (record,) = incoming_scans(tmp_path, prepared=tmp_path / "out")
    assert (record["participant_id"], record["tiv"], prepared) == ("density", 1400, [])


def test_rows_of_a_table_name_scans_of_every_kind(tmp_path, prepared):
    write(tmp_path / "density.nii.gz", 1.5)
    write(tmp_path / "head.nii.gz", 900)
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        archive.write(tmp_path / "head.nii.gz", "scan/head.nii.gz")
    (tmp_path / "empty").mkdir()
    files = ["head.nii.gz", "density.nii.gz", "odd.zip", "empty"]
    table = pd.DataFrame(
        {"file": files, "participant_id": ["sub-a", "sub-b", "sub-odd", "sub-d"], "age": [30, 40, 50, 60]}
    )
    table.to_csv(tmp_path / "scans.tsv", sep="\t", index=False)
    records = incoming_scans(tmp_path / "scans.tsv", prepared=tmp_path / "out")
    assert [record["participant_id"] for record in records] == list(table["participant_id"])
    assert [record["age"] for record in records] == [30, 40, 50, 60]
    verdicts = [check and check.verdict for check in map(preparation_check, records)]
    assert verdicts == [PASS, None, WARN, REFUSE]
    assert records[2]["file"] == records[2]["image"]  # the path of what was unpacked is gone later
    assert preparations(records)["preparation"] == ["ok", "", "warn", "refused"]


def test_prepared_only_refuses_what_would_be_prepared(tmp_path, prepared):
    write(tmp_path / "in/sub-1_T1w.nii.gz", 900)
    with pytest.raises(ValueError, match=r"1 scan\(s\) are no grey-matter maps \('sub-1.*--prepared_only was given"):
        incoming_scans(tmp_path / "in", prepared_only=True)
    assert prepared == []


def test_a_place_without_any_scan_is_refused_with_what_it_holds(tmp_path, prepared):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ValueError, match=r"no scan that can be prepared: 1 files of other kinds \(\.txt\)"):
        incoming_scans(tmp_path)
    assert not Path("prepared").exists()


def test_a_dry_run_counts_and_prepares_nothing(tmp_path, prepared):
    write(tmp_path / "sub-1_T1w.nii.gz", 900)
    write(tmp_path / "density.nii.gz", 1.5)
    (tmp_path / "a.zip").write_bytes(b"")
    assert counted(tmp_path) == "2, 1 of which would be prepared and 1 archive(s)"
    assert prepared == []


REPORT = (
    "<S><software><version_cat>12.9</version_cat></software><qualityratings><IQR>{}</IQR></qualityratings>"
    "<subjectmeasures><vol_TIV>1500.5</vol_TIV></subjectmeasures></S>"
)


@pytest.mark.parametrize(("rating", "verdict"), [(2.1, PASS), (4.2, WARN)])
def test_what_lies_beside_a_map_gives_its_head_size_its_pipeline_and_a_check(rating, verdict, tmp_path):
    write(tmp_path / "mwp1sub-1_T1w.nii", 1.5)
    (tmp_path / "cat_sub-1_T1w.xml").write_text(REPORT.format(rating))
    (record,) = incoming_scans(tmp_path, prepared=tmp_path / "out")
    assert record["tiv"] == 1500.5
    assert preparations([record])["pipeline"] == ["CAT12 12.9"]
    check = preparation_check(record)
    assert (check.measured, check.verdict) == (f"CAT12 12.9, IQR {rating}", verdict)
    assert ("rates the image quality" in str(check)) == (verdict == WARN)


def test_what_a_table_says_of_a_head_comes_first(tmp_path):
    write(tmp_path / "mwp1sub-1_T1w.nii", 1.5)
    (tmp_path / "cat_sub-1_T1w.xml").write_text(REPORT.format(2))
    (tmp_path / "tiv.tsv").write_text("participant_id\ttiv\nsub-1\t1400\n")
    (tmp_path / "scans.csv").write_text("file,tiv\nmwp1sub-1_T1w.nii,1450\n")
    assert [record["tiv"] for record in incoming_scans(tmp_path)] == [1400]
    assert [record["tiv"] for record in incoming_scans(tmp_path / "scans.csv")] == [1450]


def test_a_map_without_a_report_is_no_warning_and_a_damaged_one_is(tmp_path):
    write(tmp_path / "mwp1a.nii", 1.5, REFERENCE.matrix, REFERENCE.shape, b"GM tissue map(Jac. sc. warped)")
    (record,) = incoming_scans(tmp_path)
    assert (preparation_check(record).measured, preparation_check(record).verdict) == ("CAT12", PASS)
    (tmp_path / "cat_a.xml").write_text("<S>")
    assert preparation_check(incoming_scans(tmp_path)[0]).verdict == WARN


def test_scans_and_other_outputs_beside_maps_are_left_out(tmp_path, prepared):
    write(tmp_path / "sub-1_T1w.nii", 900)
    write(tmp_path / "sub-2_T1w.nii", 900)
    for name in ("mwp1", "mwp2", "p0", "wm"):
        write(tmp_path / f"mri/{name}sub-1_T1w.nii", 1.5)
    records = incoming_scans(tmp_path, prepared=tmp_path / "out")
    assert [Path(record["image"]).name for record in records] == ["mwp1sub-1_T1w.nii", "mwp1sub-2.nii.gz"]
    assert [head.name for head in prepared] == ["sub-2"]
    assert counted(tmp_path) == "2, 1 of which would be prepared"
