import json
import os
import pickle

import pytest
import torch

from bundle.checkpoints import load_encoder, read_state_dict, save_weights, sha256
from bundle.networks import ContrastiveNetwork, DenseNetEncoder


def encoder(growth_rate=4):
    return DenseNetEncoder(init_features=8, growth_rate=growth_rate, block_config=(1, 1, 1, 1))


@pytest.fixture
def saved(tmp_path):
    network = ContrastiveNetwork(encoder(), 6, 5)
    save_weights(tmp_path / "pretrained.pt", network, {"kind": "test"})
    return network, tmp_path / "pretrained.pt"


def test_an_encoder_comes_back_with_a_report_and_a_card(saved):
    network, path = saved
    other = encoder()
    report = load_encoder(other, path)
    for name, tensor in network.encoder.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)
    assert len(report.loaded) == len(other.state_dict())
    assert all(name.startswith("projector.") for name in report.ignored)
    assert f"{len(report.loaded)} of {len(report.loaded)} encoder tensors" in str(report)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card == {"format": 1, "sha256": sha256(path), "kind": "test"}


def test_an_encoders_own_state_dict_loads_as_well(tmp_path):
    source, target = encoder(), encoder()
    save_weights(tmp_path / "encoder.pt", source, {})
    assert load_encoder(target, tmp_path / "encoder.pt").ignored == ()
    assert torch.equal(target.features.conv0.weight, source.features.conv0.weight)


def test_another_architecture_is_refused_and_changes_nothing(saved):
    _, path = saved
    wider, deeper = encoder(growth_rate=6), DenseNetEncoder(1, 8, 4, (2, 1, 1, 1))
    for other, reason in ((wider, "has shape"), (deeper, "are not in the file")):
        before = {k: v.clone() for k, v in other.state_dict().items()}
        with pytest.raises(ValueError, match=f"does not fit this encoder.*{reason}.*Nothing was loaded"):
            load_encoder(other, path)
        assert all(torch.equal(before[k], v) for k, v in other.state_dict().items())


def test_weights_without_any_match_are_refused(tmp_path):
    torch.save({"module.features.conv0.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="Nothing was loaded"):
        load_encoder(encoder(), tmp_path / "other.pt")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_a_pickle_posing_as_weights_is_refused_unopened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Bomb()}, "bomb.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb.pt", "raw.pt"):
        with pytest.raises(ValueError, match="no readable file of plain weights"):
            read_state_dict(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_damaged_missing_and_foreign_files_are_refused(saved, tmp_path):
    _, path = saved
    with pytest.raises(ValueError, match="There is no weights file"):
        read_state_dict(tmp_path / "absent.pt")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="no readable file"):
        read_state_dict(path)
    (tmp_path / "empty.pt").touch()
    with pytest.raises(ValueError, match="no readable file"):
        read_state_dict(tmp_path / "empty.pt")
    torch.save({"epoch": 3}, tmp_path / "epoch.pt")
    with pytest.raises(ValueError, match="holds no state dict"):
        read_state_dict(tmp_path / "epoch.pt")


def test_a_failed_save_leaves_the_old_weights(saved):
    _, path = saved
    before = path.read_bytes()

    class Unsaveable(torch.nn.Module):
        def state_dict(self):
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        save_weights(path, Unsaveable(), {})
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["pretrained.json", "pretrained.pt"]
