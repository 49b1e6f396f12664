"""Any module with `embedding_size` is an encoder; a card states ours as plain data."""

import json

import pytest
import torch
from monai.networks.nets import DenseNet121, EfficientNetBN

from bundle.networks import (
    Classifier,
    ContrastiveNetwork,
    DenseNetEncoder,
    EncoderClassifier,
    ResNetEncoder,
    SwinEncoder,
    ViTEncoder,
    described,
    encoder_like,
    export_classifier,
    load_encoder,
    read_card,
    save_weights,
    set_checkpointing,
    start_from,
)
from bundle.pretext import AgeRegressor, ReconstructionNetwork
from tests.networks.foreign import Map, ThreeLayers, WithoutSize

SIZE = (20, 24, 20)
MAKERS = {
    "DenseNet": lambda: DenseNetEncoder(1, 8, 4, (1, 2)),
    "ResNet": lambda: ResNetEncoder(1, 4),
    "Swin": lambda: SwinEncoder(1, 6, (1, 1, 2, 1), (1, 1, 2, 2), 3),
    "ViT": lambda: ViTEncoder(1, SIZE, 8, 12, 16, 2, 2),
    "of somebody else": ThreeLayers,
}
OURS = [name for name in MAKERS if name != "of somebody else"]


def made(name):
    if name in ("Swin", "ViT"):
        pytest.importorskip("einops")
    torch.manual_seed(0)
    return MAKERS[name]()


@pytest.fixture(params=MAKERS)
def encoder(request):
    return made(request.param)


def same(one, other):
    return all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


def test_weights_of_any_encoder_come_back_into_one_of_its_kind(encoder, tmp_path):
    other = type(encoder)(**getattr(encoder, "arguments", {}))
    wholes = {
        "alone": encoder,
        "pretrained": ContrastiveNetwork(encoder, 5, 4),
        "classifier": EncoderClassifier(encoder),
        "parallel": torch.nn.ModuleDict({"module": ContrastiveNetwork(encoder, 5, 4)}),
    }
    for name, whole in wholes.items():
        for parameter in other.parameters():
            torch.nn.init.zeros_(parameter)
        torch.save(whole.state_dict(), tmp_path / f"{name}.pt")
        report = load_encoder(tmp_path / f"{name}.pt", other)
        assert same(encoder, other), name
        assert len(report.loaded) == len(encoder.state_dict())
        assert not any("encoder" in ignored for ignored in report.ignored)


def test_weights_that_match_in_part_are_refused_by_name_whatever_the_encoder(encoder, tmp_path):
    state = encoder.state_dict()
    last = list(state)[-1]
    for changed, reason in (
        ({n: t for n, t in state.items() if n != last}, f"1 missing in the file \\({last}\\)"),
        ({**state, "unheard.of": torch.zeros(2)}, "unheard.of"),
    ):
        torch.save(changed, tmp_path / "x.pt")
        if reason == "unheard.of" and last.startswith("features."):
            assert load_encoder(tmp_path / "x.pt", encoder).ignored == ("unheard.of",)
            continue
        with pytest.raises(ValueError, match=rf"x\.pt does not fit this network: .*{reason}"):
            load_encoder(tmp_path / "x.pt", encoder)


@pytest.mark.parametrize("name", OURS)
def test_a_card_makes_an_encoder_of_ours_again(name, tmp_path):
    encoder = made(name).eval()
    path = tmp_path / "encoder.pt"
    save_weights(path, encoder, {"kind": "encoder", "network": described(encoder)})
    assert read_card(path)["network"] == json.loads(json.dumps(described(encoder)))
    again = load_encoder(path).encoder.eval()
    volumes = torch.rand(2, 1, *SIZE)
    with torch.no_grad():
        assert torch.equal(again(volumes), encoder(volumes))
        assert again(volumes, pool=2).shape == (2, encoder.embedding_size * 8)
        cells = encoder.feature_map(volumes).mean((2, 3, 4))
    assert torch.allclose(encoder(volumes), cells, atol=1e-6)


def test_a_classifier_on_any_encoder_starts_from_it_and_trains_its_head_alone_when_frozen(encoder, tmp_path):
    path = tmp_path / "encoder.pt"
    save_weights(path, encoder, {})
    network = EncoderClassifier(type(encoder)(**getattr(encoder, "arguments", {})))
    start_from(network, path, freeze_trunk=True)
    assert same(encoder, network.encoder)
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert learning == {"class_layers.weight", "class_layers.bias"}
    logits, embedding = Classifier(network.eval()).both(torch.rand(2, 1, *SIZE))
    assert logits.shape == (2, 2)
    assert embedding.shape == (2, encoder.embedding_size)


