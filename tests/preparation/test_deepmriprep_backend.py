"""What is asked of deepmriprep and what becomes of its answer, with an invented module: its weights are not at hand."""

import importlib.util
import re
import sys
import types
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bundle.preparation import backends
from bundle.preparation import deepmriprep_backend as backend
from bundle.scans.grid import NEWER, REFERENCE

T1 = nib.Nifti1Image(np.random.default_rng(0).random((6, 7, 8)).astype(np.float32), np.diag([2, 2, 2, 1.0]))


def ramp(grid):
    return np.arange(np.prod(grid.shape), dtype=np.float32).reshape(grid.shape)


class Invented:
    """Answers as deepmriprep 0.3.0 does by its code."""

    calls: list = []  # noqa: RUF012
    lacks: tuple = ()

    def __init__(self, no_gpu=False):
        self.calls.append({"no_gpu": no_gpu})

    def run(self, input_path, output_paths=None, run_all=True, seed=0, skip_unprocessed=True):
        read = nib.load(input_path)
        self.calls.append(
            {"outputs": list(output_paths), "run_all": run_all, "skip": skip_unprocessed, "same": read.get_fdata()}
        )
        white = np.zeros(T1.shape, np.float32)
        white[:3] = 1
        native = {"brain": T1.get_fdata() + white * 100, "mask": white, "p1": 1 - white, "p2": white}
        warped = {"mwp1": ramp(NEWER), "wp1": ramp(NEWER) / 2}
        numbers = {"tiv": 1500.0, "gmv": 600.0, "wmv": 500.0, "csfv": 400.0, "affine_loss": 0.02, "warp_mse": 0.01}
        outputs = {name: nib.Nifti1Image(np.asarray(v, np.float32), T1.affine) for name, v in native.items()}
        outputs |= {name: nib.Nifti1Image(v, NEWER.matrix) for name, v in warped.items()}
        outputs |= {name: pd.Series([v], index=[f"{name}_cm3"]) for name, v in numbers.items()}
        return {name: output for name, output in outputs.items() if name not in self.lacks}


@pytest.fixture
def invented(tmp_path, monkeypatch):
    """An installed deepmriprep with its 23 weight files."""
    template = nib.Nifti1Image(np.stack([ramp(NEWER)] * 3, -1), NEWER.matrix)
    module = types.ModuleType("deepmriprep")
    module.Preprocess, module.preprocess = Invented, types.SimpleNamespace(WARP_TEMPLATE=template)
    monkeypatch.setitem(sys.modules, "deepmriprep", module)
    monkeypatch.setattr(backend, "is_there", lambda name: True)
    monkeypatch.setattr(backend, "weights_folder", lambda: tmp_path)
    monkeypatch.setattr(Invented, "calls", [])
    for name in backend.WEIGHTS:
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_the_names_of_the_weights_are_those_of_the_package():
    spec = importlib.util.find_spec("deepmriprep")  # it cannot be imported without torchreg
    if spec is None:
        pytest.skip("needs deepmriprep")
    text = (Path(next(iter(spec.submodule_search_locations))) / "utils.py").read_text()
    listed = text[text.index("MODEL_FILES = ") :].split("\n\n")[0]
    patches = {f"segmentation_patch_{i}_model.pt" for i in range(18)}
    assert "f'segmentation_patch_{i}_model.pt' for i in range(18)" in listed
    assert set(backend.WEIGHTS) == patches | set(re.findall(r"'(\w+\.pt)'", listed))
    assert len(backend.WEIGHTS) == 23


def test_without_a_brain_the_scan_fails(invented, monkeypatch):
    run = Invented.run
    monkeypatch.setattr(Invented, "run", lambda self, *a, **more: {**run(self, *a, **more), "tiv": pd.Series([0.0])})
    outcome = backend.prepare_with_deepmriprep(T1)
    assert (outcome.status, outcome.map) == ("fail", None)
    assert "found no brain" in outcome.reasons[0]


def test_a_scan_goes_in_and_an_outcome_comes_out(invented, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    outcome = backend.prepare_with_deepmriprep(T1)
    made, run = Invented.calls
    assert made == {"no_gpu": True}
    assert (run["outputs"], run["run_all"], run["skip"]) == (["mwp1"], False, False)
    np.testing.assert_allclose(run["same"], T1.get_fdata())
    assert outcome.map.shape == REFERENCE.shape
    np.testing.assert_array_equal(outcome.map[4:117, 4:141, :113], ramp(NEWER))
    assert outcome.map.sum(dtype=np.float64) == ramp(NEWER).sum(dtype=np.float64)
    assert outcome.volumes == {"tiv": 1500.0, "gm": 600.0, "wm": 500.0, "csf": 400.0}
    assert outcome.measures["gm_share"] == pytest.approx(0.4)
    assert outcome.measures["brain_volume"] == pytest.approx(3 * 7 * 8 * 8 / 1000)
    assert outcome.status == "fail"  # the invented brain is a small one
    assert "volume inside the skull" in " ".join(outcome.reasons)
    assert "look at the page" in outcome.reasons[-1]
    assert outcome.pipeline["name"] == "deepmriprep"
    layers = outcome.layers
    assert np.median(layers.brain[layers.wm > 0.9]) == pytest.approx(1)
    assert layers.mask.dtype == bool
    assert layers.warped_gm.shape == layers.template_gm.shape == REFERENCE.shape
    assert sorted(tmp_path.iterdir()) == before  # nothing is written into the working folder


def test_missing_weights_are_said_before_anything_is_constructed(invented):
    (invented / "warp_model.pt").unlink()
    (invented / "segmentation_patch_3_model.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="2 are missing, the first is segmentation_patch_3_model") as error:
        backend.prepare_with_deepmriprep(T1)
    assert "not downloaded unasked" in str(error.value)
    assert Invented.calls == []


def test_missing_libraries_are_named(monkeypatch):
    monkeypatch.setattr(backend, "is_there", lambda name: name not in ("torchreg", "spline_resize"))
    with pytest.raises(ValueError, match=r"needs torchreg, spline-resize.*pip install torchreg spline-resize"):
        backend.require_weights()


def test_a_failure_is_a_reason(invented, monkeypatch):
    monkeypatch.setattr(Invented, "lacks", ("mwp1",))
    outcome = backend.prepare_with_deepmriprep(T1)
    assert (outcome.status, outcome.map) == ("fail", None)
    assert "gave no mwp1" in outcome.reasons[0]
    monkeypatch.setattr(Invented, "run", lambda *args, **more: 1 / 0)
    assert "deepmriprep failed (ZeroDivisionError" in backend.prepare_with_deepmriprep(T1).reasons[0]
    monkeypatch.setattr(Invented, "run", lambda *args, **more: None)
    assert backend.prepare_with_deepmriprep(T1).status == "fail"


def test_a_result_within_the_limits_is_a_warning_at_best(invented, monkeypatch):
    monkeypatch.setattr(backend, "grade", lambda measures: ("ok", ()))
    assert backend.prepare_with_deepmriprep(T1).status == "warn"


def test_it_is_a_backend_by_its_name(invented):
    assert backends.backend_of("deepmriprep", 1) is backend.prepare_with_deepmriprep
    assert backends.pipeline_of("deepmriprep")["name"] == "deepmriprep"
    (invented / "warp_model.pt").unlink()
    with pytest.raises(ValueError, match="needs 23 weight files"):
        backends.pipeline_of("deepmriprep")
