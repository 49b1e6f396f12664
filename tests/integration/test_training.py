"""The classifier's configs, run for real on a tiny phantom: trained, tested, refused."""

import json

import pandas as pd
import pytest
import torch
from monai.bundle import ConfigWorkflow

from bundle.cohort.datalist import load_section
from bundle.cohort.overlap import fingerprints
from bundle.metrics.classification import decisions, roc_auc
from tests.conftest import ROOT, run, with_full_paths

pytestmark = pytest.mark.long

PATIENT = "probability_Alzheimer's disease"


def test_the_classifier_has_plain_weights_and_a_card(trained, encoder, tiny_phantom):
    weights = torch.load(trained / "model.pt", weights_only=True)
    assert {"class_layers.out.weight", "features.norm5.weight", "features.conv0.weight"} <= set(weights)
    card = json.loads((trained / "model.json").read_text())
    assert card["class_names"] == ["control", "Alzheimer's disease"]
    assert card["pretrained"]["path"] == str(encoder)
    assert 0 <= card["validation"]["val_threshold"] <= 1
    training = load_section(tiny_phantom / "alzheimer.json", "training")
    assert sum(card["subjects"].values()) == len(training)
    both = [*training, *load_section(tiny_phantom / "pretraining.json", "training")[:1]]
    assert card["fingerprints"] == fingerprints(both)


@pytest.fixture(scope="module")
def evaluated(trained, tiny_phantom, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert run("evaluate", tiny_phantom, folder, "--model", str(trained / "model.pt")) == 0
    return folder


def test_every_test_participant_has_a_prediction_by_name(evaluated, trained, tiny_phantom):
    table = pd.read_csv(evaluated / "predictions.csv")
    records = load_section(tiny_phantom / "alzheimer.json", "test")
    assert table["participant_id"].tolist() == [r["participant_id"] for r in records]
    assert table["label"].tolist() == [r["label"] for r in records]
    assert table.loc[table["label"] == 1, "diagnosis"].unique().tolist() == ["Alzheimer's disease"]
    assert (table["probability_control"] + table[PATIENT]).round(4).eq(1).all()
    threshold = json.loads((trained / "model.json").read_text())["validation"]["val_threshold"]
    assert (table["predicted"] == "Alzheimer's disease").equals(table[PATIENT] >= threshold)


def test_the_metrics_are_those_of_the_predictions(evaluated, trained):
    table = pd.read_csv(evaluated / "predictions.csv")
    found = json.loads((evaluated / "metrics.json").read_text())
    assert found["auc"] == pytest.approx(float(roc_auc(table["label"], table[PATIENT])), abs=0.01)
    assert found["auc_interval"][0] <= found["auc"] <= found["auc_interval"][1]
    expected = decisions(table["label"], table[PATIENT], found["threshold"])
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["threshold"] == json.loads((trained / "model.json").read_text())["validation"]["val_threshold"]
    assert found["clinic"]["probabilities"]["network"]["brier"]["brier"] == pytest.approx(
        ((table[PATIENT] - table["label"]) ** 2).mean(), abs=1e-5
    )
    assert [row["asked"] for row in found["clinic"]["fixed_specificity"]] == [0.8, 0.9, 0.95]
    assert any(
        "at least 9 controls of the validation, but there are" in reason for reason in found["clinic"]["left_out"]
    )
    for name in ("calibration.png", "roc.png", "confusion_matrix.png", "clinic.png"):
        assert (evaluated / name).stat().st_size > 5_000


def test_training_leaves_a_history_and_its_curves(trained):
    history, card = pd.read_csv(trained / "history.csv"), json.loads((trained / "model.json").read_text())
    assert history["epoch"].tolist() == [1, 2]
    assert history[["train_loss", "train_auc", "val_auc"]].notna().all(axis=None)
    best = history.set_index("epoch").loc[card["epoch"]]
    assert best["val_auc"] == pytest.approx(card["validation"]["val_auc"], abs=1e-6)
    assert (trained / "curves.png").stat().st_size > 5_000


def test_one_class_in_the_test_section_is_a_sentence(trained, tiny_phantom, tmp_path, capsys):
    datalist = with_full_paths(tiny_phantom / "alzheimer.json")
    datalist["test"] = [record for record in datalist["test"] if record["label"] == 0]
    (tmp_path / "controls.json").write_text(json.dumps(datalist))
    test = ["--model", str(trained / "model.pt"), "--datalist", str(tmp_path / "controls.json")]
    assert run("evaluate", tiny_phantom, tmp_path, *test) == 1
    assert "'test' of alzheimer has one class" in capsys.readouterr().err


@pytest.mark.parametrize("files", [["train.json"], ["train.json", "evaluate.json"]])
def test_all_properties_that_monai_asks_for_hold(trained, encoder, tiny_phantom, tmp_path, files):
    small = {"init_features": 8, "growth_rate": 4, "block_config": [1, 1, 1, 1], "task": "alzheimer"}
    paths = {"dataset_dir": str(tiny_phantom), "output_dir": str(tmp_path), "model": str(trained / "model.pt")}
    workflow = ConfigWorkflow(
        [f"configs/{name}" for name in files], workflow_type="train", weights=str(encoder), **small, **paths
    )
    workflow.initialize()
    assert workflow.check_properties() == []


def test_training_from_scratch_is_said(tiny_phantom, tmp_path):
    assert run("train", tiny_phantom, tmp_path, "--weights", "scratch", "--epochs", "1", "--size", "20") == 0
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["pretrained"] == "scratch"
    assert card["subjects"] == {"training": 16, "validation": 4}


def test_a_frozen_trunk_keeps_weights_and_statistics(encoder, tiny_phantom, tmp_path):
    assert run("train", tiny_phantom, tmp_path, "--weights", str(encoder), "--epochs", "1", "--freeze") == 0
    before = torch.load(encoder, weights_only=True)
    after = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not torch.equal(after["features.norm5.running_mean"], torch.zeros_like(after["features.norm5.running_mean"]))


def test_training_stops_when_validation_no_longer_improves(encoder, tiny_phantom, tmp_path, caplog):
    still = ["--learning_rate", "1e-12", "--head_learning_rate", "1e-12", "--freeze"]
    assert run("train", tiny_phantom, tmp_path, "--weights", str(encoder), "--patience", "1", *still) == 0
    assert sorted(p.name for p in tmp_path.glob("checkpoint_*.pt")) != ["checkpoint_11.pt", "checkpoint_12.pt"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (["--growth_rate", "6"], "does not fit this network"),
        (["--weights", "scratch", "--freeze"], "Freezing a trunk of random weights"),
        (["--validation_share", "0.05"], "A share of 0.05 cannot be held out: label"),
        (["--size", "5000"], "5000 participants cannot be drawn"),
        (["--datalist", "nowhere.json"], "`datalist` is nowhere.json, but there is no such file"),
    ],
)
def test_refusals(encoder, tiny_phantom, tmp_path, capsys, change, reason):
    start = [] if "--weights" in change else ["--weights", str(encoder)]
    assert run("train", tiny_phantom, tmp_path, *start, *change) == 1
    assert reason in capsys.readouterr().err


