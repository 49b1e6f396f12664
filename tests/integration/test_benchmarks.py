"""What the benchmarks of frozen encoders ask of a submission: their files, and their software where it is installed."""

import csv
import inspect
import json
import os
import shutil
import subprocess
import sys
import types
from importlib.util import find_spec, module_from_spec, spec_from_file_location

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from bundle.networks import load_encoder
from bundle.scans.grid import Grid, to_grid
from tests.conftest import ROOT

BENCHMARKS = ROOT / "benchmarks"
SUBMISSION = BENCHMARKS / "brainfmbench"
WEIGHTS = ROOT / "models/pretrained.pt"


def loaded(path):
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def submission():
    return loaded(SUBMISSION / "extract.py")


@pytest.fixture(scope="module")
def finer(tmp_path_factory):
    """Made-up maps of 1.5 mm, one per subject, where CAT12 leaves them."""
    folder = tmp_path_factory.mktemp("cat12")
    affine = np.array([[-1.5, 0, 0, 90], [0, 1.5, 0, -126], [0, 0, 1.5, -72], [0, 0, 0, 1]])
    for number in range(2):
        place = folder / f"sub-{number}" / "mri"
        place.mkdir(parents=True)
        volume = np.random.default_rng(number).random((121, 145, 121)).astype(np.float32)
        nib.save(nib.Nifti1Image(volume, affine), place / f"mwp1sub-{number}_T1w.nii")
    return folder


def weights_folder(folder):
    (folder / "weights").mkdir()
    shutil.copy(WEIGHTS, folder / "weights")
    return folder / "weights"


def test_brainfmbenchs_files_say_what_its_check_asks_for(submission):
    stated = yaml.safe_load((SUBMISSION / "model.yaml").read_text())
    assert {"name", "authors", "preprocessing", "embedding_dim", "datasets", "tasks"} <= set(stated)
    assert stated["preprocessing"] == "cat12"
    assert stated["embedding_dim"] == submission.EMBEDDING
    assert list(inspect.signature(submission.extract).parameters) == ["input_dir", "output_csv", "weights_dir"]
    urls = [line for line in (SUBMISSION / "weights.txt").read_text().splitlines() if not line.startswith("#")]
    assert urls == [], "no weights trained on people are published, so that none can be named"


def test_brainfmbenchs_check_passes_on_its_made_up_volumes(submission, tmp_path):
    """Its check gives random volumes of 16³ voxels and no weights, and wants numbers of the stated width."""
    for name in ("SUB01", "SUB02"):
        (tmp_path / "in" / name).mkdir(parents=True)
        volume = np.random.default_rng(0).random((16, 16, 16)).astype(np.float32) * 100
        nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "in" / name / "normalized.nii.gz")
    (tmp_path / "weights").mkdir()
    submission.extract(str(tmp_path / "in"), str(tmp_path / "out.csv"), str(tmp_path / "weights"))
    rows = list(csv.reader((tmp_path / "out.csv").open()))
    assert rows[0][:2] == ["subject_id", "f0"]
    assert [row[0] for row in rows[1:]] == ["SUB01", "SUB02"]
    assert {len([float(value) for value in row[1:]]) for row in rows[1:]} == {1024}


def test_brainfmbenchs_features_are_those_of_the_bundle(submission, finer, tmp_path):
    """From the command line, on maps of CAT12's grid, compared with the bundle's own reading and encoder."""
    done = [SUBMISSION / "extract.py", finer, tmp_path / "out" / "NKI.csv", weights_folder(tmp_path)]
    subprocess.run([sys.executable, "-W", "ignore", *map(str, done)], cwd=tmp_path, check=True)
    rows = list(csv.reader((tmp_path / "out" / "NKI.csv").open()))
    grid = Grid.of(submission.GRID_SHAPE, submission.GRID_AFFINE)
    encoder = load_encoder(WEIGHTS).encoder.eval()
    for row in rows[1:]:
        image = nib.load(finer / row[0] / "mri" / f"mwp1{row[0]}_T1w.nii")
        volume = torch.as_tensor(to_grid(np.asarray(image.dataobj), image.affine, grid))
        with torch.no_grad():
            expected = encoder(((volume - volume.mean()) / volume.std())[None, None])[0]
        assert np.array(row[1:], float) == pytest.approx(expected.numpy(), abs=2e-4)


