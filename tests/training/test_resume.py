import logging
import os
import signal

import pytest
import torch
from ignite.engine import Events
from ignite.metrics import Average
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from bundle.training.engines import run_remaining
from bundle.training.resume import EpochSampler, Resume, scalars

DATA = [{"image": torch.full((2,), float(i)), "label": torch.tensor([i % 3.0])} for i in range(12)]


class Run:
    """Three epochs of six steps, with dropout, as the configs put a run together."""

    def __init__(self, folder, resume=False, epochs=3):
        torch.manual_seed(0)
        self.network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
        self.optimizer = torch.optim.Adam(self.network.parameters(), 0.01)
        self.average = Average(output_transform=lambda output: output["loss"].detach())
        self.writer = scalars(folder, resume)
        self.losses = []
        sampler = EpochSampler(DATA, num_replicas=1, rank=0, shuffle=True, seed=0)
        self.trainer = SupervisedTrainer(
            "cpu",
            epochs,
            DataLoader(DATA, batch_size=2, sampler=sampler),
            self.network,
            self.optimizer,
            torch.nn.MSELoss(),
            key_train_metric={"loss": self.average},
            decollate=False,
        )
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self.log)
        evaluator = SupervisedEvaluator("cpu", DataLoader(DATA), self.network)
        self.resume = Resume(
            folder,
            self.trainer,
            evaluator,
            {"network": self.network, "optimizer": self.optimizer},
            resume=resume,
            metrics={"loss": self.average},
            scalars=self.writer,
        )
        self.resume.attach()

    def log(self, engine):
        self.losses.append(engine.state.metrics["loss"])
        self.writer.add_scalar("loss", self.losses[-1], engine.state.epoch)

    def stop_after(self, steps, number=signal.SIGTERM):
        self.trainer.add_event_handler(Events.ITERATION_STARTED(once=steps), lambda: os.kill(os.getpid(), number))
        return self

    def go(self):
        run_remaining(self.trainer)
        self.writer.flush()
        return self


def weights(run):
    return torch.cat([p.detach().flatten() for p in run.network.parameters()])


@pytest.fixture(autouse=True)
def first_of_its_process(monkeypatch):
    """TensorBoard numbers the files of a process, and reads those of one second by name: 10 before 9."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


def shown(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("loss")]


@pytest.mark.parametrize("steps", [1, 3, 6, 7, 17])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_ends_the_step_saves_and_the_rest_is_as_if_nothing_had_been(tmp_path, steps, number):
    straight = Run(tmp_path / "straight").go()
    with pytest.raises(SystemExit) as stopped:
        Run(tmp_path / "stopped").stop_after(steps, number).go()
    assert stopped.value.code == 128 + number
    rest = Run(tmp_path / "stopped", resume=True).go()
    assert rest.trainer.state.iteration == 18
    assert torch.equal(weights(rest), weights(straight))
    assert rest.losses == straight.losses[-len(rest.losses) :]
    assert shown(tmp_path / "stopped") == shown(tmp_path / "straight")


def test_signals_mean_what_they_did_once_the_run_is_over(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    Run(tmp_path).go()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_signal_ends_at_once(tmp_path):
    run = Run(tmp_path)
    run.resume._note(signal.SIGTERM, None)
    with pytest.raises(KeyboardInterrupt):
        run.resume._note(signal.SIGTERM, None)


def test_two_checkpoints_are_kept_whatever_the_run_went_through(tmp_path):
    with pytest.raises(SystemExit):
        Run(tmp_path).stop_after(9).go()
    assert sorted(p.name for p in tmp_path.glob("checkpoint*")) == ["checkpoint_1.pt", "checkpoint_1_step_3.pt"]
    Run(tmp_path, resume=True).go()
    assert sorted(p.name for p in tmp_path.glob("checkpoint*")) == ["checkpoint_2.pt", "checkpoint_3.pt"]


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"not a checkpoint at all"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, damage, caplog):
    straight = Run(tmp_path / "straight").go()
    Run(tmp_path / "run", epochs=2).go()
    newest = tmp_path / "run" / "checkpoint_2.pt"
    newest.write_bytes(damage(newest.read_bytes()))
    rest = Run(tmp_path / "run", resume=True).go()
    assert "checkpoint_2.pt is damaged" in caplog.text
    assert torch.equal(weights(rest), weights(straight))
    assert shown(tmp_path / "run") == shown(tmp_path / "straight")


def test_no_readable_checkpoint_is_an_error_and_none_at_all_is_a_start(tmp_path, caplog):
    (tmp_path / "checkpoint_1.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"None of the checkpoints .* can be read \(checkpoint_1.pt\)"):
        Run(tmp_path, resume=True)
    with caplog.at_level(logging.INFO):
        Run(tmp_path / "empty", resume=True)
    assert "starting from epoch 0" in caplog.text


def test_a_checkpoint_of_a_newer_version_is_not_guessed_at(tmp_path, caplog):
    Run(tmp_path, epochs=2).go()
    newest = tmp_path / "checkpoint_2.pt"
    torch.save({**torch.load(newest, weights_only=True), "format": 99}, newest)
    Run(tmp_path, resume=True)
    assert "newer version of this bundle (format 99)" in caplog.text


def test_a_checkpoint_without_format_and_random_state_still_loads(tmp_path):
    Run(tmp_path, epochs=2).go()
    newest = tmp_path / "checkpoint_2.pt"
    content = torch.load(newest, weights_only=True)
    torch.save({k: v for k, v in content.items() if k in ("network", "optimizer", "trainer", "evaluator")}, newest)
    assert Run(tmp_path, resume=True).go().trainer.state.epoch == 3


def test_a_run_that_starts_anew_leaves_no_checkpoint_to_be_mistaken_for_its_own(tmp_path, caplog):
    first = Run(tmp_path).go()
    Run(tmp_path, epochs=1).go()
    assert sorted(p.name for p in tmp_path.glob("checkpoint*")) == ["checkpoint_1.pt"]
    assert sorted(p.name for p in (tmp_path / "earlier").iterdir()) == ["checkpoint_2.pt", "checkpoint_3.pt"]
    assert "now in" in caplog.text
    assert [step for step, _ in shown(tmp_path)] == [1]
    kept = torch.load(tmp_path / "earlier" / "checkpoint_3.pt", weights_only=True)
    assert torch.equal(kept["network"]["0.weight"], first.network[0].weight)


def test_what_was_written_cannot_be_read_back_is_never_put_in_place(tmp_path, monkeypatch):
    run = Run(tmp_path, epochs=1).go()
    monkeypatch.setattr(torch, "save", lambda content, stream: stream.write(b"half"))
    with pytest.raises(ValueError, match="is damaged"):
        run.resume.save()
    assert torch.load(tmp_path / "checkpoint_1.pt", weights_only=True)["format"] == 2
