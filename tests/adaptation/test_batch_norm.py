"""Statistics of batch norm are those of the volumes that each layer sees; weights stay as they are."""

import copy

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet
from torch import nn

from bundle.adaptation import batch_norms, estimate_statistics, even_batches
from bundle.evaluation.features import calibrate


def network(norm=nn.BatchNorm3d):
    torch.manual_seed(0)
    layers = nn.Conv3d(1, 3, 3), norm(3), nn.ReLU(), nn.Dropout(0.5), nn.Conv3d(3, 2, 3), norm(2), nn.ReLU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten())


def volumes(n, seed=0, shift=2.0, scale=3.0):
    return shift + scale * torch.randn(n, 1, 7, 8, 7, generator=torch.Generator().manual_seed(seed))


def by_loops(net, batches):
    """Mean and unbiased variance of each channel before each batch norm, channel by channel, mean over batches."""
    found = []
    for values in batches:
        told = []
        for layer in net:
            if isinstance(layer, nn.BatchNorm3d):
                columns = [values[:, c].flatten() for c in range(values.shape[1])]
                told.append([(float(v.mean()), float(v.var())) for v in columns])
                normed = [
                    (values[:, c] - v.mean()) / torch.sqrt(v.var(correction=0) + layer.eps)
                    for c, v in enumerate(columns)
                ]
                values = torch.stack(normed, 1)
                values = values * layer.weight[:, None, None, None] + layer.bias[:, None, None, None]
            elif not isinstance(layer, nn.Dropout):
                values = layer(values)
        found.append(told)
    return [np.mean([batch[i] for batch in found], axis=0) for i in range(2)]


@torch.no_grad()
def test_statistics_are_those_of_a_loop():
    net = network()
    net.train()(volumes(8, seed=9))  # statistics of a training
    weights = {name: value.clone() for name, value in net.named_parameters()}
    batches = [volumes(20), volumes(21, seed=1)]
    expected = by_loops(copy.deepcopy(net), batches)
    estimate_statistics(net, batches)
    for norm, known in zip(batch_norms(net), expected, strict=True):
        assert norm.running_mean.numpy() == pytest.approx(known[:, 0], abs=1e-5)
        assert norm.running_var.numpy() == pytest.approx(known[:, 1], rel=1e-4)
        assert norm.momentum == 0.1
    assert all(torch.equal(value, weights[name]) for name, value in net.named_parameters())
    assert not any(module.training for module in net.modules())


@torch.no_grad()
def test_a_site_that_is_moved_and_stretched_gives_the_same_answers():
    net, known = network(), volumes(24, shift=0.0, scale=1.0)
    net[0].bias.zero_()
    estimate_statistics(net, [known])
    own = net(known)
    estimate_statistics(net, [5 * known + 1])
    # the first convolution's own padding is none: a shift and a factor of the image are ones of each channel
    assert net(5 * known + 1).numpy() == pytest.approx(own.numpy(), abs=1e-3)


def test_calibration_of_a_random_encoder_is_the_same_computation():
    first = DenseNet(3, 1, 2, init_features=4, growth_rate=2, block_config=(1, 1))
    second = copy.deepcopy(first)
    images = torch.randn(20, 1, 16, 16, 16)
    calibrate(first, [{"image": images}], "cpu")
    estimate_statistics(second, [images])
    for (name, one), (_, other) in zip(first.named_buffers(), second.named_buffers(), strict=True):
        assert torch.equal(one, other), name


def test_other_norms_are_none():
    assert batch_norms(network(nn.InstanceNorm3d)) == []
    assert batch_norms(nn.BatchNorm3d(2, track_running_stats=False)) == []
    assert len(batch_norms(network())) == 2


@pytest.mark.parametrize(("count", "sizes"), [(20, [20]), (39, [39]), (40, [20, 20]), (65, [21, 22, 22]), (3, [3])])
def test_batches_are_even(count, sizes):
    found = list(even_batches(count))
    assert [len(rows) for rows in found] == sizes
    assert [row for rows in found for row in rows] == list(range(count))
