import copy

import pytest
import torch
from monai.networks.nets import DenseNet121, resnet18

from bundle.hints import say_once
from bundle.networks.classifiers import freeze
from bundle.networks.encoders import (
    DenseNetEncoder,
    ResNetEncoder,
    encoder_of,
    statistics_kept,
)
from bundle.networks.projector import ContrastiveNetwork, Projector


def small_encoder():
    return DenseNetEncoder(init_features=8, growth_rate=4, block_config=(1, 1, 1, 1))


def test_the_default_is_the_papers_densenet121():
    network = ContrastiveNetwork(DenseNetEncoder())
    densenet = sum(p.numel() for p in network.encoder.parameters())
    assert network.encoder.embedding_size == 1024
    assert densenet == pytest.approx(11.24e6, rel=2e-3)
    assert [tuple(p.shape) for p in network.projector.parameters()] == [(512, 1024), (512,), (128, 512), (128,)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_equals_monai_densenet121_without_its_final_norm(layout):
    torch.manual_seed(0)
    monai, encoder = DenseNet121(spatial_dims=3, in_channels=1, out_channels=2).eval(), DenseNetEncoder().eval()
    encoder.load_state_dict({k: v for k, v in monai.state_dict().items() if k in encoder.state_dict()})
    monai.features.norm5 = torch.nn.Identity()
    volumes = torch.randn(2, 1, 40, 48, 40)
    expected, found = monai.class_layers[:-1](monai.features(volumes)), encoder.to(memory_format=layout)(volumes)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    weight = torch.randn_like(expected)
    ours = torch.autograd.grad((found * weight).sum(), list(encoder.parameters()))
    named = dict(monai.named_parameters())
    theirs = torch.autograd.grad((expected * weight).sum(), [named[name] for name, _ in encoder.named_parameters()])
    for (name, _), found, expected in zip(encoder.named_parameters(), ours, theirs, strict=True):
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max()), name


def test_equals_monai_resnet18():
    monai, encoder = resnet18(n_input_channels=1, conv1_t_stride=2, feed_forward=False).eval(), ResNetEncoder().eval()
    encoder.features.load_state_dict(monai.state_dict())
    volumes = torch.randn(1, 1, 40, 48, 40)
    with torch.no_grad():
        assert torch.equal(encoder(volumes), monai(volumes))
    assert encoder.embedding_size == 512


@pytest.mark.parametrize(
    "encoder",
    [
        small_encoder(),
        DenseNetEncoder(2, 4, 6, (1, 3, 2)),
        DenseNetEncoder(1, 8, 8, (1, 2), "group"),
        ResNetEncoder(1, 4),
    ],
)
def test_an_architecture_is_read_from_its_weights(encoder):
    shapes = {name: tensor.shape for name, tensor in encoder.state_dict().items()}
    again = encoder_of(encoder.state_dict())
    assert {name: tensor.shape for name, tensor in again.state_dict().items()} == shapes
    assert again.embedding_size == encoder.embedding_size


def test_pooling_to_more_cells_keeps_their_mean():
    encoder, volumes = small_encoder().eval(), torch.randn(2, 1, 64, 64, 64)
    with torch.no_grad():
        cells = encoder(volumes, pool=2)
        assert cells.shape == (2, 8 * encoder.embedding_size)
        means = cells.view(2, encoder.embedding_size, 8).mean(2)
        assert torch.allclose(means, encoder(volumes), atol=1e-6)


def test_contrastive_network_projects_the_embedding():
    network = ContrastiveNetwork(small_encoder(), hidden_size=6, projection_size=5).eval()
    volumes = torch.randn(3, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(volumes), network.projector(network.encoder(volumes)))
        assert network(volumes).shape == (3, 5)


def test_projector_is_two_linear_layers_with_a_relu_between():
    projector, embedding = Projector(4, 3, 2), torch.randn(5, 4)
    expected = projector.output(torch.relu(projector.hidden(embedding)))
    assert torch.equal(projector(embedding), expected)


def test_a_third_layer_stands_between_and_weights_of_two_layers_load_as_before():
    torch.manual_seed(0)
    two = ContrastiveNetwork(small_encoder(), 6, 5)
    torch.manual_seed(0)
    same = ContrastiveNetwork(small_encoder(), 6, 5, projector_layers=2)
    assert list(same.state_dict()) == list(two.state_dict())
    assert all(torch.equal(tensor, same.state_dict()[name]) for name, tensor in two.state_dict().items())
    projector, embedding = Projector(4, 3, 2, layers=3), torch.randn(5, 4)
    first = torch.relu(projector.hidden(embedding))
    assert torch.equal(projector(embedding), projector.output(torch.relu(projector.middle(first))))
    for layers in (1, 4):
        with pytest.raises(ValueError, match=f"A projector has 2 or 3 layers, not {layers}"):
            Projector(4, 3, 2, layers=layers)


