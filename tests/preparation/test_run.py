"""Many scans: one that fails stops none of the others, what is there is kept, and nothing tells who the patient is."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from bundle import locks
from bundle.preparation import Head, Refusal, run
from bundle.preparation.output import Folder
from bundle.preparation.record import Record
from bundle.preparation.run import Report, prepare_scans, without_places
from tests.preparation import fake
from tests.preparation.conftest import KINDS, heads_of

FINISHED = ("good", "doubtful", "bad", "stopped")  # kinds whose preparation came to an end


def quality(folder):
    return pd.read_csv(folder / "qc.tsv", sep="\t", index_col="name", keep_default_na=False)


def test_every_scan_has_a_row_and_a_sentence(prepared):
    assert (prepared / "status.txt").read_text() == "3 0 8"
    table = quality(prepared / "out")
    assert table["status"].to_dict() == {
        **dict.fromkeys(("bad", "stopped", "raises", "refuses", "crashes"), "fail"),
        "good": "ok",
        "doubtful": "warn",
        "noise": "refused",
    }
    assert table.loc["crashes", "reasons"].startswith("The preparation did not come to an end. Its process ended")
    assert table.loc["raises", "reasons"] == "RuntimeError: a library broke over (64, 78, 64)"
    assert table.loc["refuses", "reasons"] == "the image is no T1w scan; give one."
    assert table.loc["good", "brain_volume"] == "1400"
    assert table.loc["crashes", "brain_volume"] == "n/a"


def test_only_maps_that_can_be_used_lie_where_readers_look(prepared):
    from bundle.prediction import list_scans

    found = sorted(Path(record["image"]).name for record in list_scans(prepared / "out"))
    assert found == ["mwp1doubtful.nii.gz", "mwp1good.nii.gz"]
    failed = sorted(path.name for path in (prepared / "out" / "failed").iterdir() if path.suffix != ".json")
    assert failed == ["mwp1bad.nii.gz.failed"], "the map that was made, under a name that no reader takes"


def test_what_came_to_an_end_is_kept(prepared, prepare, monkeypatch, tmp_path):
    shutil.copytree(prepared / "out", tmp_path / "out")
    monkeypatch.setattr(run, "_prepared", pytest.fail)
    report = prepare(heads_of(tmp_path / "in", {name: KINDS[name] for name in FINISHED}), output=tmp_path / "out")
    assert report.kept == 4
    assert [record.name for record in report.records] == list(FINISHED)
    assert report.exit_status == 3
    assert len(quality(tmp_path / "out")) == 7, "the scans of earlier runs stay in the tables"


@pytest.mark.parametrize("change", ["input", "version", "settings", "map", "page", "record", "unknown"])
def test_what_changed_is_done_again(change, prepared, tmp_path):
    shutil.copytree(prepared / "out", tmp_path / "out")
    head = fake.head(tmp_path, "good", fake.DOUBTFUL if change == "input" else fake.GOOD)
    folder, pipeline = Folder(tmp_path / "out"), dict(fake.PIPELINE)
    assert (folder.kept(head, pipeline) is None) == (change == "input")
    pipeline |= {"version": {"version": "4"}, "settings": {"settings": {"size": [1, 3]}}}.get(change, {})
    if change == "map":
        path = folder.map_of("good")
        path.write_bytes(path.read_bytes()[:-1])
    elif change == "page":
        folder.page_of("good").unlink()
    elif change == "record":
        folder.record_of("good").write_text("{}")
    assert folder.kept(head, {} if change == "unknown" else pipeline) is None


def test_a_scan_that_fails_now_leaves_no_earlier_map(prepare, tmp_path):
    output = tmp_path / "out"
    assert prepare([fake.head(tmp_path, "a", fake.GOOD)], output=output).exit_status == 0
    assert Folder(output).map_of("a").is_file()
    assert prepare([fake.head(tmp_path, "a", fake.RAISES)], output=output).exit_status == 3
    assert [path.name for path in output.rglob("mwp1*")] == ["mwp1a.json"]
    assert not Folder(output).thumbnail_of("a").exists()
    assert prepare([fake.head(tmp_path, "a", fake.DOUBTFUL)], output=output).exit_status == 0
    assert not list((output / "failed").iterdir())


def test_exit_status_says_what_became_of_them():
    good, bad = Record("a", "ok"), Record("b", "fail")
    refused = Record.of_refusal(Refusal("c", Path(), "It is no scan."))
    known = (((good,), 0), ((good, bad), 3), ((good, refused), 3), ((bad,), 3), ((refused,), 1), ((), 1))
    for records, status in known:
        assert Report(Path(), records, 0).exit_status == status


def test_a_folder_where_another_process_writes_is_refused(tmp_path):
    with FileLock(tmp_path / locks.LOCK), pytest.raises(OSError, match="is being written by another process"):
        prepare_scans([], [], tmp_path, fake.prepare)


def test_unknown_pipelines_and_names_that_are_no_files_are_refused_before_anything_is_written(tmp_path):
    head = fake.head(tmp_path, "a")
    for heads, more, words in (
        ([head], {"backend": "ant"}, "No pipeline is named 'ant'; did you mean 'ants'"),
        ([replace(head, name="../a")], {}, "cannot be a file name"),
        ([head, replace(head, name="A")], {}, "The maps of 'a' and 'A' would be one file"),
        ([head], {"bids": True}, "'a' is no BIDS name"),
    ):
        with pytest.raises(ValueError, match=words):
            prepare_scans(heads, [], tmp_path / "out", **{"backend": fake.prepare, **more})
    assert not (tmp_path / "out").exists()


def test_no_output_holds_the_path_of_a_scan(prepare, tmp_path, caplog):
    folder = tmp_path / "DOE^JANE 19560101"
    image = fake.write_head(folder, "im", fake.RAISES)
    (folder / "broken.nii.gz").write_bytes(b"no image")
    heads = [Head("scan-1", image, folder), Head("scan-2", folder / "broken.nii.gz", folder)]
    prepare(heads, output=tmp_path / "out")
    written = caplog.text + "".join(p.read_text() for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert "scan-2" in written
    assert not {"DOE", "JANE", "1956"} & {word for word in ("DOE", "JANE", "1956") if word in written}
    assert without_places(f"{folder}/x: {image} is bad", heads[0]) == "scan-1/x: scan-1 is bad"


def test_the_record_says_what_made_the_map(prepared):
    from bundle.scans.made_by import pipeline_of

    record = json.loads((prepared / "out" / "mwp1good.json").read_text())
    assert record["pipeline"] == fake.PIPELINE
    assert record["volumes"]["gm"] == 650.25
    assert record["input"].keys() == {"sha256"}
    assert pipeline_of(prepared / "out" / "mwp1good.nii.gz") == "fake 3"


def test_a_map_lies_where_models_look(prepared):
    from bundle.scans.grid import REFERENCE, templates

    image = nib.load(prepared / "out" / "mwp1good.nii.gz")
    assert (image.shape, image.get_data_dtype()) == (REFERENCE.shape, np.float32)
    for affine, code in (image.get_sform(coded=True), image.get_qform(coded=True)):
        assert code == 4
        assert np.allclose(affine, REFERENCE.matrix)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.header["descrip"].item() == b"fake 3 modulated GM"
    assert np.allclose(image.get_fdata(), 1.1 * templates(REFERENCE)["grey matter"], atol=1e-6)


@pytest.mark.ants
@pytest.mark.long
def test_a_phantom_head_becomes_a_map_and_a_page(tmp_path):
    """The whole way in a process of its own, with voxels of 3 and 6 mm."""
    pytest.importorskip("ants")
    from bundle.phantom.head import make_head
    from bundle.preparation.pipeline import prepare_with_ants
    from bundle.preparation.settings import Settings

    image, truth = make_head(3.0)
    nib.save(image, tmp_path / "head.nii.gz")
    coarse = {"affine_mm": (9.0, 6.0), "warp_mm": 6.0, "n4_iterations": (10,), "n4_shrink": 2}
    settings = Settings(working_mm=3.0, warp_iterations=(10, 5), **coarse)
    head = Head("head", tmp_path / "head.nii.gz", tmp_path)
    report = prepare_scans([head], [], tmp_path / "out", partial(prepare_with_ants, settings=settings))
    (record,) = report.records
    assert (report.exit_status, record.status) == (0, "warn"), record.reasons  # voxels of 3 mm are worth a word
    assert record.pipeline["settings"]["warp_mm"] == 6.0
    total = float(nib.load(tmp_path / "out" / record.map["file"]).get_fdata().sum()) * 1.5**3 / 1000
    assert np.isclose(total, record.volumes["gm"], rtol=0.02)
    assert np.isclose(total, truth.volumes["gm"], rtol=0.15)
    assert (tmp_path / "out" / "scans" / "head.html").read_text().count("data:image/webp") == 36
