"""Networks of several channels: stated by cards, made again, exported, and refused for other volumes."""

from pathlib import Path

import pytest
import torch
from monai.networks.nets import DenseNet

from bundle.networks import DenseNetEncoder, EncoderClassifier, ResNetEncoder, save_weights
from bundle.networks.architecture import as_options, described, in_channels_of, made_classifier, require_in_channels
from bundle.networks.cards import check_card
from bundle.networks.export import export
from bundle.networks.weights import architecture_of, load_encoder, start_from

SIZES = {"init_features": 8, "growth_rate": 4, "block_config": [1, 1, 1, 1]}
HERE = Path("x.pt")


def densenet(channels):
    return DenseNet(spatial_dims=3, in_channels=channels, out_channels=2, **SIZES)


def test_a_card_states_channels_only_where_there_are_several():
    assert described(densenet(1)) == SIZES
    assert described(densenet(2)) == {**SIZES, "in_channels": 2}


@pytest.mark.parametrize("members", [None, 2])
def test_a_stated_network_is_made_again(members):
    stated = {**described(densenet(2)), **({"members": members} if members else {})}
    check_card({"network": stated}, HERE)
    made = made_classifier(HERE, stated).eval()
    assert made(torch.zeros(1, 2, 32, 32, 32)).shape == (1, 2)
    assert in_channels_of(made) == 2
    if not members:
        assert as_options(HERE, stated) == stated


def test_a_classifier_starts_from_an_encoder_of_as_many_channels(tmp_path):
    encoder = DenseNetEncoder(in_channels=2, **SIZES)
    path = tmp_path / "encoder.pt"
    save_weights(path, encoder, {"network": described(encoder)})
    assert architecture_of(path) == {**SIZES, "in_channels": 2}
    start_from(made_classifier(path, architecture_of(path)), path)
    assert in_channels_of(load_encoder(path).encoder) == 2
    with pytest.raises(ValueError, match=r"features\.conv0\.weight"):
        start_from(densenet(1), path)


@pytest.mark.parametrize(
    "network", [densenet(2), DenseNetEncoder(2, **SIZES), EncoderClassifier(ResNetEncoder(2, width=4))]
)
def test_volumes_of_other_channels_are_refused(network):
    assert in_channels_of(network) == 2
    require_in_channels(network, 2, "the task")
    with pytest.raises(ValueError, match=r"of the task have 1 channel.* takes 2"):
        require_in_channels(network, 1, "the task")


def test_an_export_takes_as_many_channels(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "model.pt"
    network = densenet(2).eval()
    save_weights(path, network, {})
    export(network, path, ["torchscript"], (32, 32, 32))
    logits, _ = torch.jit.load(path.with_suffix(".ts"))(torch.zeros(3, 2, 32, 32, 32))
    assert logits.shape == (3, 2)
