"""`predict` of Python says what the command line says, to the digit."""

import logging
import random
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from bundle import predict
from bundle.cli.main import main
from bundle.cohort.datalist import load_section
from tests.conftest import ROOT

pytestmark = pytest.mark.long
QUICK = {"num_workers": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def scans(tiny_phantom, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    for record in load_section(tiny_phantom / "alzheimer.json", "test")[:3]:
        shutil.copy(record["image"], folder)
    (folder / "broken.nii.gz").write_bytes(b"not an image")
    return folder


@pytest.fixture(scope="module")
def of_the_command(scans, trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("answers")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        options = ["--model", str(trained / "model.pt"), "--num_workers", "0", "--explain", "none"]
        assert main(["predict", str(scans), "--output", str(folder), *options, "--device", "cpu"]) == 3
    return (folder / "predictions.csv").read_text()


def as_written(table):
    return table.to_csv(index=False, float_format="%.6g")


def test_the_table_is_that_of_the_command_line(scans, of_the_command, trained):
    table = predict(scans, trained / "model.pt", **QUICK)
    assert as_written(table) == of_the_command
    assert table["verdict"].tolist().count("refuse") == 1
    broken = table[table["verdict"] == "refuse"].iloc[0]
    assert "cannot be read" in broken["reasons"]
    assert np.isnan(broken["uncertainty"])
    assert broken["predicted"] == ""


def test_a_list_and_a_table_of_files_give_the_same_rows(scans, of_the_command, trained, monkeypatch):
    monkeypatch.chdir(scans)
    paths = sorted(path.name for path in scans.iterdir())  # relative to where one stands
    assert as_written(predict(paths, trained / "model.pt", **QUICK)) == of_the_command
    rows = pd.DataFrame({"file": paths[::-1], "participant_id": range(len(paths)), "note": "more", "age": np.nan})
    table = predict(rows, trained / "model.pt", **QUICK)
    assert table["participant_id"].tolist() == ["0", "1", "2", "3"]
    assert table["file"].tolist() == [str(scans / name) for name in paths[::-1]]


def test_numbers_are_numbers_and_words_are_words(scans, trained):
    table = predict(scans, trained / "model.pt", **QUICK)
    numbers = ["probability_control", "uncertainty", "distance", "brain_age", "calibrated_probability", "prevalence"]
    assert {str(table[name].dtype) for name in numbers} == {"float64"}
    words = ["participant_id", "file", "verdict", "reasons", "answer", "predicted", "nearest_training_ages", "model"]
    assert all(isinstance(value, str) for name in words for value in table[name])


def test_nothing_is_written_and_the_process_is_as_it_was(scans, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    expected = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002
    before = logging.root.handlers[:], logging.root.level, torch.backends.cudnn.deterministic
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    predict(scans, trained / "model.pt", **QUICK)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected  # noqa: NPY002
    assert (logging.root.handlers[:], logging.root.level, torch.backends.cudnn.deterministic) == before
    assert logging.root.isEnabledFor(logging.WARNING)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_receives_what_the_command_writes(scans, trained, tmp_path):
    table = predict(sorted(scans.glob("sub-*"))[:1], trained / "model.pt", output=tmp_path, explain="none", **QUICK)
    assert as_written(table) == (tmp_path / "predictions.csv").read_text()
    assert (tmp_path / "index.html").is_file()
    with pytest.raises(ValueError, match="holds answers already"):
        predict(scans, trained / "model.pt", output=tmp_path, **QUICK)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scans": "nowhere"}, "nowhere does not exist"),
        ({"scans": []}, "There is no scan"),
        ({"scans": [None]}, "1 of 1 scans name no file"),
        ({"scans": pd.DataFrame({"path": ["a.nii"]})}, "has no column 'file'; it has 'path'"),
        ({"scans": ["broken.nii.gz"]}, "Not one of 1 scans could be read. .*cannot be read"),
        ({"model": "nowhere.pt"}, "`model` is nowhere.pt, but there is no such file"),
        ({"augmentation": 2}, "no option --augmentation; did you mean 'augmentations'"),
        ({"augmentations": -1}, "augmentations"),
        ({"growth_rate": 6}, "--growth_rate is 6, but the card of"),
        ({"output_dir": "here"}, "is the argument `output` here"),
        ({"device": "$exit()"}, "expressions are for config files"),
    ],
)
def test_refusals_are_sentences(scans, trained, monkeypatch, change, reason):
    monkeypatch.chdir(scans)
    with pytest.raises((ValueError, OSError), match=reason):
        predict(**{"scans": scans, "model": trained / "model.pt", **QUICK, **change})
