"""Runs that are killed, again and again, end as if they never had been."""

import contextlib
import io
import json
import logging
import os
import random
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bundle.cli.main import main
from tests.conftest import OVERLAY, ROOT, SMALL, TASK, forked
from tests.integration.conftest import same
from tests.integration.test_comparison import write_plan

logger = logging.getLogger(__name__)
PATIENCE = 600  # seconds that an attempt may take


class Command:
    """A command line that is started again until it ends by itself."""

    def __init__(self, command, folder, seed=0):
        self.command, self.folder, self.random = list(map(str, command)), folder, random.Random(seed)
        self.kills = {"at random": 0, "while a file was written": 0}

    def start(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.log = (self.folder.parent / f"{self.folder.name}.log").open("ab")
        self.before = self.log.tell()
        options = {"cwd": ROOT, "env": environment, "start_new_session": True}
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", *self.command], stderr=self.log, stdout=self.log, **options
        )

    def said(self):
        self.log.flush()
        return (self.folder.parent / f"{self.folder.name}.log").read_bytes()[self.before :]

    def run(self):
        process = self.start()
        assert process.wait(PATIENCE) == 0, self.said()[-2000:].decode()

    def run_and_kill(self, times, longest):
        """Kill every attempt but the last: after a random time at work, or as soon as a file is being written."""
        for number in range(times):
            process = self.start()
            while process.poll() is None and b"Epoch[" not in self.said():
                time.sleep(0.02)
            kind = "while a file was written" if number % 2 else "at random"
            if kind == "at random":
                time.sleep(self.random.uniform(0, longest))
            else:
                self.wait_for_a_file(process, self.random.randrange(1, 12))
            if process.poll() is not None:
                break
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self.kills[kind] += 1
        self.run()
        logger.warning(f"killed {sum(self.kills.values())} times: {self.kills}")

    def wait_for_a_file(self, process, count):
        """Until some files have been seen while they were written."""
        seen = set()
        while process.poll() is None and len(seen) < count:
            seen |= {name for _, _, names in os.walk(self.folder) for name in names if name.startswith(".part-")}


def content(path):
    return torch.load(path, weights_only=True)


