"""What `publish` makes: a repository that the Hub's own library reads, the zoo's zip, and no number of its own."""

import json
import re
import runpy
import shutil
import sys
import zipfile

import numpy as np
import pytest
import torch
import yaml
from monai.networks.nets import DenseNet121

from bundle.cli.main import main
from bundle.networks import load_encoder, read_card
from bundle.networks.formats import read_state_dict, weights_digest
from bundle.networks.weights import save_weights
from bundle.publishing.package import NAME
from tests.conftest import ROOT, run_monai

GRID = {"shape": [40, 48, 40], "affine": np.diag([-4.5, 4.5, 4.5, 1.0]).tolist()}
PHANTOM = "This is a phantom: synthetic images."
CARD = {
    "kind": "classifier",
    "class_names": ["control", "Alzheimer's disease"],
    "validation": {"val_threshold": 0.75, "val_auc": 0.9479},
    "network": {"init_features": 8, "growth_rate": 4, "block_config": [1, 1, 1, 1]},
    "contract": {"grid": GRID},
    "intended_use": "research only; not a medical device",
    "datalist": "/home/jane/studies/alzheimer.json",
    "pretrained": {"path": "C:\\Users\\jane\\pretrained.pt", "sha256": "0" * 64},
    "made_by": {
        "command": "python -m bundle train --datalist /home/jane/alzheimer.json",
        "seed": 7,
        "commit": "abc1234",
    },
    "subjects": {"training": 192, "validation": 48},
    "config": {"epochs": 12, "size": None},
    "epoch": 5,
    "fingerprints": {"participants": ["aa"], "images": ["bb"]},
}


def saved(folder, name="model.pt", **more):
    torch.manual_seed(0)
    sizes = {"init_features": 8, "growth_rate": 4, "block_config": (1, 1, 1, 1)}
    folder.mkdir(exist_ok=True)
    save_weights(folder / name, DenseNet121(3, 1, 2, **sizes), {**CARD, "warning": PHANTOM, **more})
    np.savez(folder / f"{name.split('.')[0]}_record.npz", format=3)
    return folder / name


def metrics(model, **more):
    found = {"images": 170, "participants": 160, "patients": 80, "threshold": 0.75, "overlap_allowed": False}
    for name, value in {
        "auc": 0.8812,
        "balanced_accuracy": 0.7934,
        "sensitivity": 0.7625,
        "specificity": 0.825,
    }.items():
        found |= {name: value, f"{name}_interval": [value - 0.0611, value + 0.0522]}
    found |= {"weights_sha256": weights_digest(model), "datalist": {"file": "alzheimer.json"}, "warning": PHANTOM}
    path = model.parent / "metrics.json"
    path.write_text(json.dumps({**found, "made_by": {"commit": "def5678"}, **more}))
    return path


def publish(folder, model, *options):
    return main(["publish", str(folder), "--model", str(model), *map(str, options)])


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A phantom's model with metrics and an encoder."""
    folder = tmp_path_factory.mktemp("published")
    model = saved(folder / "in")
    shutil.copy(model, folder / "in" / "encoder.pt")
    shutil.copy(model.with_suffix(".json"), folder / "in" / "encoder.json")
    options = ["--metrics", metrics(model), "--encoder", folder / "in" / "encoder.pt", "--datasets", "someone/phantom"]
    assert publish(folder / "out", model, *options, "--repository", "someone/brain") == 0
    return folder / "out"


