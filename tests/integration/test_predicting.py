"""From scans to a table, maps and pages, from the command line."""

import errno
import json
import os
import pickle
import re
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from monai.bundle import ConfigWorkflow

from bundle.cli.causes import sentence_of
from bundle.cli.main import main
from bundle.cli.model_commands import SOME_REFUSED
from bundle.cohort.datalist import load_section
from tests.conftest import ROOT, run_monai

pytestmark = pytest.mark.long

PATIENT = "probability_Alzheimer's disease"
PLAIN = ["--explain", "none", "--report", "false"]


@pytest.fixture(scope="module")
def scans(tiny_phantom, tmp_path_factory):
    """A folder of five good scans, one of them in another orientation, and two bad ones."""
    folder = tmp_path_factory.mktemp("scans")
    for record in load_section(tiny_phantom / "alzheimer.json", "test")[:4]:
        shutil.copy(record["image"], folder)
    image = nib.as_closest_canonical(nib.load(record["image"]))
    turned = nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine)
    turned.header["descrip"] = image.header["descrip"]  # by which the phantom's images are known
    nib.save(turned, folder / "sub-turned_gm.nii")
    (folder / "broken.nii.gz").write_bytes(b"not an image")
    nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32) * 255, image.affine), folder / "sub-rescaled_gm.nii")
    (folder / "notes.txt").write_text("no scan")
    return folder


def predict(source, output, trained, *more):
    model = [] if "--model" in more else ["--model", str(trained / "model.pt")]
    return main(["predict", str(source), "--output", str(output), *model, "--num_workers", "0", *more])


