"""Real grey-matter maps, from table to probe, with the paper's DenseNet121; the slow test has them at full size."""

import json

import pandas as pd
import pytest
import torch

from bundle.cli.main import main

LABELS = ["--label-column", "diagnosis", "--label-values", "control=0", "depression=1"]


def make_datalist(real_maps, output, fractions):
    table, pattern = str(real_maps / "participants.tsv"), "mwp1{participant_id}_T1w.nii.gz"
    sections = ["--fractions", *fractions]
    assert main(["cohort", "--table", table, "--images", pattern, "--output", str(output), *LABELS, *sections]) == 0
    return json.loads(output.read_text())


def keep(datalist, path, **counts):
    """A shorter datalist for a quick test: the first few of each section and label."""
    for section, count in counts.items():
        records = pd.DataFrame(datalist[section])
        rows = records.groupby("label").head(count).index
        datalist[section] = [datalist[section][i] for i in rows]
    path.write_text(json.dumps(datalist))


def pretrain(datalist, folder, epochs, batch_size, *more):
    places = ["--datalist", str(datalist), "--output_dir", str(folder), "--weights", str(folder / "best.pt")]
    numbers = ["--epochs", str(epochs), "--batch_size", str(batch_size), "--num_workers", "0", "--precision", "auto"]
    assert main(["pretrain", *places, *numbers, *more]) == 0
    return torch.load(folder / f"checkpoint_{epochs}.pt", weights_only=True)


def probe(datalist, folder, size, draws):
    tasks = ["--tasks", f"{{depression: {datalist}}}", "--age_datalist", str(datalist)]
    places = ["--weights", str(folder / "best.pt"), "--output_dir", str(folder)]
    numbers = ["--sizes", f"[{size}]", "--draws", str(draws), "--num_workers", "0", "--batch_size", "4"]
    assert main(["probe", *tasks, *places, *numbers]) == 0
    return pd.read_csv(folder / "results.csv"), pd.read_csv(folder / "age.csv")


@pytest.mark.long
def test_datalist_of_all_maps(real_maps, tmp_path):
    datalist = make_datalist(real_maps, tmp_path / "datalist.json", ["training=0.6", "validation=0.2", "test=0.2"])
    records = [r for s in ("training", "validation", "test") for r in datalist[s]]
    assert len(records) == len({r["participant_id"] for r in records}) == 48
    assert {r["label"] for r in records} == {0, 1}
    assert all(19 <= r["age"] <= 55 for r in records)


@pytest.mark.long
def test_a_few_steps_of_the_papers_network_at_a_coarse_resolution(real_maps, tmp_path):
    path = tmp_path / "datalist.json"
    datalist = make_datalist(real_maps, path, ["training=0.6", "validation=0.2", "test=0.2"])
    keep(datalist, path, training=2, validation=1, test=1)
    coarse = ["--config", "configs/resolution_4mm.yaml"]
    first = pretrain(path, tmp_path, 1, 2, *coarse)
    resumed = pretrain(path, tmp_path, 2, 2, *coarse, "--resume")
    assert (first["trainer"]["iteration"], resumed["trainer"]["iteration"]) == (2, 4)
    assert resumed["network"]["encoder.features.conv0.weight"].shape == (64, 1, 7, 7, 7)
    assert not torch.equal(first["network"]["projector.output.weight"], resumed["network"]["projector.output.weight"])


@pytest.mark.long
def test_a_classifier_of_real_maps_at_a_coarse_resolution(real_maps, tmp_path):
    path = tmp_path / "depression.json"
    datalist = make_datalist(real_maps, path, ["training=0.75", "validation=0.0", "test=0.25"])
    scale = ["--config", "configs/phantom.yaml", "configs/resolution_4mm.yaml", "--datalist", str(path)]
    places = ["--task", "depression", "--model", str(tmp_path / "model.pt"), "--output_dir", str(tmp_path)]
    assert main(["train", *scale, *places, "--weights", "scratch", "--epochs", "2"]) == 0
    assert main(["evaluate", *scale, *places]) == 0
    table = pd.read_csv(tmp_path / "predictions.csv", dtype={"participant_id": str})
    assert table["participant_id"].tolist() == [r["participant_id"] for r in datalist["test"]]


@pytest.mark.slow
def test_from_table_to_probe(real_maps, tmp_path):
    path = tmp_path / "datalist.json"
    make_datalist(real_maps, path, ["training=0.6", "validation=0.2", "test=0.2"])
    pretrain(path, tmp_path, 1, 8)
    resumed = pretrain(path, tmp_path, 2, 8, "--resume")
    assert resumed["trainer"]["epoch_length"] == 3
    results, ages = probe(path, tmp_path, size=20, draws=3)
    assert len(results) == 5 * 3
    assert results["auc"].between(0, 1).all()
    assert ages["mae"].between(1, 20).all()
