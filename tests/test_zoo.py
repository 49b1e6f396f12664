"""What the Model Zoo asks for, and MONAI's own software on the bundle, from a folder that is not its own."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigWorkflow

from bundle.cli.main import main
from bundle.publishing.package import LARGEST, NAME, PARTS
from tests.conftest import ROOT, run_monai

SCHEMA = "tests/reference/meta_schema_20240725.json"
META = ["--meta_file", "configs/metadata.json"]
INFERENCE = ["--config_file", "configs/inference.json"]


def copy_bundle(folder, *left_out):
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", *left_out))
        else:
            shutil.copy(ROOT / part, folder)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The bundle under its name in another folder, as an installation has it."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / NAME).mkdir()
    copy_bundle(folder / NAME, "phantom_*")
    return folder


def test_the_metadata_fit_the_schema():
    run_monai("verify_metadata", *META, "--filepath", SCHEMA)


def test_metadata_that_do_not_fit_the_schema_are_noticed(tmp_path):
    metadata = json.loads((ROOT / "configs/metadata.json").read_text())
    (tmp_path / "metadata.json").write_text(json.dumps({**metadata, "version": 1}))
    with pytest.raises(ValueError, match="1 is not of type 'string'"):
        run_monai("verify_metadata", "--meta_file", tmp_path / "metadata.json", "--filepath", SCHEMA)


def test_the_metadata_are_true_of_the_shipped_classifier():
    metadata = json.loads((ROOT / "configs/metadata.json").read_text())
    card = json.loads((ROOT / "models/model.json").read_text())
    data = metadata["network_data_format"]
    assert data["inputs"]["image"]["spatial_shape"] == card["contract"]["grid"]["shape"]
    assert list(data["outputs"]["pred"]["channel_def"].values()) == card["class_names"]
    assert metadata["eval_metrics"]["validation_roc_auc"] == pytest.approx(card["validation"]["val_auc"], abs=1e-3)
    assert next(iter(card)) == "warning"
    assert "phantom" in card["warning"]
    inference = json.loads((ROOT / "configs/inference.json").read_text())
    assert {"shape": inference["grid_shape"], "affine": inference["grid_affine"]} == card["contract"]["grid"]


def test_version_and_changelog_are_in_step():
    metadata = json.loads((ROOT / "configs/metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
    assert f"## {metadata['version']}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {metadata['version']}" in (ROOT / "CITATION.cff").read_text()
    required = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    versions = {
        name: metadata[f"{key}_version"] for name, key in (("monai", "monai"), ("torch", "pytorch"), ("numpy", "numpy"))
    }
    assert all(required[name] == version for name, version in versions.items())
    assert all(required[name] == version for name, version in metadata["required_packages_version"].items())


def test_the_zoos_keys_are_there():
    """The keys that its contribution guide names, and no path of a person."""
    inference = json.loads((ROOT / "configs/inference.json").read_text())
    assert {"bundle_root", "device", "network_def", "inferer", "output_dir"} <= set(inference)
    train = json.loads((ROOT / "configs/train.json").read_text())
    assert {"bundle_root", "device", "dataset_dir", "output_dir", "val_interval"} <= set(train)
    shared = {"dataset", "handlers", "preprocessing", "postprocessing", "inferer", "key_metric"}
    assert {*shared, "trainer"} <= set(train["train"])
    assert {*shared, "evaluator"} <= set(train["validate"])
    assert "max_epochs" in train["train"]["trainer"]
    assert all("data" in train[part]["dataset"] for part in ("train", "validate"))
    (validation,) = [h for h in train["train"]["handlers"] if h["_target_"] == "ValidationHandler"]
    assert validation["interval"] == "@val_interval"
    texts = [path.read_text() for path in (ROOT / "configs").glob("*.*")]
    assert not [text for text in texts if "/home/" in text or "/Users/" in text]
    assert "_v" not in NAME
    version = json.loads((ROOT / "configs/metadata.json").read_text())["version"]
    assert all(len(part) == 1 for part in version.split(".")), "the zoo compares versions as text"


def test_every_shipped_file_is_small_enough():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    assert all((ROOT / name).stat().st_size <= LARGEST for name in listed)


@pytest.mark.long
def test_monai_verifies_the_networks_data():
    run_monai("verify_net_in_out", "network_def", *META, *INFERENCE)


@pytest.mark.long
def test_monai_exports_torchscript_with_the_metadata_inside(tmp_path):
    weights = ["--ckpt_file", "models/model.pt"]
    run_monai("ckpt_export", "network_def", "--filepath", tmp_path / "model.ts", *weights, *META, *INFERENCE)
    extra = {"metadata.json": ""}
    network = torch.jit.load(tmp_path / "model.ts", _extra_files=extra)
    assert json.loads(extra["metadata.json"])["name"] == "Brain MRI y-Aware classification"
    assert network(torch.zeros(1, 1, 40, 48, 40)).shape == (1, 2)


@pytest.mark.long
def test_monai_exports_onnx(tmp_path):
    pytest.importorskip("onnxscript")
    weights = ["--ckpt_file", "models/model.pt"]
    run_monai("onnx_export", "network_def", "--filepath", tmp_path / "model.onnx", *weights, *META, *INFERENCE)
    assert (tmp_path / "model.onnx").stat().st_size > 10_000


LOAD = """
import json, sys, torch
from monai.bundle import create_workflow, load
network = load("{name}", bundle_dir=sys.argv[1]).eval()
weights = torch.load(sys.argv[1] + "/{name}/models/model.pt", weights_only=True)
same = all(torch.equal(t.float().cpu(), weights[n].float()) for n, t in network.state_dict().items())
print("LOADED", len(weights) == len(network.state_dict()), same, tuple(network(torch.zeros(1, 1, 40, 48, 40)).shape))
"""


@pytest.mark.long
def test_load_gives_the_network_from_any_folder(elsewhere, tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", LOAD.format(name=NAME), str(elsewhere)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "LOADED True True (1, 2)" in done.stdout, done.stderr[-2000:]


@pytest.mark.long
def test_create_workflow_gives_datasets_and_networks(tiny_phantom, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    places = {"dataset_dir": str(tiny_phantom), "output_dir": str(tmp_path), "model": str(tmp_path / "model.pt")}
    train = ConfigWorkflow("configs/train.json", workflow_type="train", task="alzheimer", weights="scratch", **places)
    train.initialize()
    assert len(train.train_dataset) > 10
    assert train.network_def(torch.zeros(2, 1, 40, 48, 40)).shape == (2, 2)
    assert train.check_properties() == []


@pytest.mark.long
def test_inference_properties_hold_for_the_shipped_classifier(tiny_phantom, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    places = {"dataset_dir": str(tiny_phantom / "alzheimer"), "output_dir": str(tmp_path)}
    infer = ConfigWorkflow("configs/inference.json", workflow_type="infer", **places)
    infer.initialize()
    assert infer.check_properties() == []


@pytest.mark.long
def test_the_shipped_classifier_predicts(tiny_phantom, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    scan = next((tiny_phantom / "alzheimer").glob("*.nii.gz"))
    assert main(["predict", str(scan), "--output", str(tmp_path), "--num_workers", "0", "--explain", "gradcam++"]) == 0
    page = next((tmp_path / "scans").iterdir()).read_text()
    assert "The model is a demonstration" in page


@pytest.mark.long
def test_the_package_runs_elsewhere(tiny_phantom, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["package", "--output", str(tmp_path)]) == 0
    archive = next(tmp_path.glob(f"{NAME}_v*.zip"))
    with zipfile.ZipFile(archive) as content:
        names = content.namelist()
        content.extractall(tmp_path / "unpacked")
    assert {
        f"{NAME}/{n}"
        for n in ("LICENSE", "configs/metadata.json", "configs/inference.json", "docs/README.md", "models/model.pt")
    } <= set(names)
    assert not [n for n in names if "__pycache__" in n or "tests/" in n]
    scans = tiny_phantom / "alzheimer"
    one = next(scans.glob("*.nii.gz"))
    options = ["--dataset_dir", one, "--output_dir", tmp_path / "out", "--explain", "none", "--report", "False"]
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", *INFERENCE, *map(str, options)]
    done = subprocess.run(command, cwd=tmp_path / "unpacked" / NAME, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "predicted" in (tmp_path / "out" / "predictions.csv").read_text()


def test_a_package_without_weights_is_refused(tmp_path, monkeypatch, capsys):
    copy_bundle(tmp_path, "*.pt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bundle.cli.model_commands.HOME", tmp_path)
    assert main(["package"]) == 1
    assert "make weights" in capsys.readouterr().err
    assert not Path("dist").exists()