@pytest.fixture(scope="module")
def predicted(scans, trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predicted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert predict(scans, folder, trained, "--embeddings") == SOME_REFUSED
    return folder


def test_every_scan_has_a_row_and_bad_ones_say_why(predicted, scans, trained):
    table = pd.read_csv(predicted / "predictions.csv").set_index("participant_id")
    assert len(table) == 7
    refused = table[table["verdict"] == "refuse"]
    assert sorted(refused.index) == ["broken", "sub-rescaled"]
    assert "cannot be read" in table.loc["broken", "reasons"]
    assert "rescaled" in table.loc["sub-rescaled", "reasons"]
    numbers = [
        "probability_control",
        PATIENT,
        "uncertainty",
        "distance",
        "distance_percentile",
    ]
    assert refused[[*numbers, "predicted"]].isna().all(axis=None)
    answered = table[table["verdict"] != "refuse"]
    assert np.isfinite(answered[numbers].to_numpy(float)).all()
    assert (answered["probability_control"] + answered[PATIENT]).round(4).eq(1).all()
    card = json.loads((trained / "model.json").read_text())
    assert answered["calibrated_probability"].isna().all()
    assert set(answered["calibration"]) == {f"not calibrated: {card['subjects']['validation']} subjects"}
    assert set(answered["answer"]) <= {"not calibrated", "cannot answer"}
    answered = answered[answered["answer"] == "not calibrated"]
    assert (answered["predicted"] == card["class_names"][1]).equals(
        answered[PATIENT] >= card["validation"]["val_threshold"]
    )
    assert set(table["model_sha256"]) == {card["sha256"]}


def test_a_turned_scan_gets_the_same_answer(predicted):
    table = pd.read_csv(predicted / "predictions.csv").set_index("participant_id")
    turned = table.loc["sub-turned"]
    others = table[~table.index.isin(["sub-turned"])]
    assert (others[PATIENT] - turned[PATIENT]).abs().min() < 1e-5


def test_embeddings_are_written_for_scans_that_were_not_refused(predicted):
    table = pd.read_csv(predicted / "embeddings.tsv", sep="\t")
    assert len(table) == 5
    assert np.isfinite(table.filter(regex=r"^e\d+$").to_numpy()).all()


def test_the_table_does_not_depend_on_batches_workers_or_order(predicted, scans, trained, tmp_path):
    paths = sorted(p for p in scans.iterdir() if p.suffix != ".txt")
    (tmp_path / "list.tsv").write_text("file\n" + "\n".join(str(p) for p in reversed(paths)) + "\n")
    more = ["--batch_size", "3", "--num_workers", "2", *PLAIN]
    model = ["--model", str(trained / "model.pt")]
    assert main(["predict", str(tmp_path / "list.tsv"), "--output", str(tmp_path), *model, *more]) == SOME_REFUSED
    first = pd.read_csv(predicted / "predictions.csv").sort_values("file", ignore_index=True)
    second = pd.read_csv(tmp_path / "predictions.csv").sort_values("file", ignore_index=True)
    pd.testing.assert_frame_equal(first, second, atol=1e-5, rtol=1e-4)
    listed = pd.read_csv(tmp_path / "predictions.csv")["file"].tolist()
    assert listed == [str(p) for p in reversed(paths)]


def test_monai_runs_the_same(predicted, scans, trained, tmp_path):
    options = ["--dataset_dir", str(scans), "--output_dir", "out", "--model", str(trained / "model.pt")]
    rest = ["--num_workers", "0", "--explain", "none", "--report", "False"]
    config = str(ROOT / "configs/inference.json")
    run_monai("run", "--config_file", config, *options, *rest, folder=tmp_path)
    first, second = (pd.read_csv(folder / "predictions.csv") for folder in (predicted, tmp_path / "out"))
    pd.testing.assert_frame_equal(first, second, atol=1e-5, rtol=1e-4)
    run_monai("run", "--config_file", tmp_path / "out/run.json", "--existing", "overwrite", folder=tmp_path)
    pd.testing.assert_frame_equal(second, pd.read_csv(tmp_path / "out/predictions.csv"))
    with pytest.raises(RuntimeError) as refusal:
        run_monai(
            "run", "--config_file", config, *options[:2], *options[4:], *rest, "--growth_rate", "6", folder=tmp_path
        )
    assert "--growth_rate is 6, but the card of" in sentence_of(refusal.value)


def test_all_properties_that_monai_asks_for_hold(scans, trained, tmp_path):
    small = {"init_features": 8, "growth_rate": 4, "block_config": [1, 1, 1, 1]}
    paths = {"dataset_dir": str(scans), "output_dir": str(tmp_path), "model": str(trained / "model.pt")}
    workflow = ConfigWorkflow("configs/inference.json", workflow_type="infer", **small, **paths)
    workflow.initialize()
    assert workflow.check_properties() == []


def test_maps_lie_on_the_scans_own_grid(predicted, scans):
    maps = sorted((predicted / "maps").iterdir())
    assert len(maps) == 5
    own = nib.load(scans / "sub-turned_gm.nii")
    found = nib.load(predicted / "maps" / "sub-turned_regions.nii.gz")
    assert found.shape == own.shape
    assert np.allclose(found.affine, own.affine)
    assert np.ptp(found.get_fdata()) > 0


def test_pages_are_whole_and_need_no_network(predicted):
    pages = [predicted / "index.html", *(predicted / "scans").iterdir()]
    assert len(pages) == 8
    for page in pages:
        text = page.read_text()
        assert not re.search(r"""<(?:img|script|link|iframe)[^>]+(?:src|href)=["']?https?:""", text)
        assert "Not a medical device" in text
        assert all("alt=" in image for image in re.findall(r"<img[^>]*>", text))
    linked = re.findall(r'href="(scans/[^"]+)"', pages[0].read_text())
    assert len(linked) == 7
    assert all((predicted / path).is_file() for path in linked)
    refused = (predicted / "scans" / "broken.html").read_text()
    assert "cannot be read" in refused
    judged = {page.stem for page in pages if "distance of the embedding" in page.read_text()}
    assert judged == {path.stem for path in (predicted / "scans").iterdir()} - {"broken", "sub-rescaled"}
    assert "Where the network looks" not in refused


STRANGE = [
    "../../escape",
    "a/b",
    "<script>alert(1)</script>",
    "..",
    "Søren-Ünï",
    "con",
    "x" * 300,
    "=cmd",
    "'; drop",
    " ",
]


def test_no_id_leaves_the_folder_or_becomes_html(scans, trained, tmp_path):
    good = next(scans.glob("*turned*"))
    rows = [f'"{name}",{good}' for name in (*STRANGE, " ", "a/b")]
    (tmp_path / "list.csv").write_text("\n".join(["participant_id,file", *rows]) + "\n")
    output = tmp_path / "deep" / "er" / "output"
    assert predict(tmp_path / "list.csv", output, trained, "--explain", "gradcam++", "--augmentations", "0") == 0
    files = {p for p in tmp_path.rglob("*") if p.is_file()}
    assert all(output in p.parents for p in files - {tmp_path / "list.csv"})
    assert len(list((output / "scans").iterdir())) == len(rows)
    assert len(list((output / "maps").iterdir())) == len(rows)
    for page in output.rglob("*.html"):
        assert "<script>alert" not in page.read_text()


def test_ages_of_a_table_reach_the_answer(scans, trained, tmp_path):
    good = next(scans.glob("*turned*"))
    (tmp_path / "list.csv").write_text(f"participant_id,age,file\nann,71,{good}\nbob,,{good}\n")
    assert predict(tmp_path / "list.csv", tmp_path, trained, *PLAIN) == 0
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert table["participant_id"].tolist() == ["ann", "bob"]
    assert {"brain_age", "brain_age_gap", "nearest_training_ages"} <= set(table)


def test_participants_with_a_pattern_and_a_datalist_are_predicted(scans, trained, tmp_path, capsys):
    good = next(scans.glob("*turned*"))
    image = f"sub-ann{''.join(good.suffixes)}"
    shutil.copy(good, tmp_path / image)
    (tmp_path / "p.tsv").write_text("participant_id\tAge\nann\t71,5\n")
    (tmp_path / "d.json").write_text(json.dumps({"test": [{"image": image, "participant_id": "ann", "age": 71.5}]}))
    pattern = ["--images", f"{{participant_id}}{''.join(good.suffixes)}"]
    assert predict(tmp_path / "p.tsv", tmp_path / "a", trained, *pattern, *PLAIN) == 0
    assert predict(tmp_path / "d.json", tmp_path / "b", trained, *PLAIN) == 0
    first, second = (pd.read_csv(tmp_path / name / "predictions.csv") for name in "ab")
    pd.testing.assert_frame_equal(first, second)
    assert first["participant_id"].tolist() == ["ann"]
    (tmp_path / "p.tsv").write_text("participant_id\tAge\nann\t864\n")
    assert predict(tmp_path / "p.tsv", tmp_path / "c", trained, *pattern, *PLAIN) == 1
    assert "ann: row 1: age 864 is outside 0–120 years" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("empty", "holds no scan"),
        ("list.csv", "has no column"),
        ("missing.tsv", "does not exist"),
    ],
)
def test_a_source_without_scans_is_refused(source, reason, trained, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.csv").write_text("participant_id\nann\n")
    assert predict(tmp_path / source, tmp_path / "output", trained) == 1
    assert reason in capsys.readouterr().err


def test_a_missing_scan_of_a_table_is_a_refused_row(trained, tmp_path, capsys):
    (tmp_path / "scans.tsv").write_text("file\nnowhere.nii\n")
    assert predict(tmp_path / "scans.tsv", tmp_path / "output", trained, *PLAIN) == SOME_REFUSED
    assert predict(tmp_path / "nowhere.nii", tmp_path / "other", trained, *PLAIN) == 1
    assert f"{tmp_path / 'nowhere.nii'} does not exist" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    assert "does not exist" in pd.read_csv(tmp_path / "output" / "predictions.csv")["reasons"][0]


def break_files(folder, how):
    """Damage one of a model's three files."""
    if how == "corrupted":
        (folder / "model.pt").write_bytes(b"PK\x03\x04 rubbish")
    elif how == "pickle":
        (folder / "model.pt").write_bytes(pickle.dumps({"a": os.getcwd}))
    elif how == "no card":
        (folder / "model.json").unlink()
    elif how == "no record":
        (folder / "model_record.npz").unlink()
    elif how == "damaged record":
        (folder / "model_record.npz").write_bytes(b"rubbish")


def broken_model(folder, trained, how):
    for path in trained.glob("model*"):
        shutil.copy(path, folder)
    break_files(folder, how)
    if how != "no card":
        card = json.loads((folder / "model.json").read_text())
        if how == "other architecture":
            card["network"]["growth_rate"] = 6
        if how in ("corrupted", "pickle", "card of another file"):
            card["sha256"] = "0" * 64 if how == "card of another file" else None
        (folder / "model.json").write_text(json.dumps(card))
    return folder / "model.pt"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("corrupted", "no readable file of plain weights"),
        ("pickle", "no readable file of plain weights"),
        ("other architecture", "does not fit this network"),
        ("no card", "needs the card of a classifier"),
        ("card of another file", "belongs to other weights"),
        ("no record", "There is no"),
        ("damaged record", "is no record of a training"),
    ],
)
def test_a_broken_model_is_refused(how, reason, scans, trained, tmp_path, capsys):
    model = broken_model(tmp_path, trained, how)
    assert predict(scans, tmp_path / "output", trained, "--model", str(model)) == 1
    assert reason in capsys.readouterr().err


