"""A classifier that is trained against a site adversary, run for real on a tiny phantom."""

import json
import shutil

import pandas as pd
import pytest
import torch

from bundle.cli.main import main
from tests.conftest import OVERLAY, ROOT, TASK, run, with_full_paths
from tests.integration.conftest import same
from tests.integration.test_comparison import write_plan

pytestmark = pytest.mark.long

ADVERSARY = "configs/adaptation_adversarial_classifier.yaml"
WITH = ["--config", TASK, OVERLAY, ADVERSARY]
HEAD = {"class_layers.out.weight", "class_layers.out.bias"}


def train(phantom, folder, *more, epochs=3):
    return run("train", phantom, folder, "--weights", "scratch", "--epochs", str(epochs), *more)


def content(folder, name="model.pt"):
    return torch.load(folder / name, weights_only=True)


@pytest.fixture(scope="module")
def both(tiny_phantom, tmp_path_factory):
    """Folders of a training with the adversary, and of one without."""
    folder = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert train(tiny_phantom, folder / "with", *WITH) == 0
        assert train(tiny_phantom, folder / "without") == 0
    return folder / "with", folder / "without"


def test_the_classifier_is_a_usual_one_that_learned_otherwise(both, tiny_phantom, tmp_path):
    adversarial, plain = both
    weights = content(adversarial)
    assert weights.keys() == content(plain).keys() >= HEAD
    assert not same(content(adversarial, "checkpoint_3.pt")["network"], content(plain, "checkpoint_3.pt")["network"])
    assert json.loads((adversarial / "model.json").read_text())["config"]["site_weight"] == 1.0
    assert "site_weight" not in json.loads((plain / "model.json").read_text())["config"]
    history = pd.read_csv(adversarial / "history.csv")
    assert history["train_site_entropy"].between(0.5, 5).all()
    assert run("evaluate", tiny_phantom, tmp_path, "--model", str(adversarial / "model.pt")) == 0
    assert main(["predict", str(tiny_phantom / "alzheimer.json"), "--model", str(adversarial / "model.pt"),
                 "--output", str(tmp_path / "answers"), "--explain", "none"]) in (0, 3)  # fmt: skip
    assert len(pd.read_csv(tmp_path / "answers" / "predictions.csv")) == 40


def test_an_adversary_without_weight_changes_nothing(both, tiny_phantom, tmp_path):
    assert train(tiny_phantom, tmp_path, *WITH, "--train#adversary#site_weight", "0") == 0
    found, expected = (content(folder, "checkpoint_3.pt") for folder in (tmp_path, both[1]))
    assert same(found["network"], expected["network"])
    plain = pd.read_csv(both[1] / "history.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "history.csv")[plain.columns], plain)


def test_a_resumed_training_ends_as_if_it_had_not_been_stopped(both, tiny_phantom, tmp_path, capsys):
    for name in ("checkpoint_2.pt", "model.pt", "model.json"):
        shutil.copy(both[0] / name, tmp_path)
    assert train(tiny_phantom, tmp_path, *WITH, "--resume") == 0
    found, expected = (content(folder, "checkpoint_3.pt") for folder in (tmp_path, both[0]))
    for part in ("network", "optimizer", "lr_scheduler", "adversary", "history", "trainer"):
        assert same(found[part], expected[part]), part
    assert expected["adversary"].keys() == {"weight", "bias"}
    assert train(tiny_phantom, tmp_path, "--resume", epochs=4) == 1
    assert "is of a run with other settings" in capsys.readouterr().err


def test_members_of_an_ensemble_have_an_adversary_each(tiny_phantom, tmp_path):
    assert train(tiny_phantom, tmp_path, *WITH, "--ensemble", "2", epochs=1) == 0
    adversaries = [content(tmp_path / f"member_{k}", "checkpoint_1.pt")["adversary"] for k in (0, 1)]
    assert not same(*adversaries)
    assert not any("site" in name for name in content(tmp_path))
    assert run("evaluate", tiny_phantom, tmp_path / "test", "--model", str(tmp_path / "model.pt")) == 0


def test_an_encoder_or_a_classifier_may_be_the_start(both, encoder, tiny_phantom, tmp_path):
    start = ["--weights", str(encoder), "--epochs", "1"]
    assert run("train", tiny_phantom, tmp_path / "encoder", *WITH, *start) == 0
    other = ["--from", str(both[0] / "model.pt"), "--task", "bipolar", "--epochs", "1"]
    assert run("train", tiny_phantom, tmp_path / "classifier", *WITH, *other) == 0
    assert json.loads((tmp_path / "classifier" / "model.json").read_text())["task"] == "bipolar"


def test_one_site_and_a_frozen_trunk_are_refused_before_anything_is_written(encoder, tiny_phantom, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("train", tiny_phantom, out, *WITH, "--weights", str(encoder), "--freeze") == 1
    assert "`freeze` trains the head alone" in capsys.readouterr().err
    datalist = with_full_paths(tiny_phantom / "alzheimer.json")
    for record in datalist["training"]:
        record["site"] = "here" if record["label"] else None
    (tmp_path / "one.json").write_text(json.dumps(datalist))
    assert train(tiny_phantom, out, *WITH, "--datalist", str(tmp_path / "one.json")) == 1
    assert "needs two sites, but the" in capsys.readouterr().err
    assert not out.exists()


def test_a_network_of_a_comparison_may_have_overlays_of_its_own(tiny_phantom, tmp_path):
    networks = {"from scratch": "scratch", "adversary": {"start": "scratch", "overlays": [ADVERSARY]}}
    less = {"pretexts": {}, "tasks": ["alzheimer"], "seeds": [3], "probing": {"references": []}}
    command = write_plan(tiny_phantom, tmp_path, networks=networks, **less)
    assert main(command) == 0
    runs = tmp_path / "compare" / "runs"
    cards, settings = (
        [json.loads((runs / name / "seed_3/alzheimer_20" / file).read_text()) for name in ("from_scratch", "adversary")]
        for file in ("model.json", "settings.json")
    )
    assert ["site_weight" in card["config"] for card in cards] == [False, True]
    assert "overlays" not in settings[0]
    assert settings[1].pop("overlays").keys() == {"adaptation_adversarial_classifier.yaml"}
    assert settings[0] == settings[1]
    assert set(pd.read_csv(tmp_path / "compare" / "results.csv")["method"]) >= {"from scratch", "adversary"}