def front_of(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_the_folders_are_what_is_uploaded(published):
    hub = published / "huggingface"
    wanted = {
        "README.md",
        "config.json",
        "model.safetensors",
        "model_record.npz",
        "pretrained.safetensors",
        "example.py",
    }
    wanted |= {"LICENSE", "requirements.txt", "constraints.txt", "bundle", "configs", "models", "docs"}
    assert {path.name for path in hub.iterdir()} == wanted
    assert {"model.pt", "model.json", "model_record.npz"} <= {path.name for path in (hub / "models").iterdir()}
    assert not list(hub.rglob("__pycache__"))
    assert [path.name for path in published.parent.iterdir() if path.name.startswith(".part")] == []
    with zipfile.ZipFile(next((published / "model_zoo").glob("*.zip"))) as archive:
        assert {
            f"{NAME}/{name}" for name in ("LICENSE", "configs/metadata.json", "models/model.pt", "docs/README.md")
        } <= set(archive.namelist())
        assert not {f"{NAME}/README.md", f"{NAME}/model.safetensors"} & set(archive.namelist())


def test_the_library_of_the_hub_reads_the_readme(published):
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra hub: requirements-hub.txt")
    card = hub.ModelCard.load(published / "huggingface" / "README.md")
    assert (card.data.license, card.data.library_name, card.data.pipeline_tag) == (
        "apache-2.0",
        "monai",
        "image-classification",
    )
    assert {"monai", "medical", "phantom"} <= set(card.data.tags)
    assert card.data.datasets == ["someone/phantom"]
    found = {result.metric_type: result for result in card.data.eval_results}
    assert set(found) == {"roc_auc", "balanced_accuracy", "sensitivity", "specificity"}
    auc = found["roc_auc"]
    assert auc.metric_value == 0.8812
    assert auc.metric_args["confidence_interval"] == pytest.approx([0.8201, 0.9334])
    assert "160 participants (phantom)" in auc.dataset_name
    assert card.data.to_dict() == front_of((published / "huggingface" / "README.md").read_text())


def numbers(text):
    return {float(number) for number in re.findall(r"(?<![\w.@/#-])\d+(?:\.\d+)?(?:e-?\d+)?(?![\w./])", text)}


def test_every_number_of_the_readme_is_of_the_card_or_the_metrics(published):
    text = (published / "huggingface" / "README.md").read_text()
    known = json.dumps(read_card(published / "huggingface" / "model.safetensors"))
    known += (published.parent / "in" / "metrics.json").read_text()
    given = {float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", known)}
    given |= {round(number, 3) for number in given} | {abs(number) for number in given}
    words = {0.0, 1.0, 3.0, 95.0, 0.95, 2021.0}  # labels, 3D, 95 % intervals, the year of the paper
    body = re.sub(r"https?://\S+|apache-2\.0|Apache-2\.0", "", text)
    assert numbers(body) <= given | words, sorted(numbers(body) - given - words)
    assert {0.881, 0.82, 0.933, 160.0, 80.0, 192.0} <= numbers(body)


def test_a_phantoms_readme_begins_with_the_warning(published):
    for name in ("README.md", "docs/README.md"):
        text = (published / "huggingface" / name).read_text()
        body = text.split("---\n", 2)[2] if text.startswith("---") else text
        assert body.lstrip().startswith(f"> **Warning: this model knows a phantom only.** {PHANTOM}")


def test_paths_of_a_machine_lose_their_folders(published):
    for path in [*published.rglob("*.json"), published / "huggingface" / "README.md"]:
        assert "jane" not in path.read_text(), path
    card = read_card(published / "huggingface" / "model.safetensors")
    assert card["datalist"] == "alzheimer.json"
    assert card["pretrained"]["path"] == "pretrained.pt"
    assert card["made_by"]["command"] == "python -m bundle train --datalist alzheimer.json"
    assert {**card, "sha256": 0} == {**read_card(published / "huggingface" / "models" / "model.pt"), "sha256": 0}


def test_the_weights_are_those_that_were_given(published):
    given = read_state_dict(published.parent / "in" / "model.pt")
    for name in ("model.safetensors", "models/model.pt", "pretrained.safetensors", "models/pretrained.pt"):
        found = read_state_dict(published / "huggingface" / name)
        assert found.keys() == given.keys()
        assert all(found[n].equal(given[n]) for n in given), name
    assert (published / "huggingface" / "models" / "model.pt").read_bytes() == (
        published.parent / "in" / "model.pt"
    ).read_bytes()
    assert load_encoder(published).path == published / "huggingface" / "model.safetensors"


def test_the_zoos_configs_are_true_of_the_model(published):
    configs = published / "huggingface" / "configs"
    metadata, inference = (json.loads((configs / f"{n}.json").read_text()) for n in ("metadata", "inference"))
    assert {"shape": inference["grid_shape"], "affine": inference["grid_affine"]} == GRID
    assert inference["init_features"] == 8
    assert metadata["eval_metrics"]["test_roc_auc"] == 0.881
    assert metadata["eval_metrics"]["validation_roc_auc"] == 0.948
    width = load_encoder(published).encoder.embedding_size
    assert metadata["embedding_data_format"]["outputs"]["embedding"]["num_channels"] == width
    schema = ["--filepath", ROOT / "tests/reference/meta_schema_20240725.json"]
    run_monai("verify_metadata", "--meta_file", configs / "metadata.json", *schema)


@pytest.mark.long
def test_monai_loads_the_repository_as_hub_download_leaves_it(published, tmp_path):
    from monai.bundle import load

    shutil.copytree(published / "huggingface", tmp_path / NAME)
    given = read_state_dict(published.parent / "in" / "model.pt")
    network = load(NAME, bundle_dir=str(tmp_path), source="huggingface_hub", repo="someone/brain")
    assert all(tensor.cpu().equal(given[name]) for name, tensor in network.state_dict().items())


def test_the_example_runs(published, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["example.py"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    runpy.run_path(str(published / "huggingface" / "example.py"), run_name="__main__")
    width = load_encoder(published).encoder.embedding_size
    assert f"An embedding of {width} numbers" in capsys.readouterr().out


def test_a_model_of_people_is_published_only_as_its_people_allow(tmp_path, capsys):
    model = saved(tmp_path / "in", warning="")
    assert publish(tmp_path / "out", model, "--license", "cc-by-nc-4.0") == 1
    assert "May they be published? Say so with --participants" in capsys.readouterr().err
    assert publish(tmp_path / "out", model, "--participants", "leave-out") == 1
    assert "Under which licence" in capsys.readouterr().err
    options = ["--participants", "leave-out", "--license", "cc-by-nc-4.0", "--no-zip"]
    assert publish(tmp_path / "out", model, *options) == 0
    hub = tmp_path / "out" / "huggingface"
    assert not list(hub.rglob("*_record.npz"))
    assert "fingerprints" not in read_card(hub / "model.safetensors")
    text = (hub / "README.md").read_text()
    assert "has not been evaluated on a test section" in text
    assert "Warning" not in text
    assert front_of(text)["license"] == "cc-by-nc-4.0"
    assert "model-index" not in front_of(text)
    assert not (tmp_path / "out" / "model_zoo").exists()


def test_a_safetensors_model_is_published_too(tmp_path):
    model = saved(tmp_path / "in", "model.safetensors")
    assert publish(tmp_path / "out", model, "--metrics", metrics(model), "--no-zip") == 0
    hub = tmp_path / "out" / "huggingface"
    assert read_card(hub / "model.safetensors")["sha256"] == weights_digest(model)
    assert read_card(hub / "models" / "model.pt")["sha256"] == weights_digest(hub / "models" / "model.pt")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"weights_sha256": "0" * 64}, "was made with other weights"),
        ({"overlap_allowed": True}, "was made with --allow-overlap"),
        ({"threshold": 0.5}, "at another operating point"),
        ({"auc_interval": [0.9]}, "lacks what `evaluate` writes"),
        ({"auc_interval": None}, "lacks what `evaluate` writes"),
        ({"sensitivity": None}, "lacks what `evaluate` writes"),
        ({"specificity_interval": [0.2, 1.5]}, "lacks what `evaluate` writes"),
        ({"patients": 0}, "lacks what `evaluate` writes"),
    ],
)
def test_metrics_of_something_else_are_refused(changed, sentence, tmp_path, capsys):
    model = saved(tmp_path / "in")
    assert publish(tmp_path / "out", model, "--metrics", metrics(model, **changed)) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_metrics_that_do_not_say_of_what_they_are_are_refused(tmp_path, capsys):
    model = saved(tmp_path / "in")
    (tmp_path / "metrics.json").write_text('{"auc": 0.99, "auc_interval": [0.9, 1.0]}')
    assert publish(tmp_path / "out", model, "--metrics", tmp_path / "metrics.json") == 1
    assert "does not say of which weights and which people it is" in capsys.readouterr().err


def test_a_folder_that_holds_something_is_refused(tmp_path, capsys):
    model = saved(tmp_path / "in")
    assert publish(tmp_path, model) == 1
    assert "holds something already" in capsys.readouterr().err


def test_weights_without_a_card_are_refused(tmp_path, capsys):
    model = saved(tmp_path / "in")
    model.with_suffix(".json").unlink()
    assert publish(tmp_path / "out", model) == 1
    assert "needs the card of a classifier" in capsys.readouterr().err


def test_what_fails_on_the_way_leaves_nothing(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr("bundle.publishing.folder.package", fails)
    model = saved(tmp_path / "in")
    assert publish(tmp_path / "out", model) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