def test_a_full_disk_is_said_and_leaves_no_half_table(scans, trained, tmp_path, capsys, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert predict(scans, tmp_path / "output", trained, *PLAIN) == 1
    assert "the disk is full; free some space" in capsys.readouterr().err
    assert not list((tmp_path / "output").glob("*"))


def test_an_output_that_is_a_file_is_refused(scans, trained, tmp_path, capsys):
    (tmp_path / "output").write_text("")
    assert predict(scans, tmp_path / "output", trained, *PLAIN) == 1
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"), [("--explain", "gradcam"), ("--target", "age"), ("--backend", "tensorflow")]
)
def test_unknown_choices_are_refused_with_the_nearest(option, value, scans, trained, tmp_path, capsys):
    assert predict(scans, tmp_path, trained, option, value) == 2
    assert re.search(rf"{option} is '{value}', but .* is expected; (did you mean|there is)", capsys.readouterr().err)


def test_another_preprocessing_than_in_training_is_refused(scans, trained, tmp_path, capsys):
    assert predict(scans, tmp_path, trained, "--config", "configs/resolution_4mm.yaml", *PLAIN) == 1
    assert "was trained on volumes that were preprocessed in another way: step 4 was" in capsys.readouterr().err


def test_onnxruntime_gives_the_same(predicted, scans, trained, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    for path in trained.glob("model*"):
        shutil.copy(path, tmp_path)
    model = tmp_path / "model.pt"
    assert main(["export", "--model", str(model)]) == 0
    assert {p.suffix for p in tmp_path.glob("model.*")} == {".pt", ".json", ".ts", ".onnx", ".pt2"}
    more = ["--model", str(model), "--backend", "onnx", *PLAIN]
    assert predict(scans, tmp_path / "output", trained, *more) == SOME_REFUSED
    first, second = (pd.read_csv(f / "predictions.csv") for f in (predicted, tmp_path / "output"))
    pd.testing.assert_frame_equal(first, second, atol=1e-4, rtol=1e-3)
    script = torch.jit.load(tmp_path / "model.ts")
    logits, embedding = script(torch.zeros(2, 1, 30, 36, 30))
    assert logits.shape == (2, 2)
    assert len(embedding) == 2


def test_a_network_that_cannot_be_written_as_onnx_is_said(trained, tmp_path, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise torch.onnx.OnnxExporterError("a node")

    monkeypatch.setattr(torch.onnx, "export", fail)
    for path in trained.glob("model*"):
        shutil.copy(path, tmp_path)
    assert main(["export", "--model", str(tmp_path / "model.pt"), "--formats", "onnx"]) == 1
    assert "cannot write this network as ONNX" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.onnx"))


def test_check_names_each_scan_and_its_reasons(scans, trained, tmp_path, capsys):
    table = tmp_path / "checks.tsv"
    command = ["check", str(scans), "--model", str(trained / "model.pt"), "--output", str(table)]
    assert main(command) == SOME_REFUSED
    said = capsys.readouterr().out
    assert "broken.nii.gz: refuse" in said
    checks = pd.read_csv(table, sep="\t")
    assert {"participant_id", "file", "name", "measured", "limit", "source", "verdict", "reason"} == set(checks)
    assert (checks["name"] == "distance of the embedding").sum() == 5
    assert main(["check", str(next(scans.glob("*turned*")))]) == 0
    assert "compared with anatomy alone" in capsys.readouterr().out
    assert main(["check", str(scans), "--config", "configs/resolution_4mm.yaml"]) == 2
    assert "give the --model, too" in capsys.readouterr().err


def test_check_gives_the_verdict_and_the_reasons_of_predict(scans, trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("bundle.prediction.table.FAR", 20.0)
    assert predict(scans, tmp_path, trained, *PLAIN) == SOME_REFUSED
    capsys.readouterr()
    assert main(["check", str(scans), "--model", str(trained / "model.pt")]) == SOME_REFUSED
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    assert table["reasons"].str.contains("embedding is further").any(), "what only a model can say"
    told = [
        f"{r.file}: {r.verdict}\n" + "".join(f"  {one}\n" for one in r.reasons.split(" | ") if one)
        for r in table.itertuples()
    ]
    assert capsys.readouterr().out == "".join(told)


def test_a_model_of_people_does_not_answer_for_a_phantom(scans, trained, tmp_path):
    for path in trained.glob("model*"):
        shutil.copy(path, tmp_path)
    card = json.loads((tmp_path / "model.json").read_text())
    assert card.pop("warning"), "without it, a model is of people"
    (tmp_path / "model.json").write_text(json.dumps(card))
    more = ["--model", str(tmp_path / "model.pt"), *PLAIN]
    assert predict(next(scans.glob("*turned*")), tmp_path / "answers", trained, *more) == 0
    (row,) = pd.read_csv(tmp_path / "answers" / "predictions.csv").to_dict("records")
    assert (row["answer"], row["verdict"]) == ("cannot answer", "warn")
    assert "the scan is of a phantom, and the model was trained on people" in row["reasons"]


@pytest.fixture
def two(scans, tmp_path):
    """Two lists of a scan each, and a folder whose answers are of the first."""
    good = sorted(scans.glob("sub-ad*"))[:2]
    for name, path in zip(("first", "second"), good, strict=True):
        (tmp_path / f"{name}.csv").write_text(f"participant_id,file\nsub-01,{path}\n")
    return tmp_path / "first.csv", tmp_path / "second.csv", tmp_path / "answers"


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def test_answers_are_refused_appended_or_replaced(two, trained, capsys):
    first, second, answers = two
    fast = ["--explain", "gradcam++"]
    assert predict(first, answers, trained, *fast) == 0
    before = content(answers)
    assert len(before) == 6  # table, regions, run, index, a page and a map
    assert predict(second, answers, trained, *fast) == 1
    assert re.search(r"holds answers already: .*--append .*--overwrite", capsys.readouterr().err)
    for existing, said in (("--append", "they stay, and the new"), ("--overwrite", "all are replaced")):
        assert predict(second, answers, trained, existing, "--dry-run") == 0
        assert said in capsys.readouterr().out
    assert predict(second, answers, trained, "--dry-run") == 1
    assert content(answers) == before
    assert predict(second, answers, trained, *fast, "--append") == 0
    table, index = pd.read_csv(answers / "predictions.csv"), (answers / "index.html").read_text()
    assert table["participant_id"].tolist() == ["sub-01", "sub-01"]
    linked = re.findall(r'href="(scans/[^"]+)"', index)
    assert sorted(linked) == sorted(f"scans/{name}.html" for name in table["name"])
    assert content(answers)["scans/sub-01.html"] == before["scans/sub-01.html"]
    assert predict(second, answers, trained, "--append", *PLAIN) == 0
    assert len(pd.read_csv(answers / "predictions.csv")) == 2
    assert re.findall(r'href="(scans/[^"]+)"', (answers / "index.html").read_text()) == ["scans/sub-01.html"]
    assert predict(second, answers, trained, "--overwrite", *PLAIN) == 0
    assert set(content(answers)) == {"predictions.csv", "regions.tsv", "run.json"}


def test_a_prediction_that_fails_keeps_the_earlier_answers(two, trained, monkeypatch, capsys):
    first, second, answers = two
    assert predict(first, answers, trained, "--explain", "none") == 0
    before = content(answers)

    def fails(*_):
        raise ValueError("no picture")

    monkeypatch.setattr("bundle.prediction.slices.drawn", fails)
    for existing in ("--append", "--overwrite"):
        assert predict(second, answers, trained, "--explain", "none", existing) == 1
        assert "no picture" in capsys.readouterr().err
        assert content(answers) == before


@pytest.fixture(scope="module")
def new_site(tiny_phantom, tmp_path_factory):
    """A folder of 22 scans of people whom the classifier was not trained on."""
    folder = tmp_path_factory.mktemp("new_site")
    for record in load_section(tiny_phantom / "pretraining.json", "training")[2:24]:
        shutil.copy(record["image"], folder)
    return folder


def test_batch_norm_is_adapted_to_unlabelled_scans_and_every_answer_says_so(two, trained, new_site, capsys):
    first, second, answers = two
    assert predict(first, answers, trained, *PLAIN) == 0
    (plain,) = pd.read_csv(answers / "predictions.csv").to_dict("records")
    assert "adapted_to" not in plain
    assert predict(second, answers, trained, *PLAIN, "--append", "--adapt_to", str(new_site)) == 1
    assert "holds answers with batch norm of the training, but it is now adapted to 22 scans" in capsys.readouterr().err
    other = answers.with_name("adapted")
    assert predict(first, other, trained, "--explain", "none", "--adapt_to", str(new_site)) == 0
    (row,) = pd.read_csv(other / "predictions.csv").to_dict("records")
    assert re.fullmatch("22 scans, [0-9a-f]{16}", row["adapted_to"])
    assert "were measured without this" in row["reasons"]
    assert row["verdict"] == "warn"
    assert row[PATIENT] != plain[PATIENT]
    page = next((other / "scans").iterdir()).read_text()
    assert row["adapted_to"] in page
    assert "were measured without this" in page
    assert json.loads((other / "run.json").read_text())["adapt_to"] == str(new_site)
    assert predict(second, other, trained, *PLAIN, "--append", "--adapt_to", str(new_site)) == 0
    assert predict(second, other, trained, *PLAIN, "--append") == 1
    assert "but it is now that of the training" in capsys.readouterr().err
    assert predict(first, answers, trained, *PLAIN, "--adapt_to", str(new_site), "--overwrite", "--dry-run") == 0
    assert f"22 scans of {new_site}, which were not read" in capsys.readouterr().out


def test_scans_that_no_statistics_may_be_taken_of_are_refused(two, trained, new_site, tiny_phantom, tmp_path, capsys):
    def refusal(folder, *more):
        assert predict(two[0], two[2], trained, *PLAIN, "--adapt_to", str(folder), *more) == 1
        return capsys.readouterr().err

    few, seen, bad = (shutil.copytree(new_site, tmp_path / name) for name in ("few", "seen", "bad"))
    for path in sorted(few.iterdir())[:3]:
        path.unlink()
    assert "holds scans of 19 people, but statistics of a site need at least 20" in refusal(few)
    record = load_section(tiny_phantom / "alzheimer.json", "training")[0]
    shutil.copy(record["image"], seen / "sub-new_gm.nii.gz")
    assert re.search(r"1 scan\(s\) of --adapt_to .* are of people of the model's training \('.*new.*'\)", refusal(seen))
    (bad / "sub-broken_gm.nii.gz").write_bytes(b"not an image")
    assert "1 of 23 scans of --adapt_to" in refusal(bad)
    twice = shutil.copytree(few, tmp_path / "twice")
    for number, path in enumerate(sorted(few.iterdir())):
        shutil.copy(path, twice / f"sub-again{number}_{path.name.split('_', 1)[1]}")
    assert "holds scans of 19 people" in refusal(twice)  # by their images
    assert "does not exist; give a folder of scans of the new site" in refusal(tmp_path / "none")
    assert not (two[2] / "predictions.csv").exists()


def test_flags_that_contradict_each_other_are_refused(two, trained, capsys):
    assert predict(two[0], two[2], trained, "--append", "--existing", "overwrite") == 2
    assert "contradict each other" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        predict(two[0], two[2], trained, "--append", "--overwrite")
    assert not two[2].exists()


def test_a_card_that_does_not_say_its_preprocessing_needs_the_overlay_that_the_advice_names(two, trained, capsys):
    folder = two[2].parent / "model"
    folder.mkdir()
    for path in trained.glob("model*"):
        shutil.copy(path, folder)
    card = json.loads((folder / "model.json").read_text())
    del card["preprocessing_steps"]
    (folder / "model.json").write_text(json.dumps(card))
    model = ["--model", str(folder / "model.pt")]
    assert predict(two[0], two[2], trained, *model, *PLAIN) == 0
    with np.load(folder / "model_record.npz") as record:
        arrays = dict(record)
    np.savez(folder / "model_record.npz", allow_pickle=False, **{**arrays, "healthy": np.zeros((1, 40, 48, 40))})
    assert predict(two[0], two[2], trained, *model, *PLAIN, "--overwrite") == 1
    assert "give --config configs/resolution_4mm.yaml, with which it was trained" in capsys.readouterr().err
    advised = ["--config", "configs/resolution_4mm.yaml"]
    assert predict(two[0], two[2], trained, *model, *PLAIN, "--overwrite", *advised) == 0
    assert main(["check", str(two[0]), *model]) == 1
    assert main(["check", str(two[0]), *model, *advised]) == 0
