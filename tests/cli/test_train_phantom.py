"""`train-phantom`: three commands from an empty folder; what is done is kept."""

import os

import pytest

import bundle.cli.main as command_line
from bundle.cli.main import main


@pytest.fixture
def called(monkeypatch):
    """The commands that are run in place of the real ones, and the status that each ends with."""
    calls, ends = [], {}

    def record(words):
        calls.append(words)
        return ends.get(words[0], 0)

    monkeypatch.setattr(command_line, "main", record)
    return calls, ends


def test_the_three_commands_are_run_in_their_order_in_one_folder(called, tmp_path):
    assert main(["train-phantom", "--output", str(tmp_path)]) == 0
    calls = called[0]
    assert [words[0] for words in calls] == ["phantom", "pretrain", "probe"]
    assert str(tmp_path / "data/phantom") in calls[0]
    assert all(words[words.index("--bundle_root") + 1] == str(tmp_path) for words in calls[1:])
    assert "--resume" in calls[1]
    assert not any("--epochs" in words or "--pretraining" in words for words in calls)


def test_a_command_that_fails_ends_the_job(called, tmp_path):
    calls, ends = called
    ends["pretrain"] = 1
    assert main(["train-phantom", "--output", str(tmp_path)]) == 1
    assert [words[0] for words in calls] == ["phantom", "pretrain"]


@pytest.mark.long
def test_a_quick_run_from_an_empty_folder_leaves_a_table_and_is_not_repeated(tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    assert main(["train-phantom", "--quick"]) == 0
    assert "y-Aware" in (tmp_path / "eval/probe/table.md").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"data", "models", "eval"}
    calls = request.getfixturevalue("called")[0]
    assert main(["train-phantom", "--quick"]) == 0
    assert [words[0] for words in calls] == ["phantom", "pretrain"]  # which keep what is there
    os.utime(tmp_path / "models/phantom_pretrained.pt")  # trained further
    assert main(["train-phantom", "--quick"]) == 0
    assert [words[0] for words in calls][2:] == ["phantom", "pretrain", "probe"]
