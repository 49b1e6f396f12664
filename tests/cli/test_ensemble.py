"""`train --ensemble K`: which runs are started, and which are not started again."""

from pathlib import Path

import pytest
import torch

from bundle.cli import ensemble
from bundle.cli.options import FOLDER, OptionError
from bundle.cli.rules import faults
from bundle.training import require_one


class Runs:
    """In the place of `run_config`: keeps what it was asked, and leaves what a training would leave."""

    def __init__(self, killed_at=None):
        self.asked, self.killed_at = [], killed_at

    def __call__(self, files, options, command):
        assert command == "train"
        assert options["ensemble"] is None
        self.asked.append(dict(options))
        folder = Path(options["output_dir"])
        folder.mkdir(parents=True, exist_ok=True)
        if options["seed"] == self.killed_at:
            torch.save({"settings": {}}, folder / "checkpoint_1.pt")
            raise SystemExit(130)
        Path(options["model"]).write_bytes(b"weights")
        return Joined()


class Joined:
    def get_parsed_content(self, name):
        assert name == "validate#evaluator"
        return self

    state = property(lambda self: self)
    metrics = {"val_auc": 0.5}  # noqa: RUF012


@pytest.fixture
def options(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"1")
    files = {"output_dir": str(tmp_path / "out"), "model": str(tmp_path / "out" / "model.pt")}
    return {**files, "weights": str(tmp_path / "weights.pt"), "dataset_dir": str(tmp_path), "seed": 5, "ensemble": 3}


def train(runs, options):
    return ensemble.train_ensemble(runs, [FOLDER / "train.json"], options, options["ensemble"])


def test_members_have_seeds_and_folders_of_their_own_and_are_joined(options, tmp_path):
    runs = Runs()
    train(runs, options)
    *members, joining = runs.asked
    assert [m["seed"] for m in members] == [5, 6, 7]
    assert [Path(m["model"]).relative_to(tmp_path) for m in members] == [
        Path(f"out/member_{n}/model.pt") for n in range(3)
    ]
    assert joining["seed"] == 5
    assert joining["model"] == options["model"]
    assert joining["network_def"]["members"] == 3
    assert joining["network_def"]["network"]["_target_"] == "DenseNet121"
    assert joining["training"][-1] == "$@validate#evaluator.run()"
    assert (tmp_path / "out" / "run.json").is_file()


def test_a_killed_run_goes_on_with_the_member_it_was_at(options):
    with pytest.raises(SystemExit):
        train(Runs(killed_at=6), options)
    monkey = pytest.MonkeyPatch()
    monkey.setattr(ensemble, "newest_content", lambda folder: {} if list(folder.glob("checkpoint_*")) else None)
    runs = Runs()
    train(runs, {**options, "resume": True})
    monkey.undo()
    assert [(m["seed"], m["resume"]) for m in runs.asked] == [(6, True), (7, False), (5, False)]


def test_members_of_other_settings_are_trained_again(options):
    train(Runs(), options)
    runs = Runs()
    train(runs, {**options, "resume": True, "learning_rate": 0.5})
    assert [m["seed"] for m in runs.asked] == [5, 6, 7, 5]
    runs = Runs()
    train(runs, options)  # without `resume`, everything begins anew
    assert len(runs.asked) == 4
    runs = Runs()
    train(runs, {**options, "resume": True})
    assert len(runs.asked) == 1


def test_an_ensemble_needs_numbers_and_plain_paths(options):
    with pytest.raises(OptionError, match="whole numbers from it on"):
        train(Runs(), {**options, "seed": 2**32 - 2})
    with pytest.raises(OptionError, match="give --output_dir"):
        train(Runs(), {**options, "output_dir": "$str(1)"})


def test_only_a_training_has_members():
    assert ensemble.members_asked("train", {"ensemble": 3}) == 3
    assert ensemble.members_asked("train", {"ensemble": None}) == 0
    assert ensemble.members_asked("evaluate", {"ensemble": 3}) == 0
    assert next(faults("train", {"ensemble": 1})).startswith("ensemble is 1, but a whole number from 2 to 32")
    require_one(None)
    with pytest.raises(ValueError, match="python -m bundle train --ensemble 3"):
        require_one(3)
