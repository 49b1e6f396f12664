"""A classifier that was really trained, for a moment, on a tiny phantom."""

import pytest
import torch

from bundle.cli.main import main
from bundle.cohort.datalist import load_section
from bundle.cohort.overlap import fingerprints
from bundle.networks.encoders import DenseNetEncoder
from bundle.networks.weights import save_weights
from tests.conftest import ROOT

TASK, OVERLAY = "configs/task_alzheimer.yaml", "configs/phantom.yaml"
SMALL = ["--init_features", "8", "--growth_rate", "4", "--block_config", "[1, 1, 1, 1]"]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def run(command, phantom, folder, *more):
    """Train or evaluate a small classifier from the command line."""
    data = ["--dataset_dir", str(phantom), "--output_dir", str(folder), "--model", str(folder / "model.pt")]
    return main([command, "--config", TASK, OVERLAY, *data, *SMALL, *more])


def same(a, b):
    """Whether two states are equal, tensor by tensor, to the last bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


@pytest.fixture(scope="session")
def encoder(tiny_phantom, tmp_path_factory):
    """An encoder that was never trained, with a card that knows one participant."""
    path = tmp_path_factory.mktemp("encoder") / "encoder.pt"
    torch.manual_seed(0)
    known = load_section(tiny_phantom / "pretraining.json", "training")[:1]
    save_weights(path, DenseNetEncoder(1, 8, 4, (1, 1, 1, 1)), {"fingerprints": fingerprints(known)})
    return path


@pytest.fixture(scope="session")
def trained(tiny_phantom, encoder, tmp_path_factory):
    """A folder with model.pt, its card and its record."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert run("train", tiny_phantom, folder, "--weights", str(encoder), "--epochs", "2") == 0
    return folder
