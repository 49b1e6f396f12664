"""Files that earlier code wrote still load: those in `reference/flat_modules` were made at commit 61fdcf7."""

import doctest
import importlib
import json
import re
import shutil

import pytest
import torch

from bundle import former_names
from bundle.cli.main import main
from bundle.cli.options import FOLDER
from bundle.cohort import load_section
from bundle.former_names import renewed
from bundle.networks import classifier_card, load_encoder, read_card
from bundle.prediction.training_record import load_record
from bundle.training.resume import FORMAT
from tests.conftest import ROOT

FILES = ROOT / "tests/reference/flat_modules"
RECORDS = ("pretrain", "probe", "train", "evaluate")
SIZE = ["--num_workers", "0"]


def names_in(content):
    return set(re.findall(r"\bbundle(?:\.\w+)+", json.dumps(content)))


def test_examples_in_the_docstrings_run():
    assert doctest.testmod(former_names).failed == 0


@pytest.mark.parametrize("kind", RECORDS)
def test_every_name_of_an_earlier_record_is_found_where_it_is_now(kind):
    content = json.loads((FILES / kind / "run.json").read_text())
    assert names_in(content) != names_in(renewed(content))
    for name in names_in({key: value for key, value in renewed(content).items() if key != "study"}):
        place, _, last = name.rpartition(".")
        assert hasattr(importlib.import_module(place), last), name


def test_todays_names_stay_as_they_are():
    for path in FOLDER.iterdir():
        if path.suffix in (".yaml", ".json"):
            assert renewed(path.read_text()) == path.read_text()


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    """A folder as it was after an earlier version ran in it; the phantom is made anew, which is the same."""
    from bundle.phantom import make_phantom

    make_phantom(tmp_path / "data", resolution=9.0, n_pretraining=16, n_per_task=24, workers=1, progress=False)
    shutil.copytree(FILES, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.long
@pytest.mark.parametrize("kind", RECORDS)
def test_an_earlier_run_is_done_again_from_its_record(kind, earlier):
    given = {"pretrain": ["--weights", "new/pretrained.pt"], "train": ["--model", "new/model.pt"]}.get(kind, [])
    arguments = [kind, "--from-run", f"out/{kind}/run.json", "--output_dir", "new", *given, *SIZE]
    assert main(arguments) == 0
    assert json.loads((earlier / "new/run.json").read_text())["made_by"]["kind"] == kind
    assert "bundle.workflow" not in (earlier / "new/run.json").read_text()


@pytest.mark.long
def test_an_earlier_checkpoint_is_gone_on_from(earlier):
    small = ["--init_features", "4", "--growth_rate", "4", "--block_config", "[1,1,1]", "--batch_size", "8", *SIZE]
    places = ["--dataset_dir", "data", "--output_dir", "out/pretrain", "--weights", "out/pretrained.pt"]
    assert main(["pretrain", *small, *places, "--views", "all_tf", "--epochs", "2", "--resume"]) == 0
    assert (earlier / "out/pretrain/checkpoint_2.pt").is_file()
    assert not (earlier / "out/pretrain/earlier").exists(), "it began anew"


@pytest.mark.long
def test_an_earlier_cache_is_read_and_nothing_is_made_again(earlier):
    before = {path: path.stat().st_mtime_ns for path in (earlier / "out/cache/volumes").iterdir()}
    assert len(load_section(earlier / "out/cache/pretraining.json", "training", cached=True)) == 14
    small = ["--init_features", "4", "--growth_rate", "4", "--block_config", "[1,1,1]", "--batch_size", "8", *SIZE]
    places = ["--dataset_dir", "out/cache", "--output_dir", "new", "--weights", "new/pretrained.pt"]
    assert main(["pretrain", "--config", "configs/cached.yaml", *small, *places, "--epochs", "1"]) == 0
    stated = read_card("new/pretrained.pt")["preprocessing_steps"]
    assert [step["_target_"] for step in stated][-2:] == ["NormalizeIntensityd", "EnsureTyped"]
    assert before == {path: path.stat().st_mtime_ns for path in (earlier / "out/cache/volumes").iterdir()}


@pytest.mark.long
def test_an_earlier_cache_is_filled_further_and_not_refused(earlier):
    assert main(["cache", "--datalist", "data/pretraining.json", "--output", "out/cache", "--workers", "0"]) == 0
    settings = json.loads((earlier / "out/cache/cache.json").read_text())
    assert "bundle.volumes" in json.dumps(settings["preprocessing"]), "volumes are named after the earlier text"


def test_earlier_cards_weights_and_training_records_load():
    assert load_encoder(FILES / "pretrained.pt").encoder.embedding_size > 0
    assert classifier_card(FILES / "model.pt")["class_names"] == ["control", "Alzheimer's disease"]
    assert load_record(FILES / "model.pt") is not None
    state = torch.load(FILES / "pretrain/checkpoint_1.pt", weights_only=True)
    assert state["format"] == FORMAT
