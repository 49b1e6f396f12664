"""Weights in a folder, and at a pinned revision on a Hub that a local server plays."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bundle.cli.main import main
from bundle.hub import as_address, is_address, located
from bundle.networks import load_encoder, origin, read_card, save_weights
from bundle.networks.encoders import DenseNetEncoder
from tests.conftest import ROOT
from tests.hub_server import Repository, serving

NAME = "someone/brain-yaware"
hub = pytest.importorskip("huggingface_hub", reason="needs the extra hub: requirements-hub.txt")


def network(seed=0):
    torch.manual_seed(seed)
    return DenseNetEncoder(init_features=4, growth_rate=2, block_config=(1, 1))


def file_of(folder, seed=0):
    save_weights(folder / "x.safetensors", network(seed), {"kind": "encoder", "method": f"seed {seed}"})
    return (folder / "x.safetensors").read_bytes()


@pytest.fixture
def repository(tmp_path):
    made = Repository(NAME)
    made.first = made.commit({"model.safetensors": file_of(tmp_path), "README.md": b"first"}, tag="v0.1.0")
    made.second = made.commit({"model.safetensors": file_of(tmp_path, 1), "README.md": b"second", "a/b.pt": b"x"})
    return made


def point_to(address, monkeypatch):
    """What HF_ENDPOINT does before huggingface_hub is imported."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def online(repository, tmp_path, monkeypatch):
    """huggingface_hub asks the local server, and keeps what it gets in a folder of this test."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with serving(repository) as address:
        point_to(address, monkeypatch)
        yield repository


def same(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)


def test_a_commit_and_a_tag_are_fetched_and_a_commit_is_not_asked_for_again(online):
    report = load_encoder(f"hf://{NAME}@{online.first}")
    assert same(report.encoder, network())
    assert read_card(report.path)["method"] == "seed 0"
    assert same(load_encoder(f"hf://{NAME}@{online.second}").encoder, network(1))
    online.asked.clear()
    assert same(load_encoder(f"hf://{NAME}@{online.first}").encoder, network())
    assert online.asked == []
    found = located(f"hf://{NAME}@v0.1.0")
    assert found.read_bytes() == online.commits[online.first]["model.safetensors"]
    assert not (found.parent / "README.md").exists(), "only what belongs to the weights is fetched"


def test_the_commit_of_a_tag_is_said(online, caplog):
    with caplog.at_level("INFO"):
        located(f"hf://{NAME}@v0.1.0")
    assert f"{NAME} at commit {online.first} (tag v0.1.0)" in caplog.text


def test_what_was_fetched_is_found_without_a_network(online, monkeypatch):
    for revision in (online.first, "v0.1.0"):
        located(f"hf://{NAME}@{revision}")
    asked = len(online.asked)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for revision in (online.first, "v0.1.0"):
        assert same(load_encoder(f"hf://{NAME}@{revision}").encoder, network())
    with pytest.raises(ValueError, match="cannot be fetched, and is not in the cache"):
        located(f"hf://{NAME}@{online.second}")
    assert len(online.asked) == asked


def test_a_server_that_is_down_changes_nothing_for_what_is_in_the_cache(repository, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving(repository) as address:
        point_to(address, monkeypatch)
        located(f"hf://{NAME}@v0.1.0")
    assert same(load_encoder(f"hf://{NAME}@v0.1.0").encoder, network())


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("hf://{name}", "names no revision, so that the same address could give other weights tomorrow"),
        ("hf://{name}@main", "names the branch main, which moves"),
        ("hf://{name}@later", "names the branch later, which moves"),
        ("hf://{name}@" + 40 * "0", "cannot be fetched"),
        ("hf://{name}@v9", "cannot be fetched"),
        ("hf://{name}@v0.1.0/none.safetensors", "cannot be fetched|there is no none.safetensors"),
        ("hf://nobody/here@v0.1.0", "cannot be fetched"),
        ("hf://{name}@v0.1.0/../../x", "is no address of weights"),
        ("hf://onlyname@v0.1.0", "is no address of weights"),
        ("hf://{name}@v0.1.0#sha256=12", "is no address of weights"),
    ],
)
def test_other_addresses_are_refused_in_a_sentence(online, address, sentence):
    online.branches["later"] = online.first
    with pytest.raises(ValueError, match=sentence):
        located(address.format(name=NAME))


def test_a_name_of_which_the_hub_does_not_say_what_it_is_is_not_fetched(online, monkeypatch):
    def fails(*_):
        raise KeyError("branches")

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_refs", fails)
    with pytest.raises(ValueError, match="cannot be fetched, and is not in the cache"):
        located(f"hf://{NAME}@v0.1.0")


def test_a_sha256_is_compared(online):
    right = hashlib.sha256(online.commits[online.first]["model.safetensors"]).hexdigest()
    assert located(f"hf://{NAME}@{online.first}#sha256={right}").is_file()
    with pytest.raises(ValueError, match=f"the sha256 of model.safetensors is {right}. It is not used"):
        located(f"hf://{NAME}@{online.first}#sha256={64 * '0'}")


def test_weights_that_were_changed_on_the_way_are_refused_by_their_own_card(online):
    content = bytearray(online.commits[online.first]["model.safetensors"])
    content[-1] ^= 1
    changed = online.commit({"model.safetensors": bytes(content)})
    with pytest.raises(ValueError, match=r"belongs to other weights .* their sha256 differs"):
        load_encoder(f"hf://{NAME}@{changed}")


def test_a_record_names_the_address_and_not_a_path_of_this_machine(online):
    path = located(f"hf://{NAME}@v0.1.0")
    address = f"hf://{NAME}@{online.first}/model.safetensors"
    assert as_address(str(path)) == address
    assert origin(path) == origin(f"hf://{NAME}@v0.1.0")
    assert (origin(path)["path"], origin(path)["sha256"]) == (address, read_card(path)["sha256"])
    assert located(address) == path
    assert as_address("models/model.pt") == "models/model.pt"


def test_commands_take_an_address(online, tmp_path, capsys):
    command = ["convert-weights", f"hf://{NAME}@v0.1.0", "--output", str(tmp_path / "out")]
    assert main(command) == 0
    assert same(load_encoder(tmp_path / "out" / "model.pt").encoder, network())
    assert main(["convert-weights", f"hf://{NAME}@main"]) == 1
    assert "which moves" in capsys.readouterr().err


def test_folders_hold_weights_or_are_refused(tmp_path):
    (tmp_path / "published" / "huggingface").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds no weights"):
        load_encoder(tmp_path / "published")
    shutil.copy(_saved(tmp_path), tmp_path / "published" / "huggingface" / "model.safetensors")
    for folder in (tmp_path / "published", f"{tmp_path}/published/huggingface/"):
        assert same(load_encoder(folder).encoder, network())


def _saved(folder):
    file_of(folder)
    return folder / "x.safetensors"


def test_pathlib_and_configs_may_write_an_address_in_their_way():
    assert is_address(Path("hf://a/b@v1"))
    assert not is_address("models/hf.pt")


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"needs huggingface_hub, which is not installed; run `pip install .*\[hub\]"):
        located(f"hf://{NAME}@{40 * 'a'}")


FETCH = "import sys; from bundle.hub import located; print(located(sys.argv[1]).stat().st_size)"


def test_the_environment_variables_of_huggingface_hub_hold(repository, tmp_path):
    with serving(repository) as address:
        environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")}
        command = [sys.executable, "-c", FETCH, f"hf://{NAME}@{repository.first}"]
        run = {"cwd": ROOT, "capture_output": True, "text": True, "check": False}
        first = subprocess.run(command, env=environment, **run)
    again = subprocess.run(command, env={**environment, "HF_HUB_OFFLINE": "1"}, **run)
    assert first.stdout == again.stdout == f"{len(repository.commits[repository.first]['model.safetensors'])}\n", (
        first.stderr + again.stderr
    )
