"""Training to prediction with `.safetensors` alone, and a model in both formats side by side."""

import json
import shutil

import pandas as pd
import pytest

from bundle.cli.main import main
from bundle.networks import read_card
from bundle.networks.conversion import change_format
from bundle.prediction.training_record import copy_record
from bundle.publishing.tested import read_tested
from tests.conftest import OVERLAY, ROOT, SMALL, TASK

pytestmark = pytest.mark.long
QUICK = ["--num_workers", "0", "--explain", "none", "--report", "False", "--augmentations", "0"]


@pytest.fixture(scope="module")
def chain(tiny_phantom, encoder, tmp_path_factory):
    """An encoder, a classifier that was trained for a moment, and its test, without a file of torch."""
    folder = tmp_path_factory.mktemp("chain")
    data, loading = ["--dataset_dir", str(tiny_phantom)], ["--num_workers", "0"]
    start, model = str(change_format(encoder, folder)), str(folder / "model.safetensors")
    task = ["--config", TASK, OVERLAY, *data, *loading, "--model", model]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert main(["train", *task, "--epochs", "1", "--output_dir", str(folder / "train"), "--weights", start]) == 0
        assert main(["evaluate", *task, "--output_dir", str(folder / "test")]) == 0
    return folder


def test_everything_lies_in_safetensors(chain):
    assert {path.name for path in chain.iterdir() if path.is_file()} == {
        *("encoder.safetensors", "model.safetensors", "model_record.npz")
    }
    card = read_card(chain / "model.safetensors")
    assert card["pretrained"]["sha256"] == read_card(chain / "encoder.safetensors")["sha256"]
    assert set(read_card(chain / "encoder.safetensors")["fingerprints"]["participants"]) <= set(
        card["fingerprints"]["participants"]
    )


def test_the_metrics_say_of_which_weights_they_are(chain):
    card = read_card(chain / "model.safetensors")
    found = json.loads((chain / "test" / "metrics.json").read_text())
    assert found["weights_sha256"] == card["sha256"]
    assert found["datalist"]["file"] == "alzheimer.json"
    assert "phantom" in found["warning"]
    threshold = card["validation"]["val_threshold"]
    tested = read_tested(chain / "test" / "metrics.json", chain / "model.safetensors", card["sha256"], threshold)
    assert {metric.kind: metric.value for metric in tested.metrics}["roc_auc"] == found["auc"]
    for metric in tested.metrics:
        assert metric.low <= metric.value <= metric.high


def test_either_format_answers_the_same_to_the_digit(chain, tiny_phantom, tmp_path):
    other = change_format(chain / "model.safetensors", tmp_path / "torch")
    copy_record(chain / "model.safetensors", other)
    tables = []
    for model in (chain / "model.safetensors", other):
        output = tmp_path / model.suffix
        scans = str(tiny_phantom / "alzheimer.json")
        assert main(["predict", scans, "--model", str(model), "--output", str(output), *QUICK]) == 0
        tables.append(pd.read_csv(output / "predictions.csv", dtype=str))
    one, two = tables
    assert [name for name in one if not one[name].equals(two[name])] == ["model_sha256"]
    assert one["model_sha256"].unique().tolist() == [read_card(chain / "model.safetensors")["sha256"]]


@pytest.mark.slow
def test_pretrain_check_probe_and_export_take_it(chain, tiny_phantom, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    model = shutil.copy(chain / "model.safetensors", tmp_path / "model.safetensors")
    shutil.copy(chain / "model_record.npz", tmp_path / "model_record.npz")
    scan = str(next((tiny_phantom / "alzheimer").glob("*.nii.gz")))
    assert main(["check", scan, "--model", str(model)]) in (0, 3)
    assert main(["export", "--model", str(model), "--formats", "torchscript"]) == 0
    trained = [*SMALL, "--dataset_dir", str(tiny_phantom), "--epochs", "1", "--batch_size", "8", "--num_workers", "0"]
    output = ["--output_dir", str(tmp_path / "pre"), "--weights", str(tmp_path / "pre.safetensors")]
    assert main(["pretrain", "--config", OVERLAY, *trained, *output]) == 0
    tasks = f"{{alzheimer: {tiny_phantom / 'alzheimer.json'}}}"
    probe = ["probe", "--weights", str(tmp_path / "pre.safetensors"), "--tasks", tasks, "--sizes", "[10]"]
    age = ["--age_datalist", str(tiny_phantom / "pretraining.json"), "--output_dir", str(tmp_path / "probe")]
    assert main([*probe, *age, "--draws", "1", "--num_workers", "0"]) == 0
