"""What tests of load run in a process of its own, `python -m tests.load WHAT FOLDER …`; it answers in JSON.

Memory is what is resident of that process, in MiB, and always growth: beyond what it had after the same on less.
"""

import gc
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bundle import training

ROOT = Path(__file__).parents[1]
PEOPLE, SITES, SOURCES = 10_000, 40, 4
SCANS, FIRST_SCANS, BATCH = 1000, 200, 10
EPOCHS, FIRST_EPOCHS = 48, 8
SHAPE = (6, 7, 6)
COLUMNS = ["participant_id", "session_id", "age", "sex", "site", "tiv", "label"]


def status(name):
    """A line of /proc/self/status in MiB: VmRSS is what is resident now, VmHWM the most there was."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def handles():
    """How many files are open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def watched(function):
    """Seconds, growth of the peak of the resident memory in MiB, and what the function gives."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, started = status("VmRSS"), time.perf_counter()
    answer = function()
    return time.perf_counter() - started, status("VmHWM") - before, answer


def write_cohort(folder, people=PEOPLE):
    """A table, and an image for each row that takes no disk: a link to one of a few small files."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for number in range(SOURCES):
        np.save(folder / f"source{number}.npy", random.random(SHAPE).astype(np.float32))
    rows = []
    for i in range(people):
        age, tiv, site = random.uniform(18, 90), random.normal(1450, 120), random.integers(SITES)
        values = [f"sub-{i:05d}", "ses-1", f"{age:.1f}", "FM"[i % 2], f"site{site:02d}", f"{tiv:.0f}"]
        rows.append("\t".join([*values, str(random.integers(2))]))
        os.link(folder / f"source{i % SOURCES}.npy", folder / f"images/mwp1sub-{i:05d}_ses-1_T1w.npy")
    (folder / "participants.tsv").write_text("\n".join(["\t".join(COLUMNS), *rows]) + "\n")
    return folder


def cohort_steps(folder):
    """From a table to a datalist, and everything that reads one; `{step: [seconds, MiB]}`."""
    from bundle.cohort.audit import audit, write_findings
    from bundle.cohort.datalist import load_section, write_datalist
    from bundle.cohort.overlap import fingerprints
    from bundle.cohort.splits import assert_disjoint, split_by_participant
    from bundle.cohort.table import read_cohort

    answers, steps = {}, {}

    def step(name, function):
        seconds, growth, answers[name] = watched(function)
        steps[name] = [round(seconds, 2), round(growth, 1)]
        return answers[name]

    pattern, shares = "images/mwp1{participant_id}_{session_id}_T1w.npy", {"training": 0.7, "validation": 0.1}
    table, datalist = folder / "participants.tsv", folder / "datalist.json"
    records, problems = step("read_cohort", lambda: read_cohort(table, pattern, expected_shape=SHAPE))
    assert not problems
    sections = step("split", lambda: split_by_participant(records, {**shares, "test": 0.2}, seed=0))
    step("assert_disjoint", lambda: assert_disjoint(sections))
    step("write_datalist", lambda: write_datalist(datalist, sections, description="load"))
    loaded = step("load_section", lambda: load_section(datalist, "training", ["age", "sex", "site"]))
    step("fingerprints", lambda: fingerprints(records))
    step("check-cohort --skip-images", lambda: audit(datalist, [datalist], read_images=False))
    findings = step("check-cohort", lambda: audit(datalist))
    step("write_findings", lambda: write_findings(folder / "findings.tsv", findings))
    size = round(datalist.stat().st_size / 2**20, 2)
    return {"steps": steps, "records": len(records), "loaded": len(loaded), "datalist": size}


def cohort(folder):
    """The steps on a hundredth, which loads every library, then on a quarter and on all."""
    cohort_steps(write_cohort(folder / "few", PEOPLE // 100))
    return [cohort_steps(write_cohort(folder / f"{people}", people)) for people in (PEOPLE // 4, PEOPLE)]


class Watch:
    """Resident memory and open files, again and again."""

    def __init__(self):
        self.memory, self.files = [], []

    def look(self, *_):
        self.memory.append(status("VmRSS"))
        self.files.append(handles())

    def growth(self, first):
        """From the least after a warm-up, of as many looks as it took, to the least of the last ones.

        The least, because memory goes up and down between looks; what leaks never comes down.
        """
        return {
            "growth": round(min(self.memory[-first:]) - min(self.memory[first : 2 * first]), 1),
            "handles": max(self.files[-first:]) - max(self.files[first : 2 * first]),
            "resident": round(self.memory[-1]),
        }


def predictions(phantom, trained, folder):
    """A folder of a thousand scans, which takes the disk of ten."""
    from bundle.cli.main import main
    from bundle.prediction.table import PredictionTable

    sources = sorted((phantom / "alzheimer").glob("*.nii.gz"))[:10]
    (folder / "scans").mkdir()
    copies = [shutil.copy(path, folder / f"source{i}.nii.gz") for i, path in enumerate(sources)]
    for i in range(SCANS):
        os.link(copies[i % len(copies)], folder / "scans" / f"sub-{i:04d}_gm.nii.gz")
    watch, keep = Watch(), PredictionTable.keep
    PredictionTable.keep = lambda self, engine: (keep(self, engine), watch.look())[0]
    options = ["--model", str(trained / "model.pt"), "--explain", "none", "--report", "false", "--num_workers", "0"]
    started = time.perf_counter()
    size = ["--batch_size", str(BATCH), "--output", str(folder / "answers")]
    assert main(["predict", str(folder / "scans"), *options, *size]) == 0
    return {"seconds": round(time.perf_counter() - started, 1), **watch.growth(FIRST_SCANS // BATCH)}


def epochs(phantom, folder):
    """One run of pretraining; checkpoints, validation and TensorBoard are as always."""
    from ignite.engine import Events

    from bundle.cli.main import main

    watch, run = Watch(), training.run_remaining

    def watched_run(trainer):
        trainer.add_event_handler(Events.EPOCH_COMPLETED, watch.look)
        return run(trainer)

    training.run_remaining = watched_run  # where the configs look for it
    network = ["--init_features", "8", "--growth_rate", "4", "--block_config", "[1, 1, 1, 1]"]
    data = ["--dataset_dir", str(phantom), "--output_dir", str(folder), "--weights", str(folder / "best.pt")]
    size = ["--epochs", str(EPOCHS), "--batch_size", "16", "--cache_rate", "0"]
    started = time.perf_counter()
    assert main(["pretrain", "--config", "configs/phantom.yaml", *data, *size, *network]) == 0
    seconds = round(time.perf_counter() - started, 1)
    return {"epochs": len(watch.memory), "seconds": seconds, **watch.growth(FIRST_EPOCHS)}


def measured(what, *folders):
    """Run a function of this file in a process of its own; what it answers is also shown."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.load", what, *map(str, folders)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    sys.stdout.write(f"\n{what}: {done.stdout.splitlines()[-1]}\n")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    answer = globals()[sys.argv[1]](*map(Path, sys.argv[2:]))
    sys.stdout.write("\n" + json.dumps(answer))
