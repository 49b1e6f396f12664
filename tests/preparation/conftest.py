"""Scans as `prepare` leaves them behind, made once."""

import logging
from functools import partial

import pytest

from bundle.preparation import Refusal, run
from tests.preparation import fake

KINDS = {  # the one that crashes comes last: a process more takes seconds to start
    "good": fake.GOOD, "doubtful": fake.DOUBTFUL, "bad": fake.BAD, "stopped": fake.STOPPED, "raises": fake.RAISES,
    "refuses": fake.REFUSES, "crashes": fake.CRASHES,
}  # fmt: skip
HOSTILE = "<script>alert(1)</script>"


def heads_of(folder, kinds=KINDS):
    """A scan of each kind; two are of participants."""
    ids = {"good": "sub-1", "doubtful": "sub-2"}
    remarks = ("It is the only T1w scan.", HOSTILE)
    return [
        fake.head(folder, name, kind, participant_id=ids.get(name, ""), remarks=remarks) for name, kind in kinds.items()
    ]


@pytest.fixture(scope="session")
def prepared(made_once):
    """`in/` with scans and `out/` with what became of them, in real processes, of which one crashed."""

    def make(folder):
        refusals = [Refusal("noise", folder, f"It is no T1w scan {HOSTILE}.")]
        report = run.prepare_scans(heads_of(folder / "in"), refusals, folder / "out", fake.prepare)
        (folder / "status.txt").write_text(f"{report.exit_status} {report.kept} {len(report.records)}")

    return made_once("prepared", make)


def in_this_process(work, tasks, workers=1, threads=1):
    """What `each_in_a_process` does, without processes: starting one takes seconds."""
    for task in tasks:
        yield task, work(task), ""


@pytest.fixture
def prepare(monkeypatch):
    """`prepare(heads, output=…)` in this process, with the pipeline that takes no time."""
    logging.getLogger("bundle").setLevel(logging.INFO)
    monkeypatch.setattr(run, "each_in_a_process", in_this_process)
    return partial(run.prepare_scans, refusals=[], backend=fake.prepare)
