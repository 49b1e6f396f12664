"""What the demonstration shows: an invented head and a map; `make slow` runs the whole of it."""

import nibabel as nib
import pytest

from bundle.cli import demo_command
from bundle.cli.main import main
from bundle.scans.nifti import is_phantom


def test_the_head_and_the_map_say_that_they_are_a_phantoms(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_command, "VOXELS", 4.0)
    demo_command._make(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {demo_command.HEAD, demo_command.MAP}
    assert all(is_phantom(path) for path in tmp_path.iterdir())
    assert nib.load(tmp_path / demo_command.HEAD).header.get_zooms()[:3] == pytest.approx((4, 4, 4))


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "ants", None)
    assert main(["demo", "--output", str(tmp_path / "demo"), "--no-browser"]) == 1
    assert "needs ants, which is not installed" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