def test_a_frozen_part_keeps_weights_and_statistics_in_training_mode():
    torch.manual_seed(0)  # one in many such small networks gives nothing but zeros
    network = DenseNet121(3, 1, 2, init_features=8, growth_rate=4, block_config=(1, 1, 1, 1))
    freeze(network, ["class_layers.", "features.norm5."])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.Adam(network.parameters(), 0.1, weight_decay=0.1)
    for _ in range(2):
        network.train()
        network(torch.randn(4, 1, 40, 40, 40)).sum().backward()
        optimizer.step()
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith(("class_layers.", "features.norm5.")) for name in changed)
    assert {"class_layers.out.weight", "features.norm5.running_mean"} <= changed


def test_group_norm_looks_at_one_volume_alone():
    encoder = DenseNetEncoder(1, 8, 8, (1, 1), norm="group")
    volumes = torch.randn(3, 1, 24, 24, 24)
    torch.testing.assert_close(encoder(volumes)[:1], encoder(volumes[:1]), rtol=1e-5, atol=1e-6)
    assert not list(encoder.buffers())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"norm": "layer"}, "batch or group, but 'layer' was given"),
        ({"norm": "group", "init_features": 12}, "take multiples of 16"),
        ({"norm": "group", "init_features": 8, "growth_rate": 8, "block_config": (2, 1)}, "that 8 does not divide"),
    ],
)
def test_norms_that_there_are_not_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        DenseNetEncoder(**options)


@pytest.mark.parametrize(
    "encoder", [DenseNetEncoder(1, 8, 4, (2, 3, 1)), ResNetEncoder(1, 4)], ids=["DenseNet", "ResNet"]
)
def test_checkpointing_changes_memory_and_nothing_else(encoder):
    volumes = torch.randn(3, 1, 32, 32, 32)
    twin = copy.deepcopy(encoder)
    twin.checkpointing = True
    kept = [saved_bytes(network, volumes) for network in (encoder, twin)]
    assert kept[1] < kept[0] / 2
    for (name, actual), expected in zip(twin.named_parameters(), encoder.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad, msg=name)
    for (name, actual), expected in zip(twin.named_buffers(), encoder.buffers(), strict=True):
        torch.testing.assert_close(actual, expected, msg=name)


def test_feature_maps_stay_in_the_type_of_autocast():
    encoder, seen = DenseNetEncoder(1, 8, 4, (1, 1, 1)), {}
    for name, part in encoder.features.named_children():
        part.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output.dtype}))
    with torch.autocast("cpu", torch.bfloat16):
        encoder(torch.randn(2, 1, 32, 32, 32))
    assert set(seen.values()) == {torch.bfloat16}, seen


def saved_bytes(network, volumes):
    """Bytes that a forward pass keeps for its backward pass, which is run too."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(volumes).square().sum()
    known = {p.untyped_storage().data_ptr() for p in network.parameters()}
    loss.backward()
    return sum(size for place, size in kept.items() if place not in known)


def test_statistics_are_kept_while_they_are_asked_to_be():
    norm = torch.nn.BatchNorm3d(2)
    volumes = torch.randn(2, 2, 4, 4, 4) + 5
    with statistics_kept(norm):
        inside = norm(volumes)
    assert norm.running_mean.eq(0).all()
    assert norm.num_batches_tracked == 0
    assert torch.equal(inside, norm(volumes))
    assert norm.num_batches_tracked == 1


def test_more_cells_than_the_feature_map_has_are_said_once(caplog):
    say_once.cache_clear()
    encoder = DenseNetEncoder(init_features=8, growth_rate=4, block_config=[1, 1, 1, 1]).eval()
    volumes = torch.randn(2, 1, 40, 48, 40)
    for _ in range(2):
        repeated = encoder(volumes, pool=2).view(2, encoder.embedding_size, 8)
    assert torch.equal(repeated, repeated[..., :1].expand_as(repeated))
    assert [record.message for record in caplog.records] == [
        "The last feature map has 1 cell(s) a side, so `pool` 2 repeats values: give 1."
    ]