def shown(folder):
    """Everything that TensorBoard shows, with its steps."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def compare_runs(straight, killed, last, weights):
    first, second = content(straight / last), content(killed / last)
    assert first.keys() == second.keys()
    for part in first:
        assert same(first[part], second[part]), part
    assert (straight / weights).read_bytes() == (killed / weights).read_bytes()
    assert (straight / "history.csv").read_text() == (killed / "history.csv").read_text()
    logs = shown(straight)
    assert logs == shown(killed)
    assert all([step for step, _ in values] == list(range(1, len(values) + 1)) for values in logs.values())


def pretraining(phantom, folder, epochs, *more):
    data = ["--dataset_dir", phantom, "--output_dir", folder, "--weights", folder / "encoder.pt"]
    return [
        "-m",
        "bundle",
        "pretrain",
        "--config",
        OVERLAY,
        *data,
        "--batch_size",
        16,
        "--epochs",
        epochs,
        *SMALL,
        *more,
    ]


def fine_tuning(phantom, folder, epochs, encoder, *more):
    data = ["--dataset_dir", phantom, "--output_dir", folder, "--model", folder / "model.pt", "--weights", encoder]
    return ["-m", "bundle", "train", "--config", TASK, OVERLAY, *data, "--epochs", epochs, *SMALL, *more]


@pytest.mark.slow
def test_pretraining_survives_twenty_four_kills(tiny_phantom, tmp_path):
    Command(pretraining(tiny_phantom, tmp_path / "straight", 60), tmp_path / "straight").run()
    killed = Command(pretraining(tiny_phantom, tmp_path / "killed", 60, "--resume"), tmp_path / "killed")
    killed.run_and_kill(24, 1.0)
    assert sum(killed.kills.values()) >= 20
    compare_runs(tmp_path / "straight", tmp_path / "killed", "checkpoint_60.pt", "encoder.pt")


@pytest.mark.slow
def test_fine_tuning_survives_kills(tiny_phantom, encoder, tmp_path):
    more = ["--patience", "30"]
    Command(fine_tuning(tiny_phantom, tmp_path / "straight", 40, encoder, *more), tmp_path / "straight").run()
    killed = Command(
        fine_tuning(tiny_phantom, tmp_path / "killed", 40, encoder, *more, "--resume"), tmp_path / "killed"
    )
    killed.run_and_kill(8, 1.0)
    assert sum(killed.kills.values()) >= 6
    last = max((p.name for p in (tmp_path / "straight").glob("checkpoint_*")), key=lambda n: int(n[11:-3]))
    compare_runs(tmp_path / "straight", tmp_path / "killed", last, "model.pt")


def two_processes(phantom, folder, *more):
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle", "run", "training"]
    files = f"['configs/pretrain.yaml','{OVERLAY}','configs/multi_gpu_pretrain.yaml']"
    data = ["--dataset_dir", phantom, "--output_dir", folder, "--weights", folder / "encoder.pt"]
    return [*run, "--config_file", files, *data, "--batch_size", 16, "--epochs", 20, *SMALL, *more]


def children(pid):
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
    return [int(child) for child in found.stdout.split()]


@pytest.mark.slow
def test_two_processes_survive_the_death_of_one(tiny_phantom, tmp_path):
    Command(two_processes(tiny_phantom, tmp_path / "straight"), tmp_path / "straight").run()
    killed = Command(two_processes(tiny_phantom, tmp_path / "killed", "--resume", "True"), tmp_path / "killed")
    for rank in (0, 1, 1):
        process = killed.start()
        while process.poll() is None and b"Epoch[" not in killed.said():
            time.sleep(0.02)
        time.sleep(killed.random.uniform(0, 0.5))
        os.kill(sorted(children(process.pid))[rank], signal.SIGKILL)
        assert process.wait(PATIENCE) != 0
    killed.run()
    compare_runs(tmp_path / "straight", tmp_path / "killed", "checkpoint_20.pt", "encoder.pt")


@pytest.mark.slow
def test_a_comparison_survives_kills(tiny_phantom, tmp_path):
    for name in ("straight", "killed"):
        (tmp_path / name).mkdir()
    plan = {"tasks": ["alzheimer"], "seeds": [3], "sizes": [20]}
    straight = Command(
        ["-m", "bundle", *write_plan(tiny_phantom, tmp_path / "straight", **plan)], tmp_path / "straight"
    )
    straight.run()
    killed = Command(["-m", "bundle", *write_plan(tiny_phantom, tmp_path / "killed", **plan)], tmp_path / "killed")
    killed.run_and_kill(5, 3.0)
    assert sum(killed.kills.values()) >= 3
    for name in ("results.csv", "tests.csv", "knowledge.csv"):
        tables = [(tmp_path / folder / "compare" / name).read_text() for folder in ("straight", "killed")]
        assert tables[0] == tables[1]


def in_a_copy(command):
    """What `Command(command, …).run()` does, without importing torch once more."""
    environment = {"OMP_NUM_THREADS": "1"}

    def run():
        os.environ.update(environment)
        torch.set_num_threads(1)
        assert main(list(map(str, command[2:]))) == 0

    forked(run)


@pytest.mark.long
def test_a_signal_saves_and_the_rest_is_the_same(tiny_phantom, tmp_path):
    in_a_copy(pretraining(tiny_phantom, tmp_path / "straight", 8))
    stopped = Command(pretraining(tiny_phantom, tmp_path / "stopped", 8, "--resume"), tmp_path / "stopped")
    process = stopped.start()
    while b"Epoch[1]" not in stopped.said():
        time.sleep(0.02)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert b"Go on with --resume" in stopped.said()
    assert b"Traceback" not in stopped.said()
    in_a_copy(stopped.command)
    compare_runs(tmp_path / "straight", tmp_path / "stopped", "checkpoint_8.pt", "encoder.pt")


def on_a_full_disk(options, log):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing more fails as it does on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
    with contextlib.redirect_stderr(io.StringIO()) as said:
        status = main(list(map(str, options)))
    log.write_text(said.getvalue())
    assert status == 1


@pytest.mark.long
def test_a_full_disk_ends_a_run_with_a_sentence_and_loses_nothing(tiny_phantom, tmp_path):
    rate = ["--lr_scheduler", "{_target_: torch.optim.lr_scheduler.ConstantLR, optimizer: '@optimizer'}"]
    in_a_copy(pretraining(tiny_phantom, tmp_path / "run", 2, *rate))
    before = {p: p.read_bytes() for p in (tmp_path / "run").glob("*.pt")}
    options = pretraining(tiny_phantom, tmp_path / "run", 4, "--resume", *rate)[2:]
    forked(on_a_full_disk, options, tmp_path / "said")
    said = (tmp_path / "said").read_text()
    assert "error: " in said
    assert "the disk is full; free some space" in said.rpartition("error: ")[2]
    assert {p: p.read_bytes() for p in (tmp_path / "run").glob("*.pt")} == before
    assert json.loads((tmp_path / "run" / "encoder.json").read_text())["epoch"] in (1, 2)