def test_a_model_is_not_tested_on_whom_it_was_trained_on(trained, tiny_phantom, tmp_path, capsys):
    datalist = with_full_paths(tiny_phantom / "alzheimer.json")
    datalist["test"] += datalist["training"][:2]
    leaking = tmp_path / "alzheimer_leaking.json"
    leaking.write_text(json.dumps(datalist))
    test = ["--model", str(trained / "model.pt"), "--datalist", str(leaking)]
    assert run("evaluate", tiny_phantom, tmp_path, *test) == 1
    assert "Participants of alzheimer were in the training of" in capsys.readouterr().err
    assert run("evaluate", tiny_phantom, tmp_path, *test, "--allow-overlap") == 0


def test_ages_in_another_unit_and_another_task_are_refused(trained, tiny_phantom, tmp_path, capsys):
    datalist = with_full_paths(tiny_phantom / "alzheimer.json")
    for record in datalist["test"]:
        record["age"] *= 12
    (tmp_path / "months.json").write_text(json.dumps(datalist))
    months, model = ["--datalist", str(tmp_path / "months.json")], ["--model", str(trained / "model.pt")]
    for command, start in (("evaluate", model), ("train", ["--weights", "scratch"])):
        assert run(command, tiny_phantom, tmp_path, *start, *months) == 1
        assert "have age outside of 0 to 120 years" in capsys.readouterr().err
    other = ["--task", "bipolar", "--class_names", "[control, bipolar disorder]"]
    assert run("evaluate", tiny_phantom, tmp_path, *model, *other) == 1
    assert "is a classifier of alzheimer (control or Alzheimer's disease), but the run is of" in capsys.readouterr().err


def test_a_model_without_its_card_is_not_tested(trained, tiny_phantom, tmp_path, capsys):
    (tmp_path / "model.pt").write_bytes((trained / "model.pt").read_bytes())
    assert run("evaluate", tiny_phantom, tmp_path) == 1
    assert "needs the card of a classifier, with its classes" in capsys.readouterr().err