@pytest.mark.parametrize("make", [ContrastiveNetwork, AgeRegressor, EncoderClassifier])
def test_what_is_no_encoder_is_refused_before_training(make):
    with pytest.raises(ValueError, match=r"The encoder WithoutSize has embedding_size None, but an encoder is"):
        make(WithoutSize(1, 4, 3))
    with pytest.raises(ValueError, match=r"encoder Map makes \(2, 4, 18, 22, 18\) of 2 volumes, expected \(2, 4\)"):
        make(Map(1, 4, 3))(torch.rand(2, 1, *SIZE))


def test_what_gives_no_embedding_is_refused_as_a_classifier_before_training():
    network = EfficientNetBN("efficientnet-b0", spatial_dims=3, in_channels=1, num_classes=2, pretrained=False)
    with pytest.raises(ValueError, match="The network EfficientNetBN says nothing of an embedding"):
        start_from(network, "scratch")
    start_from(DenseNet121(3, 1, 2, 8, 4, (1, 1)), "scratch")


def test_checkpointing_and_reconstruction_are_refused_where_they_cannot_be(encoder):
    set_checkpointing(encoder, False)
    if isinstance(encoder, (ViTEncoder, ThreeLayers)):
        with pytest.raises(ValueError, match="`checkpointing` is of DenseNet, ResNet and Swin encoders, not of"):
            set_checkpointing(encoder, True)
    if isinstance(encoder, (ViTEncoder, SwinEncoder, ThreeLayers)):
        with pytest.raises(ValueError, match="Models Genesis reads the feature maps of an encoder's `features`, but"):
            ReconstructionNetwork(encoder)


def test_a_swin_encoder_computes_the_same_with_checkpointing():
    encoder, volumes = made("Swin"), torch.rand(1, 1, *SIZE)
    gradients = []
    for _ in range(2):
        encoder.zero_grad()
        encoder(volumes).square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None]))
        set_checkpointing(encoder, True)
    assert torch.allclose(*gradients, atol=1e-6)


BAD = [
    {"encoder": "os.system; x"},
    {"encoder": "SwinEncoder", "arguments": {"_target_": 3}},
    {"encoder": "SwinEncoder", "arguments": {"depths": ["$import os"]}},
    {"encoder": "SwinEncoder", "arguments": {"feature_size": 10**9}},
    {"encoder": "SwinEncoder", "code": "x"},
    {"encoder": ["SwinEncoder"]},
    {"encoder": "SwinEncoder", "arguments": [3]},
]


@pytest.mark.parametrize("network", BAD, ids=str)
def test_a_card_can_state_nothing_but_a_name_and_numbers(network, tmp_path):
    save_weights(tmp_path / "x.pt", made("Swin"), {"network": network})
    with pytest.raises(ValueError, match=r"has network .* expected init_features"):
        read_card(tmp_path / "x.pt")


def test_a_card_that_states_another_encoder_than_its_weights_is_refused(tmp_path):
    wrong = {"encoder": "SwinEncoder", "arguments": {"feature_size": 4096, "num_heads": [1, 1, 1, 1]}}
    save_weights(tmp_path / "x.pt", made("Swin"), {"network": wrong})
    with pytest.raises(ValueError, match="does not fit this network"):
        encoder_like(tmp_path / "x.pt")
    save_weights(tmp_path / "x.pt", made("Swin"), {"network": {"encoder": "SwinEncoder", "arguments": {"size": 3}}})
    with pytest.raises(ValueError, match="states arguments that no SwinEncoder has"):
        encoder_like(tmp_path / "x.pt")


def test_sizes_that_do_not_fit_are_refused_in_words():
    pytest.importorskip("einops")
    with pytest.raises(ValueError, match="Stage 1 of a Swin encoder has 10 features, which 3 heads do not divide"):
        SwinEncoder(feature_size=10)
    with pytest.raises(ValueError, match="four stages"):
        SwinEncoder(depths=(2, 2))
    with pytest.raises(ValueError, match="a hidden_size that num_heads divides"):
        ViTEncoder(hidden_size=10, num_heads=3)
    with pytest.raises(ValueError, match="made for volumes of 20×24×20 voxels, but they have 8×8×8; set"):
        made("ViT")(torch.rand(1, 1, 8, 8, 8))


def test_without_einops_a_transformer_says_what_to_install(monkeypatch):
    monkeypatch.setattr("bundle.networks.transformers.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="need einops, which is not installed: pip install einops"):
        SwinEncoder()


@pytest.mark.parametrize("name", ["ResNet", "ViT"])
def test_a_classifier_on_an_encoder_of_ours_is_exported(name, tmp_path):
    network, path = EncoderClassifier(made(name)), tmp_path / "model.pt"
    card = {"kind": "classifier", "class_names": ["a", "b"], "validation": {"val_threshold": 0.5}}
    save_weights(path, network, {**card, "network": described(network), "contract": {"grid": {"shape": SIZE}}})
    assert export_classifier(path, ["torchscript"])["torchscript"] < 1e-5
