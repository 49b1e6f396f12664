"""Weights in the paper's released layout, made by an independently written network of that layout."""

import json
import os
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bundle.cli.main import main
from bundle.networks.conversion import convert_weights
from bundle.networks.weights import load_encoder


class Layer(nn.Module):
    def __init__(self, channels, growth, width):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm3d(channels), nn.Conv3d(channels, width * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm3d(width * growth), nn.Conv3d(width * growth, growth, 3, 1, 1, bias=False)

    def forward(self, x):
        new = self.conv1(F.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(F.relu(self.norm2(new)))], 1)


class Transition(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm3d(channels), nn.Conv3d(channels, channels // 2, 1, bias=False)

    def forward(self, x):
        return F.avg_pool3d(self.conv(F.relu(self.norm(x))), 2)


class Released(nn.Module):
    """A densely connected network as its paper describes it, with the tensor names of the released file."""

    def __init__(self, blocks=(2, 3), growth=4, channels=8, mode="encoder"):
        super().__init__()
        features = nn.Sequential()
        features.conv0 = nn.Conv3d(1, channels, 7, 2, 3, bias=False)
        features.norm0 = nn.BatchNorm3d(channels)
        features.relu0, features.pool0 = nn.ReLU(), nn.MaxPool3d(3, 2, 1)
        for number, layers in enumerate(blocks, 1):
            block = nn.Sequential()
            for layer in range(1, layers + 1):
                setattr(block, f"denselayer{layer}", Layer(channels, growth, 4))
                channels += growth
            setattr(features, f"denseblock{number}", block)
            if number < len(blocks):
                setattr(features, f"transition{number}", Transition(channels))
                channels //= 2
        self.features, self.mode = features, mode
        if mode == "classifier":
            features.norm5, self.classifier = nn.BatchNorm3d(channels), nn.Linear(channels, 2)
        else:
            self.hidden_representation, self.head_projection = nn.Linear(channels, 16), nn.Linear(16, 8)

    def embed(self, volumes):
        x = volumes
        for name, part in self.features.named_children():
            x = x if name == "norm5" else part(x)
        return F.relu(x).mean((2, 3, 4))


def released(mode="encoder"):
    torch.manual_seed(0)
    network = Released(mode=mode)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network.embed(torch.rand(4, 1, 24, 24, 24))  # running statistics that are not the initial ones
    return network.eval()


def saved(path, network, prefix="", wrapped=False, keep=lambda name: True):
    state = {prefix + name: tensor for name, tensor in network.state_dict().items() if keep(name)}
    torch.save({"epoch": 30, "model": state} if wrapped else state, path)
    return path


def encoder_only(name):
    return name.startswith("features.")


VARIANTS = {
    "as released": {"prefix": "module.", "wrapped": True},
    "without module": {"wrapped": True},
    "without the wrapper dict": {"prefix": "module."},
    "plain": {},
    "encoder alone": {"keep": encoder_only},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("training", [False, True])
def test_the_converted_encoder_computes_what_the_released_network_does(variant, training, tmp_path):
    network = released()
    assert (
        main(
            [
                "convert-weights",
                str(saved(tmp_path / "a.pth", network, **VARIANTS[variant])),
                "--output",
                str(tmp_path / "m"),
            ]
        )
        == 0
    )
    encoder = load_encoder(tmp_path / "m" / "a.pt").encoder
    volumes = torch.rand(3, 1, 32, 24, 32)
    network.train(training), encoder.train(training)
    with torch.no_grad():
        assert torch.allclose(encoder(volumes), network.embed(volumes), atol=1e-6, rtol=0)


def test_a_classifier_gives_its_trunk_and_says_what_was_left_out(tmp_path):
    network = released("classifier")
    found = convert_weights(saved(tmp_path / "a.pth", network), tmp_path / "m")
    assert found.kind == "a classifier with a final norm"
    assert {"features.norm5.weight", "classifier.weight"} <= set(found.left_out)
    encoder = load_encoder(found.weights).encoder.eval()
    volumes = torch.rand(2, 1, 24, 24, 24)
    assert torch.allclose(encoder(volumes), network.embed(volumes), atol=1e-6)


def test_the_conversion_says_what_the_file_is(tmp_path):
    found = convert_weights(saved(tmp_path / "a.pth", released(), "module.", True), tmp_path / "m")
    assert found.parallel
    assert "a contrastive network with its projector in the paper's released layout" in str(found)
    card = json.loads((tmp_path / "m" / "a.json").read_text())
    assert card["converted_from"]["file"] == "a.pth"
    assert card["converted_from"]["tensors"] == len(released().state_dict())


@pytest.mark.parametrize("prefix", ["backbone.", "module.model.", "net.trunk."])
def test_an_encoder_under_another_name_is_converted_and_the_name_is_said(prefix, tmp_path):
    network = released()
    state = {(prefix if encoder_only(n) else "module.") + n: t for n, t in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "a.ckpt")
    found = convert_weights(tmp_path / "a.ckpt", tmp_path / "m")
    assert f"its names beginning with `{prefix.removeprefix('module.')}`: all" in str(found)
    assert json.loads((tmp_path / "m" / "a.json").read_text())["converted_from"]["prefix"] == found.prefix
    assert set(found.left_out) == {n for n in network.state_dict() if not encoder_only(n)}
    volumes = torch.rand(2, 1, 24, 24, 24)
    with torch.no_grad():
        assert torch.allclose(load_encoder(found.weights).encoder.eval()(volumes), network.embed(volumes), atol=1e-6)


def test_a_file_of_two_encoders_is_refused_by_their_names(tmp_path):
    state = {p + n: t for p in ("student.", "teacher.") for n, t in released().state_dict().items()}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth holds 2 encoders, whose names begin with student\. and teacher\."):
        convert_weights(tmp_path / "a.pth", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_weights_that_are_not_finite_are_refused_with_their_number(tmp_path):
    network = released()
    network.features.conv0.weight.data[0, 0, 0, 0, :3] = torch.tensor([float("nan"), float("inf"), 1.0])
    path = saved(tmp_path / "a.pth", network)
    with pytest.raises(ValueError, match=r"a\.pth: 2 values are not finite that lie in it \(features\.conv0\.weight\)"):
        convert_weights(path, tmp_path / "m")
    assert not (tmp_path / "m").exists()


class Residual(nn.Module):
    """Two convolutions and a shortcut, with the tensor names of AnatCL's files."""

    def __init__(self, channels, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv3d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm3d(width)
        self.conv2, self.bn2 = nn.Conv3d(width, width, 3, 1, 1, bias=False), nn.BatchNorm3d(width)
        if stride == 2:
            self.downsample = nn.Sequential(nn.Conv3d(channels, width, 1, 2, bias=False), nn.BatchNorm3d(width))

    def forward(self, x):
        short = self.downsample(x) if hasattr(self, "downsample") else x
        return F.relu(short + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class AnatCL(nn.Module):
    """A residual network of 18 layers as its paper describes it, and a projector."""

    def __init__(self, width=4):
        super().__init__()
        self.encoder = nn.Sequential()
        self.encoder.conv1, self.encoder.bn1 = nn.Conv3d(1, width, 7, 2, 3, bias=False), nn.BatchNorm3d(width)
        self.encoder.relu, self.encoder.maxpool = nn.ReLU(), nn.MaxPool3d(3, 2, 1)
        for stage in range(4):
            before, after = width * 2 ** max(0, stage - 1), width * 2**stage
            first = Residual(before, after, 2 if stage else 1)
            setattr(self.encoder, f"layer{stage + 1}", nn.Sequential(first, Residual(after, after, 1)))
        self.head = nn.Sequential(nn.Linear(after, after), nn.ReLU(), nn.Linear(after, 8))

    def embed(self, volumes):
        return self.encoder(volumes).mean((2, 3, 4))


@pytest.mark.parametrize("training", [False, True])
def test_anatcls_encoder_computes_what_it_did(training, tmp_path):
    network = AnatCL().train()
    with torch.no_grad():
        network.embed(torch.rand(4, 1, 24, 24, 24))
    found = convert_weights(saved(tmp_path / "a.pth", network, wrapped=True), tmp_path / "m")
    assert "a contrastive network with its projector in AnatCL's layout: all" in str(found)
    assert all(name.startswith("head.") for name in found.left_out)
    encoder = load_encoder(found.weights).encoder.train(training)
    volumes = torch.rand(3, 1, 32, 40, 32)
    network.train(training)
    with torch.no_grad():
        assert torch.allclose(encoder(volumes), network.embed(volumes), atol=1e-6, rtol=0)


def test_anatcls_own_network_is_of_this_layout(tmp_path):
    network = pytest.importorskip("anatcl").AnatCL(pretrained=False).eval()
    path = saved(tmp_path / "a.pth", network.backbone, wrapped=True)
    encoder = load_encoder(path).encoder.eval()
    volumes = torch.rand(1, 1, 33, 40, 33)
    with torch.no_grad():
        assert torch.allclose(encoder(volumes), network(volumes), atol=1e-5)


def wrong_blocks(path):
    return saved(path, released(), keep=lambda name: "denselayer2.conv1" not in name)


def pickled(path):
    path.write_bytes(pickle.dumps({"model": os.getcwd}))
    return path


def whole_module(path):
    torch.save(released(), path)
    return path


def of_a_resnet_of_another_kind(path):
    torch.save({"layer1.weight": torch.zeros(3, 3)}, path)
    return path


@pytest.mark.parametrize("build", [wrong_blocks, pickled, whole_module, of_a_resnet_of_another_kind])
def test_anything_else_is_refused_and_nothing_is_written(build, tmp_path, capsys):
    assert main(["convert-weights", str(build(tmp_path / "a.pth")), "--output", str(tmp_path / "m")]) == 1
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_a_file_is_not_overwritten_by_its_own_conversion(tmp_path):
    path = saved(tmp_path / "a.pt", released())
    with pytest.raises(ValueError, match="overwritten by its own conversion"):
        convert_weights(path, tmp_path)
