"""Scans of two files, grey and white matter, from the table to the page of an answer, by the command line."""

import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bundle.cli.main import main
from bundle.scans.grid import Grid, templates
from tests.conftest import SMALL

pytestmark = pytest.mark.long
GRID = Grid.of((30, 36, 30), [[-6, 0, 0, 87], [0, 6, 0, -123], [0, 0, 6, -69], [0, 0, 0, 1]])
QUICK = [*SMALL, "--epochs", "1", "--batch_size", "8", "--num_workers", "0", "--learning_rate", "1.0e-3"]
OVERLAY = ["--config", "configs/modality_gm_wm.yaml"]
PATTERNS = ["--images", "mwp1{participant_id}.nii.gz", "--channels", "mwp2{participant_id}.nii.gz"]


def tissue(seed, name, factor=1.0):
    """Density of a tissue: the template, with noise of each voxel."""
    noise = np.random.default_rng(seed).normal(0.75, 0.05, GRID.shape)
    return (factor * templates(GRID)[name] * noise).clip(0, None).astype(np.float32)


def save(folder, n, patient):
    for number, name, factor in ((1, "grey matter", 1.0), (2, "white matter", 1 - 0.1 * patient)):
        volume = tissue(10 * n + number, name, factor)
        nib.save(nib.Nifti1Image(volume, GRID.matrix), folder / f"mwp{number}sub-{n:03d}.nii.gz")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A cohort of 64 of whom six have no white matter, an encoder and a classifier."""
    folder = tmp_path_factory.mktemp("gm_wm")
    rows = []
    for n in range(64):
        row = {"participant_id": f"sub-{n:03d}", "age": 20 + n / 2, "sex": "FM"[n % 2], "site": "abc"[n % 3]}
        rows.append({**row, "diagnosis": ("control", "patient")[n // 2 % 2]})
        save(folder, n, n // 2 % 2)
    for n in (0, 1, 9, 10, 18, 19):
        (folder / f"mwp2sub-{n:03d}.nii.gz").unlink()
    pd.DataFrame(rows).to_csv(folder / "participants.tsv", sep="\t", index=False)
    table = ["--table", str(folder / "participants.tsv"), *PATTERNS, "--missing-channels", "keep"]
    kind = ["--shape", "30", "36", "30", "--modality", "gm_wm", "--label-column", "diagnosis", "--test-sites", "c"]
    for name in ("pretraining", "task"):
        assert main(["cohort", *table, *kind, "--output", str(folder / f"{name}.json")]) == 0
    data, zero = ["--dataset_dir", str(folder)], ["--preprocessing#transforms#0#missing", "zero"]
    encoder, model = str(folder / "pretrained.pt"), str(folder / "model.pt")
    run = [*OVERLAY, *data, *zero, *QUICK]
    assert main(["pretrain", *run, "--output_dir", f"{folder}/pre", "--weights", encoder]) == 0
    start = ["--weights", encoder, "--model", model, "--task", "task", *QUICK[len(SMALL) :]]
    assert main(["train", *data, *start, "--output_dir", f"{folder}/train"]) == 0
    return folder


def predicted(trained, folder, name, people, **changed):
    """Answers to a datalist of some people, whose files may be changed."""
    records = []
    for n in people:
        record = {"image": f"mwp1sub-{n:03d}.nii.gz", "channels": [f"mwp2sub-{n:03d}.nii.gz"], "age": 30.0}
        records.append({**record, "participant_id": f"new-{n}", **changed})
    (folder / f"{name}.json").write_text(json.dumps({"modality": "gm_wm", "training": [], "test": records}))
    answers = ["--model", str(trained / "model.pt"), "--output", str(folder / name), "--num_workers", "0"]
    code = main(["predict", str(folder / f"{name}.json"), *answers])
    table = folder / name / "predictions.csv"
    return code, pd.read_csv(table) if table.is_file() else None


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    """Two people whom nobody was trained on."""
    folder = tmp_path_factory.mktemp("new")
    for n in (200, 201):
        save(folder, n, n % 2)
    return folder


def test_cards_say_channels_and_how_they_are_loaded(trained):
    encoder, classifier = (json.loads((trained / f"{name}.json").read_text()) for name in ("pretrained", "model"))
    for card in (encoder, classifier):
        assert card["modality"] == "gm_wm"
        loading = {"_target_": "bundle.scans.LoadChannelsd", "keys": "image", "channels": ["gm", "wm"]}
        assert card["preprocessing_steps"][0] == {**loading, "missing": "zero"}
    assert encoder["network"]["arguments"]["in_channels"] == 2
    assert classifier["network"]["in_channels"] == 2
    (white,) = classifier["contract"]["channels"]
    training = json.loads((trained / "task.json").read_text())["training"]
    assert (white["modality"], white["missing"]) == ("wm", sum(r["channels"] == [None] for r in training))
    assert white["missing"] > 0
    assert "likeness to white matter" in white["measures"]
    assert "grey matter" in classifier["contract"]["measures"]


def test_both_files_are_seen_and_the_page_says_which_is_drawn(trained, new):
    code, table = predicted(trained, new, "answers", (200, 201))
    assert (code, set(table["verdict"]) <= {"pass", "warn"}) == (0, True), list(table["reasons"])
    assert json.loads((new / "answers.json").read_text())["test"][0]["channels"]
    page = next((new / "answers/scans").glob("*.html")).read_text()
    assert "white-matter map: likeness to white matter" in page
    assert "A scan has 2 files; the grey-matter map is drawn" in page
    other = tissue(1, "white matter", 0.5)
    nib.save(nib.Nifti1Image(other, GRID.matrix), new / "mwp2other.nii.gz")
    _, changed = predicted(trained, new, "changed", (200,), channels=["mwp2other.nii.gz"])
    assert changed["probability_patient"][0] != pytest.approx(table["probability_patient"][0], abs=1e-6)


def test_a_missing_file_is_a_warning_as_it_was_in_training(trained, new):
    code, table = predicted(trained, new, "missing", (200,), channels=[None])
    assert (code, table["verdict"][0]) == (0, "warn")
    assert (
        "white-matter map: file: the scan has no file of it; the model takes 0 in its place, as of "
        in (table["reasons"][0])
    )


def test_a_channel_of_another_kind_is_refused(trained, new):
    code, table = predicted(trained, new, "swapped", (200,), channels=["mwp1sub-201.nii.gz"])
    assert (code, table["verdict"][0]) == (3, "refuse")
    assert "white-matter map: likeness to white matter is" in table["reasons"][0]


def test_a_folder_does_not_say_which_files_belong_together(trained, new, tmp_path, capsys):
    model = ["--model", str(trained / "model.pt")]
    for command in (["predict", str(new), "--output", str(tmp_path / "x")], ["check", str(new / "mwp1sub-200.nii.gz")]):
        assert main([*command, *model]) == 1
        assert "cohort --modality gm_wm --images PATTERN --channels PATTERN" in capsys.readouterr().err


def test_probe_and_evaluate_read_them(trained, tmp_path):
    task = f"{{task: {trained}/task.json}}"
    data, sizes = ["--age_datalist", "null"], ["--sizes", "[20]", "--draws", "1"]
    run = ["--num_workers", "0", "--references", "[]", "--output_dir", str(tmp_path / "probe")]
    weights = ["--weights", str(trained / "pretrained.pt")]
    assert main(["probe", "--tasks", task, *data, *sizes, *weights, *run]) == 0
    model = ["--model", str(trained / "model.pt"), "--task", "task", "--dataset_dir", str(trained)]
    assert main(["evaluate", *model, "--num_workers", "0", "--output_dir", str(tmp_path / "test")]) == 0
    assert 0 <= json.loads((tmp_path / "test/metrics.json").read_text())["auc"] <= 1


def test_what_would_read_the_first_file_alone_is_refused(trained, tmp_path, capsys):
    data = ["--dataset_dir", str(trained), *QUICK, "--output_dir", str(tmp_path / "run")]
    assert main(["pretrain", *data]) == 1
    assert "the preprocessing loads the first file alone" in capsys.readouterr().err
    assert main(["pretrain", *data, *OVERLAY]) == 1  # scans without a file, and nobody said what to do
    assert "has no white-matter map" in capsys.readouterr().err
    zero = ["--preprocessing#transforms#0#missing", "zero"]
    assert main(["pretrain", *data, *OVERLAY, *zero, "--in_channels", "1"]) == 1
    assert "have 2 channel(s), but the ContrastiveNetwork takes 1" in capsys.readouterr().err


def test_a_cache_keeps_both(trained, tmp_path):
    content = json.loads((trained / "pretraining.json").read_text())
    kept = [r for r in content["training"] if r["channels"][0]][:10]
    for record in kept:
        record["image"], record["channels"] = str(trained / record["image"]), [str(trained / record["channels"][0])]
    part = {**content, "training": kept, "validation": [], "test": []}
    (tmp_path / "pretraining.json").write_text(json.dumps(part))
    cache = ["--datalist", str(tmp_path / "pretraining.json"), "--output", str(tmp_path / "cache"), "--workers", "0"]
    assert main(["cache", *cache, *OVERLAY]) == 0
    record = json.loads((tmp_path / "cache/pretraining.json").read_text())["training"][0]
    assert "channels" not in record
    volume = np.load(tmp_path / "cache" / record["image"]).astype(float)
    assert volume.shape == (2, *GRID.shape)
    for place, path in enumerate((kept[0]["image"], *kept[0]["channels"])):
        values = nib.load(path).get_fdata()
        assert np.abs(volume[place] - (values - values.mean()) / values.std()).max() < 0.01
    shutil.rmtree(tmp_path / "cache")
    assert main(["cache", *cache]) == 1
