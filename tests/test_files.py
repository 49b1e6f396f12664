import os
import subprocess
import sys

import pytest

from bundle.files import replacing, write_text
from tests.conftest import ROOT


def fail_half_way(path):
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("the writer's own")


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "new" / "table.csv"
    with pytest.raises(RuntimeError, match="the writer's own"):
        fail_half_way(path)
    assert not path.exists()
    assert not list(path.parent.iterdir())
    write_text(path, "whole")
    assert path.read_text() == "whole"


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np, torch
from bundle.networks.weights import save_weights
from bundle.files import write_text
folder = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing more fails as it does on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for name, write in {
    "table.csv": lambda path: write_text(path, "x" * 200_000),
    "model.pt": lambda path: save_weights(path, torch.nn.Linear(300, 300), {}),
}.items():
    (folder / name).write_text("before")
    try:
        write(folder / name)
    except OSError as error:
        sys.stdout.write(f"{error}\\n")
"""


def test_a_full_disk_is_said_and_what_was_there_stays(tmp_path):
    run = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == 2
    for line, name in zip(lines, ("table.csv", "model.pt"), strict=True):
        assert f"{name} cannot be written: the disk is full; free some space" in line
        assert "what was there before is intact" in line
        assert (tmp_path / name).read_text() == "before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.pt", "table.csv"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write anywhere")
def test_a_closed_folder_is_said(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="its folder may not be written to; change its permissions"):
        write_text(tmp_path / "table.csv", "x")
    tmp_path.chmod(0o700)


def test_a_read_only_disk_is_said(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="nothing was there before") as error:
        write_text(tmp_path / "table.csv", "x")
    assert "its folder may not be written to" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "table.csv"):
        raise FileNotFoundError("elsewhere")
