"""`yaware-bids`: a BIDS dataset in, BIDS derivatives out, as BIDS Apps do it; nothing is written into the dataset."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from bundle.cli.bids_app import main
from bundle.prediction.bids_dataset import scans_of, table_of
from bundle.preparation import run
from tests.conftest import listing
from tests.preparation import fake
from tests.preparation.conftest import in_this_process

MAP = "space-MNI152NLin2009cAsym_label-GM_desc-modulated_probseg"


@pytest.fixture
def dataset(tiny_phantom, tmp_path):
    """Two participants with maps of a phantom where CAT12 leaves them, and one without any T1w scan."""
    folder = tmp_path / "dataset"
    for scan, image in zip(
        ("sub-01/anat/sub-01", "sub-02/ses-a/anat/sub-02_ses-a"),
        sorted((tiny_phantom / "alzheimer").glob("*.nii.gz")),
        strict=False,
    ):
        raw = folder / f"{scan}_T1w.nii.gz"
        raw.parent.mkdir(parents=True)
        raw.write_bytes(b"the T1w scan, which is not opened")
        made = folder / "derivatives/cat12" / raw.parent.relative_to(folder).with_name("mri") / f"mwp1{raw.name}"
        made.parent.mkdir(parents=True)
        shutil.copy(image, made)
    (folder / "sub-03/func").mkdir(parents=True)
    (folder / "dataset_description.json").write_text('{"Name": "made", "BIDSVersion": "1.9.0"}')
    (folder / "participants.tsv").write_text("participant_id\tage\tsex\nsub-01\t71\tF\nsub-02\tn/a\tM\nsub-03\t30\tM\n")
    return folder


def rows(path):
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def test_participants_one_by_one_and_then_the_group(dataset, trained, tmp_path):
    output, before = tmp_path / "out", listing(dataset)
    common = ["--model", str(trained / "model.pt"), "--n-cpus", "64"]
    for label in ("01", "sub-02"):
        words = [str(dataset), str(output), "participant", "--participant-label", label, "-w", str(tmp_path / "work")]
        assert main([*words, *common]) == 0
    first = output / "sub-01/anat/sub-01_desc-yaware_prediction.tsv"
    second = output / "sub-02/ses-a/anat/sub-02_ses-a_desc-yaware_prediction.tsv"
    assert rows(first)["file"].tolist() == ["derivatives/cat12/sub-01/mri/mwp1sub-01_T1w.nii.gz"]
    assert rows(second)[["participant_id", "session_id"]].to_numpy().tolist() == [["sub-02", "ses-a"]]
    assert len(rows(output / "sub-01/anat/sub-01_desc-yaware_regions.tsv")) == 35
    described = json.loads((output / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    assert described["BIDSVersion"]
    assert described["GeneratedBy"][0] == {"Name": "brain-mri-yaware", "Version": "0.1.0"}
    assert main([str(dataset), str(output), "group", *common]) == 0
    table = rows(output / "predictions.tsv")
    assert table["participant_id"].tolist() == ["sub-01", "sub-02"]
    assert set(table.columns) == set(rows(first).columns)
    assert not (table == "").any().any()
    assert table["calibrated_probability"].tolist()[0] == rows(first)["calibrated_probability"][0]
    index = (output / "index.html").read_text()
    assert 'href="predictions.tsv"' in index
    assert all(
        f'href="scans/{name}.html"' in index and (output / f"scans/{name}.html").is_file() for name in table["name"]
    )
    assert listing(dataset) == before
    assert str(tmp_path) not in first.read_text()


def test_raw_scans_are_prepared_and_their_maps_are_derivatives(dataset, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "each_in_a_process", in_this_process)
    monkeypatch.setattr(run, "pipeline_of", lambda _: fake.PIPELINE)
    monkeypatch.setattr(run, "backend_of", lambda *_: fake.prepare)
    shutil.rmtree(dataset / "derivatives")
    fake.write_head(dataset / "sub-01/anat", "sub-01_T1w", fake.DOUBTFUL)
    fake.write_head(dataset / "sub-02/ses-a/anat", "sub-02_ses-a_T1w", fake.BAD)
    output = dataset / "derivatives/yaware"
    assert main([str(dataset), str(output), "participant", "--model", str(trained / "model.pt")]) == 3
    place = output / "sub-01/anat"
    assert (place / f"sub-01_{MAP}.nii.gz").is_file()
    record = json.loads((place / f"sub-01_{MAP}.json").read_text())
    assert record["map"]["file"] == f"sub-01/anat/sub-01_{MAP}.nii.gz"
    assert record["SpatialReference"]
    assert rows(place / "sub-01_desc-yaware_prediction.tsv")["file"].tolist() == ["sub-01/anat/sub-01_T1w.nii.gz"]
    bad = output / "sub-02/ses-a/anat"
    assert rows(bad / "sub-02_ses-a_desc-yaware_prediction.tsv")["verdict"].tolist() == ["refuse"]
    assert not list(bad.glob("*.nii.gz"))
    again = scans_of(dataset, derivatives=[dataset / "derivatives"], without=output.resolve())
    assert [scan.path.parent.name for scan in again] == ["anat", "anat"]


def test_a_map_takes_the_place_of_its_scan_and_ages_come_from_the_table(dataset):
    extra = dataset / "sub-01/anat/sub-01_run-2_T1w.nii"
    extra.write_bytes(b"no map of this one")
    scans = scans_of(dataset, derivatives=[dataset / "derivatives"])
    assert [scan.name for scan in scans] == ["sub-01", "sub-01_run-2", "sub-02_ses-a"]
    assert [scan.path.name[:4] for scan in scans] == ["mwp1", "sub-", "mwp1"]
    assert table_of(scans, dataset)["age"].tolist() == ["71", "71", ""]
    assert [scan.name for scan in scans_of(dataset, sessions=["a"])] == ["sub-02_ses-a"]


def two_maps(dataset):
    shutil.copytree(dataset / "derivatives/cat12", dataset / "derivatives/t1prep")


@pytest.mark.parametrize(
    ("change", "words", "status", "said"),
    [
        (
            lambda d: (d / "dataset_description.json").unlink(),
            [],
            1,
            "has no dataset_description.json, so it is no BIDS",
        ),
        (lambda d: (d / "dataset_description.json").write_text('{"Name": "x"}'), [], 1, "has no 'BIDSVersion'"),
        (None, ["--participant-label", "04"], 1, "has no participant sub-04; did you mean"),
        (None, ["--session-label", "b"], 1, "has no session ses-b"),
        (None, ["--participant-label", "03"], 1, "holds no T1w scan"),
        (two_maps, [], 1, "sub-01 has two maps"),
        (None, ["--n-cpus", "0"], 2, "--n-cpus is 0, but a whole number of at least 1 is expected."),
        (None, ["--model", "absent.pt"], 1, "`model` is absent.pt, but there is no such file"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(change, words, status, said, dataset, tmp_path, capsys):
    if change:
        change(dataset)
    assert main([str(dataset), str(tmp_path / "out"), "participant", *words]) == status
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_output_among_the_participants_is_refused(dataset, capsys):
    assert main([str(dataset), str(dataset / "sub-01" / "out"), "participant"]) == 2
    assert "lies inside of" in capsys.readouterr().err


def test_a_group_without_participants_and_one_of_another_model_are_refused(dataset, trained, tmp_path, capsys):
    words = [str(dataset), str(tmp_path / "out"), "group", "--model", str(trained / "model.pt")]
    assert main(words) == 1
    assert "run the level `participant` first" in capsys.readouterr().err
    place = tmp_path / "out/sub-01/anat/sub-01_desc-yaware_prediction.tsv"
    place.parent.mkdir(parents=True)
    place.write_text("participant_id\tname\tmodel\tmodel_sha256\nsub-01\tsub-01\tother.pt\tabc\n")
    assert main(words) == 1
    assert "1 answers of 'other.pt' that are not of the model" in capsys.readouterr().err
    assert not Path(tmp_path / "out/predictions.tsv").exists()


def test_the_version_is_that_of_the_bundle(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == "yaware-bids 0.1.0\n"
