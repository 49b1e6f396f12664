"""Feature maps of every block, against forward passes that are cut off after it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bundle.networks.blocks import block_maps, chosen_blocks, number_of_blocks
from bundle.networks.encoders import DenseNetEncoder, ResNetEncoder
from bundle.networks.transformers import SwinEncoder, ViTEncoder

SIZES = (32, 40, 32)


def cut_off(features, last):
    """The output of a sequence's parts up to one by name."""

    def run(volumes):
        for name, part in features._modules.items():
            volumes = part(volumes)
            if name == last:
                return F.relu(volumes)
        raise AssertionError(last)

    return run


def of_swin(encoder, stage):
    def run(volumes):
        swin = encoder.swinViT
        cells = swin.pos_drop(swin.patch_embed(volumes))
        for number in range(1, stage + 1):
            cells = getattr(swin, f"layers{number}")[0](cells.contiguous())
        return F.layer_norm(cells.movedim(1, -1), [cells.shape[1]]).movedim(-1, 1)

    return run


def of_vit(encoder, layer):
    def run(volumes):
        tokens = encoder.vit.patch_embedding(F.pad(volumes, encoder.padding, mode="replicate"))
        for block in encoder.vit.blocks[:layer]:
            tokens = block(tokens)
        return encoder.vit.norm(tokens).transpose(1, 2).reshape(len(volumes), -1, *encoder.cells)

    return run


def cases():
    dense = DenseNetEncoder(1, 8, 4, (1, 2, 1), norm="batch")
    yield dense, [cut_off(dense.features, f"denseblock{n}") for n in (1, 2, 3)]
    resnet = ResNetEncoder(width=4)
    yield resnet, [cut_off(resnet.features, f"layer{n}") for n in (1, 2, 3, 4)]
    swin = SwinEncoder(feature_size=12, window_size=3, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2))
    yield swin, [of_swin(swin, stage) for stage in (1, 2, 3, 4)]
    vit = ViTEncoder(image_size=SIZES, patch_size=12, hidden_size=12, mlp_dim=16, num_layers=3, num_heads=2)
    yield vit, [of_vit(vit, layer) for layer in (1, 2, 3)]


@pytest.mark.parametrize("number", range(4), ids=["densenet", "resnet", "swin", "vit"])
def test_maps_are_those_of_forward_passes_that_stop_there(number):
    pytest.importorskip("einops")
    torch.manual_seed(0)
    encoder, stopped = list(cases())[number]
    encoder.eval()
    volumes = torch.randn(2, 1, *SIZES)
    with torch.no_grad():
        found, expected = block_maps(encoder, volumes), [run(volumes) for run in stopped]
        assert len(found) == len(expected) == number_of_blocks(encoder)
        for own, other in zip(found, expected, strict=True):
            torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)
        assert torch.equal(found[-1], encoder.feature_map(volumes))  # digit for digit
    assert not torch.equal(found[0].mean(), found[1].mean())


def test_which_blocks_are_asked_for():
    encoder = DenseNetEncoder(1, 8, 4, (1, 1, 1))
    assert chosen_blocks(encoder, "last") == []
    assert chosen_blocks(encoder, "all") == [1, 2]
    assert chosen_blocks(encoder, [2, 1]) == [1, 2]
    assert chosen_blocks(encoder, [3]) == []
    for wrong in ([0], [4], [1, 1], [], ["1"]):
        with pytest.raises(ValueError, match="DenseNetEncoder has the blocks 1 to 3"):
            chosen_blocks(encoder, wrong)


class Nameless(nn.Module):
    embedding_size = 3

    def forward(self, volumes):
        return volumes.mean((2, 3, 4)).repeat(1, 3)


class Named(nn.Module):
    embedding_size = 1

    def blocks(self):
        return 2

    def block_maps(self, volumes):
        return [volumes + 1, volumes]

    def forward(self, volumes, pool=1):
        return F.adaptive_avg_pool3d(volumes, pool).flatten(1)


def test_an_encoder_names_its_blocks_or_is_refused():
    assert chosen_blocks(Nameless(), "last") == []
    with pytest.raises(ValueError, match="The encoder Nameless names no blocks"):
        chosen_blocks(Nameless(), "all")
    with pytest.raises(ValueError, match="block_maps"):
        block_maps(Nameless(), torch.zeros(1, 1, 2, 2, 2))
    assert chosen_blocks(Named(), "all") == [1]
    assert block_maps(Named(), torch.zeros(1, 1, 2, 2, 2))[0].max() == 1
