"""`pretrain` of Python trains what the command line trains."""

import pandas as pd
import pytest
import torch

import bundle
from bundle.cli.main import main
from tests.conftest import OVERLAY, ROOT, SMALL

pytestmark = pytest.mark.long
NETWORK = {"init_features": 8, "growth_rate": 4, "block_config": [1, 1, 1, 1]}


@pytest.fixture(scope="module")
def report(tiny_phantom, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    options = {"epochs": 2, "batch_size": 16, "device": "cpu", **NETWORK}
    return bundle.pretrain(tiny_phantom / "pretraining.json", output=folder, config=OVERLAY, verbose=False, **options)


def test_the_weights_are_those_of_the_command(report, tiny_phantom, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    data = ["--datalist", str(tiny_phantom / "pretraining.json"), "--output_dir", str(tmp_path)]
    size = ["--weights", str(tmp_path / "encoder.pt"), "--epochs", "2", "--batch_size", "16", "--device", "cpu"]
    assert main(["pretrain", "--config", OVERLAY, *data, *size, *SMALL]) == 0
    own, other = (torch.load(path, weights_only=True) for path in (report.weights, tmp_path / "encoder.pt"))
    assert all(torch.equal(own[name], tensor) for name, tensor in other.items())
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "history.csv"), report.table())


def test_the_report_says_and_shows_what_happened(report, tmp_path):
    assert report.history["epoch"].tolist() == [1, 2]
    assert {"train_loss", "val_loss"} <= set(report.history)
    assert report.levels == pytest.approx({"train_loss": 3.434, "val_loss": 2.708}, abs=1e-3)  # log 31, log 15
    assert f"{report.weights}" in str(report)
    assert str(report).startswith("2 epochs, best val_loss ")
    assert report.weights == report.folder / "pretrained.pt"
    assert report.encoder()(torch.zeros(1, 1, 30, 36, 30)).shape == (1, report.encoder().embedding_size)
    assert report.plot_learning_curve(tmp_path / "curves.png").axes[0].get_title() == "Loss"
    assert (tmp_path / "curves.png").stat().st_size > 5_000
    assert report._repr_html_().startswith('<img alt="Loss')


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epoch": 2}, "no option --epoch; did you mean 'epochs'"),
        ({"epochs": 0}, "epochs"),
        ({"output_dir": "x"}, "is the argument `output` here"),
        ({"datalist": "nowhere.json"}, "`datalist` is nowhere.json, but there is no such file"),
        ({"device": "tpu"}, "--device is 'tpu', but auto, cpu, cuda"),
    ],
)
def test_refusals_are_sentences(tiny_phantom, tmp_path, change, reason):
    given = {"datalist": tiny_phantom / "pretraining.json", "config": OVERLAY, **NETWORK}
    with pytest.raises((ValueError, OSError), match=reason):
        bundle.pretrain(output=tmp_path / "out", **{**given, **change})
    assert not (tmp_path / "out" / "run.json").exists()
