"""Any encoder goes the whole way from the command line: pretrained, probed, fine-tuned, tested, asked about a scan."""

import json
import shutil

import pandas as pd
import pytest
import torch

from bundle.cli.main import main
from bundle.networks import load_encoder
from tests.conftest import OVERLAY, ROOT, TASK
from tests.networks.foreign import ThreeLayers

pytestmark = pytest.mark.long

SWIN = {"feature_size": 6, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 2], "window_size": 3}
VIT = {"image_size": [30, 36, 30], "patch_size": 16, "hidden_size": 8, "mlp_dim": 8, "num_layers": 1, "num_heads": 2}
ENCODERS = {  # what is put on the command line of `pretrain`
    "resnet18": ["configs/encoder_resnet18.yaml", "--encoder#width", "4"],
    "swin": ["configs/encoder_swin.yaml", *(f"--encoder#{name}={value}" for name, value in SWIN.items())],
    "vit": ["configs/encoder_vit.yaml", *(f"--encoder#{name}={value}" for name, value in VIT.items())],
}
FEW = ["--num_workers", "0", "--batch_size", "16"]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def way(tiny_phantom, tmp_path):
    """`way(command, folder, *more)`: a command on the tiny phantom, with its overlays first."""
    shutil.copy(next((tiny_phantom / "alzheimer").glob("*.nii.gz")), tmp_path / "scan.nii.gz")

    def run(command, *more):
        overlays = [OVERLAY, TASK] if command in ("train", "evaluate") else [OVERLAY]
        own = [part for part in more if part.endswith(".yaml")]
        data = ["--dataset_dir", str(tiny_phantom), "--output_dir", str(tmp_path / command), *FEW]
        if command in ("pretrain", "train"):
            data += ["--epochs", "1"]
        places = {"pretrain": ["weights"], "probe": ["weights"], "train": ["weights", "model"], "evaluate": ["model"]}
        files = [part for name in places[command] for part in (f"--{name}", str(tmp_path / f"{name}.pt"))]
        rest = [part for part in more if part not in own]
        return main([command, "--config", *overlays, *own, *data, *files, *rest])

    return run


def probed(way, folder, *more):
    only = ["--tasks", f"{{alzheimer: {folder / 'alzheimer.json'}}}", "--sizes", "[10]", "--draws", "1"]
    return way("probe", *only, "--age_datalist", "null", *more)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_of_ours_goes_the_whole_way_and_its_weights_say_what_it_is(name, way, tiny_phantom, tmp_path):
    if name in ("swin", "vit"):
        pytest.importorskip("einops")
    assert way("pretrain", *ENCODERS[name]) == 0
    card = json.loads((tmp_path / "weights.json").read_text())
    assert probed(way, tiny_phantom) == 0
    assert way("train") == 0
    assert json.loads((tmp_path / "model.json").read_text())["network"] == card["network"]
    assert way("evaluate") == 0
    answers = ["--output", str(tmp_path / "answers"), "--explain", "gradcam++", "--augmentations", "0"]
    assert main(["predict", str(tmp_path / "scan.nii.gz"), "--model", str(tmp_path / "model.pt"), *answers]) == 0
    table = pd.read_csv(tmp_path / "answers" / "predictions.csv")
    assert table["probability_control"].between(0, 1).all()


def test_an_encoder_of_somebody_else_goes_the_whole_way_by_its_overlays(way, tiny_phantom, tmp_path, capsys):
    own, classifier = tmp_path / "own.yaml", tmp_path / "classifier.yaml"
    own.write_text("encoder: {_target_: tests.networks.foreign.ThreeLayers, width: 5}\n")
    classifier.write_text(
        "network_def:\n  _target_: bundle.networks.EncoderClassifier\n"
        "  encoder: {_target_: tests.networks.foreign.ThreeLayers, width: 5}\n"
    )
    assert way("pretrain", str(own)) == 0
    names = set(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert names == set(ThreeLayers(5).state_dict())
    load_encoder(tmp_path / "weights.pt", ThreeLayers(5))
    assert probed(way, tiny_phantom) == 1
    assert "holds an encoder tests.networks.foreign.ThreeLayers, none of this bundle's" in capsys.readouterr().err
    assert probed(way, tiny_phantom, str(own)) == 0
    assert way("train", str(classifier)) == 0
    assert way("evaluate", str(classifier)) == 0
    scan = [
        "predict",
        str(tmp_path / "scan.nii.gz"),
        "--model",
        str(tmp_path / "model.pt"),
        "--config",
        str(classifier),
    ]
    answers = [*scan, "--output", str(tmp_path / "answers"), "--augmentations", "0"]
    assert main([*answers, "--explain", "gradcam++"]) == 1
    assert "take --explain occlusion" in capsys.readouterr().err
    assert main([*answers, "--explain", "occlusion"]) == 0
    assert len(pd.read_csv(tmp_path / "answers" / "predictions.csv")) == 1


def test_what_is_no_encoder_is_refused_before_training(way, tmp_path, capsys):
    own = tmp_path / "own.yaml"
    own.write_text(
        "encoder: {_target_: tests.networks.foreign.WithoutSize, in_channels: 1, out_channels: 4, kernel_size: 3}\n"
    )
    assert way("pretrain", str(own)) == 1
    assert "WithoutSize has embedding_size None, but an encoder is a module" in capsys.readouterr().err
    assert not (tmp_path / "weights.pt").exists()
