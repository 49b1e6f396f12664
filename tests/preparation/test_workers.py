"""A process that ends takes its own task with it, and the others go on."""

import os
import signal
import time

import pytest

from bundle.preparation.workers import THREADS, each_in_a_process


def work(task):
    if task == "exit":
        os._exit(3)
    if task == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid(), {os.environ[name] for name in THREADS}


def sleep(seconds):
    time.sleep(seconds)


def test_the_others_go_on_and_the_cause_is_said():
    before = {name: os.environ.get(name) for name in THREADS}
    tasks = ["first", "second", "exit", "third", "kill", "fourth"]
    done = {task: (result, cause) for task, result, cause in each_in_a_process(work, tasks, threads=3)}
    assert list(done) == tasks
    assert "exit status 3" in done["exit"][1]
    assert "memory was full; give fewer --workers" in done["kill"][1]
    pids = [done[name][0][0] for name in ("first", "second", "third", "fourth")]
    assert pids[0] == pids[1], "a process does one task after the other"
    assert len({*pids, os.getpid()}) == 4
    assert all(done[name][0][1] == {"3"} for name in ("first", "fourth"))
    assert {name: os.environ.get(name) for name in THREADS} == before


def test_what_is_given_up_ends_its_processes():
    running = each_in_a_process(sleep, [0, 60, 60], workers=2)
    started = time.monotonic()
    next(running)
    with pytest.raises(KeyboardInterrupt):
        running.throw(KeyboardInterrupt())
    assert time.monotonic() - started < 20
