"""Several encoders probed side by side: their lines, their spread, and refusals."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from bundle.cli.main import main
from bundle.cohort.overlap import fingerprints
from bundle.networks.encoders import DenseNetEncoder
from bundle.networks.weights import save_weights
from tests.conftest import OVERLAY

pytestmark = pytest.mark.long
CONFIG = ["--config", "configs/probe_several_encoders.yaml", str(OVERLAY)]
RANDOM = ["random initialisation", "random initialisation, 2", "random initialisation, 3"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Three encoders that were never trained, and whose cards say methods."""
    folder = tmp_path_factory.mktemp("weights")
    for seed, method in enumerate(("y-Aware", "y-Aware", "SimCLR")):
        torch.manual_seed(seed)
        save_weights(folder / f"{seed}.pt", DenseNetEncoder(1, 8, 4, (1, 1, 1, 1)), {"method": method})
    return folder


def probe(tiny_phantom, weights, folder, more, *options):
    names = "[" + ", ".join(str(weights / f"{name}.pt") for name in more) + "]"
    command = ["probe", *CONFIG, "--weights", str(weights / "0.pt"), "--more_weights", names]
    places = ["--dataset_dir", str(tiny_phantom), "--output_dir", str(folder), "--sizes", "[20]", "--draws", "2"]
    task = ["--tasks", f"{{alzheimer: {tiny_phantom}/alzheimer.json}}", "--references", "[voxels]"]
    return main([*command, *places, *task, *options])


@pytest.fixture(scope="module")
def probed(tiny_phantom, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    assert probe(tiny_phantom, weights, folder, "12") == 0
    return folder


def test_each_has_a_line_and_all_have_one(probed):
    together = ["all encoders, side by side", "random initialisation, side by side"]
    lines = ["y-Aware", "y-Aware, 2", "SimCLR", *RANDOM, "voxels", *together]
    for name in ("results.csv", "age.csv"):
        found = set(pd.read_csv(probed / name)["method"])
        assert found - {"mean age"} == set(lines), name
    embeddings = [np.load(probed / f"embeddings_{name}.npz")["embedding"] for name in ("y_aware", "y_aware__2")]
    assert embeddings[0].shape == embeddings[1].shape
    assert not np.allclose(*embeddings)


def test_the_spread_is_that_of_the_lines(probed):
    results, ages = pd.read_csv(probed / "results.csv"), pd.read_csv(probed / "age.csv").set_index("method")["mae"]
    aucs = results.groupby("method")["auc"].mean()
    spread = pd.read_csv(probed / "encoders.csv").set_index(["task", "encoders"])
    for values, task in ((aucs, "alzheimer"), (ages, "age")):
        for name, alone in (("all encoders", ["y-Aware", "y-Aware, 2", "SimCLR"]), (RANDOM[0], RANDOM)):
            row, each = spread.loc[(task, name)], values[alone]
            assert row["mean"] == pytest.approx(each.mean())
            assert row["sd"] == pytest.approx(each.std())
            assert row["difference"] == pytest.approx(values[f"{name}, side by side"] - each.mean())
    row = spread.loc[("alzheimer", "all encoders")]
    assert row["low"] < row["difference"] < row["high"]
    assert "| alzheimer | 20  | all encoders" in (probed / "table.md").read_text()


def test_encoders_of_one_method_are_called_after_it(tiny_phantom, weights, tmp_path):
    assert probe(tiny_phantom, weights, tmp_path, "1", "--age_datalist", "null") == 0
    assert "y-Aware, side by side" in set(pd.read_csv(tmp_path / "results.csv")["method"])


def test_what_cannot_be_set_side_by_side_is_refused(tiny_phantom, weights, tmp_path, capsys):
    def refused(said, more, *options):
        assert probe(tiny_phantom, weights, tmp_path / "out", more, *options) != 0
        assert said in capsys.readouterr().err.replace("\n", " ")
        assert not (tmp_path / "out").exists()

    refused("names no encoder to set beside", "")
    refused("are the same weights", "0")
    refused("9.pt", "9")
    refused("the last block is probed", "1", "--layers", "all")
    refused("use `adapt: none`", "1", "--adapt", "batch_norm")


def test_people_of_any_encoder_are_refused(tiny_phantom, weights, tmp_path, capsys):
    people = json.loads((tiny_phantom / "alzheimer.json").read_text())["test"][:3]
    torch.manual_seed(5)
    card = {"fingerprints": fingerprints([{**one, "image": str(tiny_phantom / one["image"])} for one in people])}
    save_weights(weights / "seen.pt", DenseNetEncoder(1, 8, 4, (1, 1, 1, 1)), card)
    assert probe(tiny_phantom, weights, tmp_path / "out", ["1", "seen"]) != 0
    assert "seen.pt" in capsys.readouterr().err


def test_another_preprocessing_is_refused(tiny_phantom, weights, tmp_path, capsys):
    torch.manual_seed(6)
    steps = [{"_target_": "LoadImaged", "keys": "image"}]
    save_weights(weights / "other.pt", DenseNetEncoder(1, 8, 4, (1, 1, 1, 1)), {"preprocessing_steps": steps})
    assert probe(tiny_phantom, weights, tmp_path / "out", ["other"]) != 0
    assert "preprocess" in capsys.readouterr().err
