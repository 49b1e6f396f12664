"""Two processes on the CPU, started as a user starts them on two GPUs."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch

from tests.conftest import ROOT
from tests.integration.conftest import OVERLAY, TASK

SMALL = ["--init_features", "8", "--growth_rate", "4", "--block_config", "[1, 1, 1, 1]"]


def torchrun(files, *options):
    """Run a workflow of MONAI in two processes."""
    run = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    entry = "training" if "evaluate" not in files[-1] else "evaluating"
    command = [*run, "-m", "monai.bundle", "run", entry, "--config_file", str(files), *SMALL, *map(str, options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def places(tiny_phantom, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return folder, ["--dataset_dir", tiny_phantom, "--output_dir", folder, "--model", folder / "model.pt"]


@pytest.fixture(scope="module")
def trained_by_two(places, encoder):
    folder, options = places
    files = ["configs/train.json", TASK, OVERLAY, "configs/multi_gpu_train.json"]
    done = torchrun(files, *options, "--weights", encoder, "--epochs", "2", "--batch_size", "4")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_two_processes_train_one_classifier(trained_by_two):
    card = json.loads((trained_by_two / "model.json").read_text())
    assert card["epoch"] in (1, 2)
    weights = torch.load(trained_by_two / "model.pt", weights_only=True)
    assert not [name for name in weights if name.startswith("module.")]
    assert (trained_by_two / "model_record.npz").is_file()


def test_two_processes_judge_everybody_once(trained_by_two, places, tiny_phantom):
    files = ["configs/train.json", "configs/evaluate.json", TASK, OVERLAY, "configs/multi_gpu_evaluate.json"]
    done = torchrun(files, *places[1])
    assert done.returncode == 0, done.stderr[-3000:]
    table = pd.read_csv(trained_by_two / "predictions.csv")
    tested = json.loads((tiny_phantom / "alzheimer.json").read_text())["test"]
    assert table["participant_id"].tolist() == [r["participant_id"] for r in tested]
