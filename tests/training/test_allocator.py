"""Freed memory is kept; in processes of their own, because it stays so."""

import ctypes
import subprocess
import sys

import pytest

from bundle.training.allocator import keep_freed_memory
from tests.conftest import ROOT

FAULTS = """
import resource, runpy, sys
import torch
if "keep" in sys.argv:
    assert runpy.run_path("bundle/training/allocator.py")["keep_freed_memory"]()  # its package would import more
faults = []
for _ in range(4):
    steps = [torch.ones(48 * 2**18) for _ in range(6)]  # 48 MiB each
    del steps
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
sys.stdout.write(str(faults[-1] - faults[1]))
"""


def glibc():
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")


def faults(*arguments):
    """Pages that the system hands out for tensors as large as those of the steps before."""
    command = [sys.executable, "-W", "ignore", "-c", FAULTS, *arguments]
    return int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


@pytest.mark.long
@pytest.mark.skipif(not glibc(), reason="the system's malloc is not glibc's")
def test_memory_of_the_steps_before_is_used_again():
    assert faults("keep") < 0.5 * faults()  # one tensor may lie elsewhere


def test_another_malloc_is_said_and_left_alone(monkeypatch, caplog):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not keep_freed_memory()
    assert "memory is not kept" in caplog.text
