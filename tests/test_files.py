import os
import resource
import signal

import pytest
import torch

from bundle.files import flush_all, read_json, replacing, write_json, write_text
from bundle.networks.weights import save_weights
from tests.conftest import forked


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


def write_beyond_the_limit(folder):
    """In a process of its own, as the limit stays."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing more fails as it does on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    writers = {
        "table.csv": lambda path: write_text(path, "x" * 200_000),
        "model.pt": lambda path: save_weights(path, torch.nn.Linear(300, 300), {}),
    }
    for name, write in writers.items():
        (folder / name).write_text("before")
        with pytest.raises(OSError, match=f"{name} cannot be written: the disk is full; free some space") as error:
            write(folder / name)
        assert "what was there before is intact" in str(error.value)


def test_a_full_disk_is_said_and_what_was_there_stays(tmp_path):
    forked(write_beyond_the_limit, tmp_path)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"model.pt": "before", "table.csv": "before"}


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


def test_one_of_many_files_is_flushed_with_all(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "fsync", lambda _: asked.append("one"))
    monkeypatch.setattr(os, "sync", lambda: asked.append("all"))
    for name in ("a.csv", "b.csv"):
        with replacing(tmp_path / name, flush=False) as temporary:
            temporary.write_text(name)
    assert not asked
    flush_all()
    assert asked == ["all"]
    assert sorted(p.read_text() for p in tmp_path.iterdir()) == ["a.csv", "b.csv"]


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "table.csv"):
        raise FileNotFoundError("elsewhere")


def test_json_has_null_for_what_is_not_finite(tmp_path):
    nan, path = float("nan"), tmp_path / "a.json"
    write_json(path, {"mae": nan, "interval": [-float("inf"), (0.5, nan)], "per": {"site": nan}, "name": "NaN", "n": 3})
    assert read_json(path) == {
        "mae": None,
        "interval": [None, [0.5, None]],
        "per": {"site": None},
        "name": "NaN",
        "n": 3,
    }
    assert "NaN," not in path.read_text().replace('"NaN"', "")
