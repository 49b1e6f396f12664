"""Time and memory of each step from a table to a datalist grow with the people, and not with their square.

    make bench

prints seconds and MiB for orientation; what is asserted are ratios of one run. tests/load.py measures.
"""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bundle.cohort.table import read_cohort
from bundle.scans.volumes import checked_volume, volume_fault
from tests.benchmarks.measure import FULL, seconds, table
from tests.conftest import ROOT
from tests.load import PEOPLE, measured

pytestmark = pytest.mark.bench
FOLD = 4  # as many people
MOST = FOLD * 2  # as much time: with the square it would be 16
MEMORY = 24  # times the size of the datalist, of each step


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured as Linux tells it")
def test_steps_grow_with_the_people(tmp_path, show):
    part, whole = measured("cohort", tmp_path)
    assert (whole["records"], whole["loaded"]) == (PEOPLE, 0.7 * PEOPLE)
    names = list(whole["steps"])
    few, many = ({name: found["steps"][name] for name in names} for found in (part, whole))
    rows = [(n, few[n][0], many[n][0], many[n][1], f"{many[n][1] / whole['datalist']:.1f}") for n in names]
    header = ["step", f"{PEOPLE // FOLD} people, s", f"{PEOPLE} people, s", "growth, MiB", "growth / datalist"]
    show(table("From a table to a datalist and its readers", header, rows))
    total = sum(many[n][0] for n in names)
    long = [n for n in names if many[n][0] > total / 10]
    assert {n: many[n][0] / few[n][0] for n in long if many[n][0] > MOST * few[n][0]} == {}
    assert {n: many[n][1] for n in names if many[n][1] > MEMORY * whole["datalist"]} == {}


def test_finding_images_grows_with_the_rows(tmp_path, monkeypatch, show):
    monkeypatch.setattr("bundle.cohort.table.volume_faults", lambda paths, *rest: [None] * len(paths))
    took = {}
    for n in (PEOPLE // FOLD, PEOPLE):
        names = [f"part{i % 3}/sub-{i}/mwp1sub-{i}_T1w.npy" for i in range(n)]
        ages = np.random.default_rng(0).normal(40, 5, n)
        columns = {"participant_id": range(n), "age": ages, "sex": "F", "site": "s"}
        pd.DataFrame(columns).to_csv(tmp_path / f"{n}.tsv", sep="\t", index=False)
        monkeypatch.setattr("bundle.cohort.patterns._listing", lambda pattern, root, names=names: names)

        def read(path=tmp_path / f"{n}.tsv"):
            return read_cohort(path, "**/*{participant_id}_T1w.npy", expected_shape=None)

        assert len(read()[0]) == n
        took[n] = seconds(read, repeats=3)
    show(table("Rows that find their images", ["rows", "s"], [(n, f"{t:.2f}") for n, t in took.items()]))
    assert took[PEOPLE] < MOST * took[PEOPLE // FOLD]


def test_a_packed_map_is_judged_faster_than_it_is_read(tmp_path, show):
    values = np.random.default_rng(0).integers(0, 255, FULL).astype(np.int16)
    values[:, :40] = 0  # as around a brain
    image = nib.Nifti1Image(values, np.eye(4))
    image.header.set_slope_inter(1 / 255, 0)
    nib.save(image, path := tmp_path / "a.nii.gz")
    assert volume_fault(path, FULL) is None
    judged, read = seconds(lambda: volume_fault(path, FULL)), seconds(lambda: checked_volume(path, FULL))
    rows = [("judged", f"{1000 * judged:.1f}"), ("read", f"{1000 * read:.1f}"), ("ratio", f"{read / judged:.2f}")]
    show(table("A packed map of 121x145x121", ["", "ms"], rows))
    assert judged < 0.9 * read


def test_a_cohort_begins_sooner_than_torch_is_imported(show):
    def started(code):
        return seconds(lambda: subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True), 3)

    ours, torch = started("import bundle.cohort.table"), started("import torch")
    show(table("Until a table is read", ["", "s"], [("cohort", f"{ours:.2f}"), ("import torch", f"{torch:.2f}")]))
    assert ours < 0.8 * torch
