import json
import os
import pickle

import pytest
import torch
from monai.networks.nets import DenseNet121

from bundle.files import sha256
from bundle.networks.cards import classifier_card, read_card
from bundle.networks.encoders import DenseNetEncoder, ResNetEncoder
from bundle.networks.formats import read_state_dict
from bundle.networks.lineage import origin
from bundle.networks.names import from_released, to_released
from bundle.networks.projector import ContrastiveNetwork
from bundle.networks.weights import load_encoder, load_network, save_weights, start_from


def encoder(growth_rate=4):
    return DenseNetEncoder(init_features=8, growth_rate=growth_rate, block_config=(1, 1, 1, 1))


@pytest.fixture
def saved(tmp_path):
    network = ContrastiveNetwork(encoder(), 6, 5)
    save_weights(tmp_path / "pretrained.pt", network, {"kind": "test"})
    return network, tmp_path / "pretrained.pt"


def same_weights(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_an_encoder_comes_back_with_a_report_and_a_card(saved):
    network, path = saved
    other = encoder()
    report = load_encoder(path, other)
    assert report.encoder is other
    assert same_weights(other, network.encoder)
    assert report.loaded == tuple(other.state_dict())
    assert all(name.startswith("projector.") for name in report.ignored)
    assert f"{len(report.loaded)} of {len(report.loaded)} encoder tensors" in str(report)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card == {"format": 1, "sha256": sha256(path), "kind": "test"}


@pytest.mark.parametrize("source", [DenseNetEncoder(1, 8, 4, (1, 2, 1)), ResNetEncoder(2, width=4)])
def test_a_path_alone_gives_the_encoder_that_was_saved(tmp_path, source):
    save_weights(tmp_path / "encoder.pt", source, {})
    report = load_encoder(tmp_path / "encoder.pt")
    assert same_weights(report.encoder, source)
    assert report.ignored == ()


def test_the_weights_of_a_parallel_wrapper_load_as_well(tmp_path):
    network = ContrastiveNetwork(encoder(), 6, 5)
    torch.save(torch.nn.DataParallel(network).state_dict(), tmp_path / "parallel.pt")
    assert same_weights(load_encoder(tmp_path / "parallel.pt").encoder, network.encoder)


def released_names():
    """The released file's layout as the paper's facts list it, for the full DenseNet121."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = ["features.conv0.weight", *(f"features.norm0.{n}" for n in norm)]
    for block, layers in enumerate((6, 12, 24, 16), 1):
        for layer in range(1, layers + 1):
            place = f"features.denseblock{block}.denselayer{layer}"
            names += [f"{place}.norm{i}.{n}" for i in (1, 2) for n in norm]
            names += [f"{place}.conv{i}.weight" for i in (1, 2)]
        if block < 4:
            names += [f"features.transition{block}.norm.{n}" for n in norm]
            names.append(f"features.transition{block}.conv.weight")
    heads = [f"{head}.{n}" for head in ("hidden_representation", "head_projection") for n in ("weight", "bias")]
    return {f"module.{name}" for name in [*names, *heads]}


def test_weights_that_know_only_a_phantom_say_so(tmp_path, caplog):
    encoder = DenseNetEncoder(1, 8, 4, (1, 1))
    save_weights(tmp_path / "a.pt", encoder, {"kind": "encoder", "warning": "This is a phantom."})
    assert next(iter(read_card(tmp_path / "a.pt"))) == "warning"
    with caplog.at_level("WARNING"):
        load_encoder(tmp_path / "a.pt")
    assert "a.pt was trained on this: This is a phantom." in caplog.text


def test_the_released_layout_converts_both_ways_and_loads(tmp_path):
    network = ContrastiveNetwork(DenseNetEncoder())
    released = to_released(network.state_dict())
    assert set(released) == released_names()
    assert len(released) == 724
    back = from_released(released)
    assert list(back) == list(network.state_dict())
    assert all(back[name] is tensor for name, tensor in zip(back, released.values(), strict=True))
    torch.save({"epoch": 30, "model": released}, tmp_path / "released.pth")
    report = load_encoder(tmp_path / "released.pth")
    assert same_weights(report.encoder, network.encoder)
    assert (len(report.loaded), len(report.ignored)) == (720, 4)


def test_another_architecture_is_refused_and_changes_nothing(saved):
    _, path = saved
    others = {
        "tensors match.* of another shape.*instead of": encoder(growth_rate=6),
        r"missing in the file \(features.denseblock1.denselayer2": DenseNetEncoder(1, 8, 4, (2, 1, 1, 1)),
        r"unknown to the network \(features.transition3": DenseNetEncoder(1, 8, 4, (1, 1, 1)),
        " 0 of its .* match": ResNetEncoder(),
    }
    for reason, other in others.items():
        before = {k: v.clone() for k, v in other.state_dict().items()}
        with pytest.raises(ValueError, match=f"does not fit this network.*{reason}.*Nothing was loaded"):
            load_encoder(path, other)
        assert all(torch.equal(before[k], v) for k, v in other.state_dict().items())


def test_weights_that_match_in_part_or_not_at_all_are_refused_by_name(saved, tmp_path):
    network, _ = saved
    state = network.encoder.state_dict()
    state.pop("features.denseblock2.denselayer1.layers.conv1.weight")
    torch.save(state, tmp_path / "part.pt")
    with pytest.raises(
        ValueError, match=r"1 missing in the file \(features.denseblock2.denselayer1.layers.conv1.weight"
    ):
        load_encoder(tmp_path / "part.pt")
    torch.save({"backbone.stem.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"no weights of a known encoder.*backbone.stem.weight.*Nothing was loaded"):
        load_encoder(tmp_path / "other.pt")


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


def classifier(growth_rate=4):
    return DenseNet121(
        3, in_channels=1, out_channels=2, init_features=8, growth_rate=growth_rate, block_config=(1, 1, 1, 1)
    )


def test_a_classifier_starts_from_an_encoder_and_its_head_from_nothing(saved):
    network, path = saved
    trained = classifier()
    head = trained.class_layers.out.weight.clone()
    start_from(trained, path)
    expected = network.encoder.state_dict()
    assert all(torch.equal(trained.state_dict()[name], tensor) for name, tensor in expected.items())
    assert torch.equal(trained.class_layers.out.weight, head)


def test_a_classifier_starts_from_another_one(tmp_path):
    save_weights(tmp_path / "model.pt", classifier(), {})
    start_from(classifier(), tmp_path / "model.pt")


def test_a_classifier_of_another_architecture_is_refused(saved):
    trained = classifier(growth_rate=6)
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    with pytest.raises(ValueError, match=r"does not fit this network: .* of another shape"):
        start_from(trained, saved[1])
    assert all(torch.equal(trained.state_dict()[name], tensor) for name, tensor in before.items())


def test_from_scratch_is_said_and_cannot_be_frozen(caplog):
    with caplog.at_level("INFO"):
        start_from(classifier(), "scratch")
    assert "From scratch" in caplog.text
    assert origin("scratch") == "scratch"
    with pytest.raises(ValueError, match="Freezing a trunk of random weights"):
        start_from(classifier(), "scratch", freeze_trunk=True)


def test_a_whole_network_loads_or_is_refused(tmp_path, saved):
    source, target = classifier(), classifier()
    save_weights(tmp_path / "model.pt", source, {})
    load_network(tmp_path / "model.pt", target)
    assert same_weights(source, target)
    with pytest.raises(ValueError, match="does not fit this network"):
        load_network(saved[1], target)


@pytest.mark.parametrize(("value", "storage"), [(float("nan"), "float32"), (1e6, "float16")])
def test_weights_that_are_not_finite_are_not_written(value, storage, tmp_path):
    broken = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(broken.bias, value)
    with pytest.raises(ValueError, match=rf"2 values are not finite that were to be written as {storage} \(bias\)"):
        save_weights(tmp_path / "a.pt", broken, {}, storage)
    assert not list(tmp_path.iterdir())


def test_metrics_that_are_not_finite_are_null_in_a_card_and_an_older_card_with_nan_is_read(tmp_path):
    path = tmp_path / "encoder.pt"
    card = {"kind": "encoder", "validation": {"val_loss": 1.5, "val_age_mae": float("nan")}}
    save_weights(path, encoder(), card)
    written = path.with_suffix(".json").read_text()
    assert '"val_age_mae": null' in written
    assert read_card(path)["validation"] == {"val_loss": 1.5, "val_age_mae": None}
    path.with_suffix(".json").write_text(written.replace("null", "NaN"))
    assert read_card(path)["validation"] == {"val_loss": 1.5, "val_age_mae": None}


def test_cards_are_read_and_checked(tmp_path):
    path = tmp_path / "model.pt"
    assert read_card(path) == {}
    with pytest.raises(ValueError, match="but the card is missing"):
        classifier_card(path)
    known = {"class_names": ["control", "patient"], "validation": {"val_threshold": 0.4}}
    save_weights(path, classifier(), {"kind": "classifier", **known})
    assert classifier_card(path)["validation"]["val_threshold"] == 0.4
    save_weights(path, classifier(), {"kind": "encoder"})
    with pytest.raises(ValueError, match="but the card is that of encoder"):
        classifier_card(path)
    path.with_suffix(".json").write_text("[]")
    with pytest.raises(ValueError, match="is no JSON object"):
        read_card(path)
