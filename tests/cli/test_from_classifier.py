"""`train --from`: what is refused before anything heavy, and a second question, trained for real."""

import json

import pytest

from bundle.cli.main import main
from bundle.cohort.datalist import load_section
from bundle.cohort.overlap import id_digest
from tests.conftest import ROOT, SMALL, with_full_paths


def second(phantom, folder, model, *more, task="bipolar"):
    files = [str(ROOT / "configs" / name) for name in (f"task_{task}.yaml", "phantom.yaml")]
    data = ["--dataset_dir", str(phantom), "--output_dir", str(folder), "--model", str(folder / "second.pt")]
    return main(["train", "--config", *files, "--from", str(model), *data, *SMALL, "--epochs", "1", *more])


@pytest.mark.parametrize(
    ("more", "status", "sentence"),
    [
        (["--weights", "scratch"], 2, "--from and --weights both say what training starts from; give one of them"),
        ([], 1, "`from` is nowhere.pt, but there is no such file"),
    ],
)
def test_refusals(tmp_path, more, status, sentence, capsys):
    assert main(["train", "--from", "nowhere.pt", *more]) == status
    assert sentence in capsys.readouterr().err


def test_only_train_has_the_option(capsys):
    assert main(["pretrain", "--from", "model.pt"]) == 2
    assert "There is no option --from" in capsys.readouterr().err


def test_an_encoder_is_refused(tiny_phantom, encoder, tmp_path, capsys):
    """Its card says no kind."""
    assert second(tiny_phantom, tmp_path, encoder) == 1
    assert "--from expects a classifier" in capsys.readouterr().err


@pytest.mark.long
def test_a_classifier_of_one_disease_starts_another(tiny_phantom, trained, tmp_path, capsys):
    model = trained / "model.pt"
    assert second(tiny_phantom, tmp_path, model, "--dry-run") == 0
    assert "started from" in (said := capsys.readouterr().out)
    assert "classifier of alzheimer (control or Alzheimer's disease), trained on" in said
    assert second(tiny_phantom, tmp_path, model) == 0
    card, first = (json.loads(path.read_text()) for path in (tmp_path / "second.json", trained / "model.json"))
    told = card["pretrained"]
    assert (told["path"], told["sha256"], told["task"]) == (str(model), first["sha256"], "alzheimer")
    assert told["scans"] == sum(first["subjects"].values())
    assert told["pretrained"] == first["pretrained"]
    own = {id_digest(r) for r in load_section(tiny_phantom / "bipolar.json", "training")}
    assert set(card["fingerprints"]["participants"]) == {*own, *first["fingerprints"]["participants"]}
    assert card["class_names"] == ["control", "bipolar disorder"]
    assert json.loads((tmp_path / "run.json").read_text())["weights"] == str(model)


@pytest.mark.long
@pytest.mark.parametrize("section", ["training", "test"])
def test_whom_an_earlier_stage_saw_is_not_tested(tiny_phantom, trained, tmp_path, capsys, section):
    datalist = with_full_paths(tiny_phantom / "bipolar.json")
    datalist["test"] += with_full_paths(tiny_phantom / "alzheimer.json")[section][:1]
    (tmp_path / "b.json").write_text(json.dumps(datalist))
    refused = section == "training"
    more = ["--datalist", str(tmp_path / "b.json"), "--dry-run"]
    assert second(tiny_phantom, tmp_path, trained / "model.pt", *more) == int(refused)
    assert ("Participants of bipolar were in the training of" in capsys.readouterr().err) == refused


@pytest.mark.long
def test_the_same_question_to_the_same_people_is_said(tiny_phantom, trained, tmp_path, caplog):
    assert second(tiny_phantom, tmp_path, trained / "model.pt", "--dry-run", task="alzheimer") == 0
    assert "It was a classifier of the same task, alzheimer, which has learned their labels" in caplog.text