@pytest.mark.parametrize("case", ["no weights", "other weights", "no map", "two maps", "T1w"])
def test_brainfmbenchs_script_refuses_what_would_give_wrong_features(case, submission, finer, tmp_path):
    (tmp_path / "in" / "sub-0").mkdir(parents=True)
    place = tmp_path / "in" / "sub-0" / "mwp1sub-0.nii"
    shutil.copy(finer / "sub-0/mri/mwp1sub-0_T1w.nii", place)
    folder = weights_folder(tmp_path)
    if case == "no weights":
        (folder / "pretrained.pt").unlink()
    elif case == "other weights":
        torch.save({"features.conv0.weight": torch.zeros(64, 1, 7, 7, 7)}, folder / "pretrained.pt")
    elif case == "no map":
        place.unlink()
    elif case == "two maps":
        shutil.copy(place, place.with_name("mwp1sub-1.nii"))
    else:
        nib.save(nib.Nifti1Image(np.full((121, 145, 121), 90, np.float32), nib.load(place).affine), place)
    words = {
        "no weights": "has 0 files .pt", "other weights": "has 1 of the", "no map": "has none of",
        "two maps": "has 2 files", "T1w": "another kind of image",
    }  # fmt: skip
    with pytest.raises(ValueError, match=words[case]):
        submission.extract(tmp_path / "in", tmp_path / "out.csv", folder)
    assert not (tmp_path / "out.csv").exists()


@pytest.fixture
def smri(monkeypatch):
    """A stand-in with the names of Brainmarks-sMRI's contract, which no package index has."""
    base = types.ModuleType("brainmarks_smri.models.base")
    base.EmbeddingOutput, base.ImageInput, base.register_model = dict, dict, lambda function: function
    for name in ("brainmarks_smri", "brainmarks_smri.models"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, base.__name__, base)
    return loaded(BENCHMARKS / "brainmarks_smri/yaware.py")


def test_the_smri_model_keeps_the_contract(smri, finer, tmp_path):
    model = smri.yaware(maps=str(finer), weights=str(WEIGHTS))
    scan = nib.Nifti1Image(np.zeros((8, 8, 8), np.float32), np.eye(4))
    nib.save(scan, tmp_path / "sub-1_T1w.nii.gz")
    sample = model.transform({"image": nib.load(tmp_path / "sub-1_T1w.nii.gz"), "brain_mask": None})
    (output,) = model.forward_embeddings([sample])
    assert (model.name, model.embed_dim, output["global_embedding"].shape) == ("yaware", 1024, (1024,))
    assert output["global_embedding"].dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(ValueError, match="no dense embedding"):
        model.forward_embeddings([sample], return_dense=True)
    nib.save(scan, tmp_path / "sub-9_T1w.nii.gz")
    with pytest.raises(ValueError, match="'sub-9_T1w' has no map"):
        model.transform({"image": nib.load(tmp_path / "sub-9_T1w.nii.gz")})


@pytest.mark.slow
def test_brainmarks_own_probe_runs_on_maps(tiny_phantom, tmp_path):
    """Its logistic probe finds model and dataset by its plugin mechanism, and tells patients of the phantom."""
    for name in ("brainmarks", "datasets", "omegaconf", "cloudpathlib", "fsspec"):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install brainmarks==0.1.1, and see docs/howto/benchmarks.md")
    content = json.loads((tiny_phantom / "alzheimer.json").read_text())
    for section in ("training", "validation", "test"):
        for record in content[section]:
            record["image"] = str(tiny_phantom / record["image"])
    content["validation"] = content["validation"] or content["training"][-8:]
    content["training"] = [r for r in content["training"] if r not in content["validation"]]
    (tmp_path / "maps.json").write_text(json.dumps(content))
    command = [sys.executable, "-W", "ignore", "-m", "brainmarks.main_logistic", "yaware", "cls", "grey_matter"]
    options = [
        f"dataset_kwargs.datalist={tmp_path / 'maps.json'}",
        f"output_root={tmp_path}",
        "device=cpu",
        "amp=false",
    ]
    options += ["num_workers=1", "batch_size=8", "n_trials=0", "cv_folds=2", "Cs=3"]
    paths = os.pathsep.join([str(ROOT), str(BENCHMARKS / "brainmarks/src")])
    home = {"HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    done = subprocess.run(
        [*command, "--overrides", *options],
        cwd=tmp_path,
        env={**os.environ, **home},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    (table,) = tmp_path.rglob("eval_table.csv")
    rows = list(csv.DictReader(table.open()))
    assert {row["model"] for row in rows} == {"yaware"}
    assert {row["split"] for row in rows} == {"train", "test"}
    assert all(0 <= float(row["bacc"]) <= 1 for row in rows)
