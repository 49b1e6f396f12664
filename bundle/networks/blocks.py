"""The feature maps of every block of an encoder, from one forward pass."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from bundle.networks.encoders import DenseNetEncoder, ResNetEncoder
from bundle.networks.transformers import SwinEncoder, ViTEncoder

LAST, ALL = "last", "all"
Layers = str | Sequence[int]


@singledispatch
def block_maps(encoder: nn.Module, volumes: Tensor) -> list[Tensor]:
    """The feature map after each block of an encoder; the last is the one that its embedding is the mean of.

    The blocks are the dense blocks of a DenseNet (after a ReLU, as the last one has it), the stages of a ResNet and of
    a Swin Transformer, and the attention layers of a ViT (after its final norm, each). Nothing is kept in the encoder,
    so that several threads may ask at once. Another encoder names its blocks by methods of its own: `blocks()`, how
    many there are, and `block_maps(volumes)`, beside `forward(volumes, pool)`.

    Args:
        encoder: Encoder in evaluation mode.
        volumes: Preprocessed volumes.

    Shape:
        volumes (N, C, D, H, W), each output (N, E_k, d_k, h_k, w_k).

    Raises:
        ValueError: for an encoder that names no blocks.
    """
    _require_names(encoder)
    return encoder.block_maps(volumes)  # type: ignore[operator]


@block_maps.register
def _(encoder: DenseNetEncoder, volumes: Tensor) -> list[Tensor]:
    return _maps_after(encoder.features, "denseblock", volumes)


@block_maps.register
def _(encoder: ResNetEncoder, volumes: Tensor) -> list[Tensor]:
    return _maps_after(encoder.features, "layer", volumes)


@block_maps.register
def _(encoder: SwinEncoder, volumes: Tensor) -> list[Tensor]:
    return list(encoder.swinViT(volumes)[1:])  # the first is what goes into the first stage


@block_maps.register
def _(encoder: ViTEncoder, volumes: Tensor) -> list[Tensor]:
    _, hidden = encoder.vit(encoder.filled_up(volumes))
    return [encoder.placed(encoder.vit.norm(tokens)) for tokens in hidden]


def _maps_after(features: nn.Sequential, beginning: str, volumes: Tensor) -> list[Tensor]:
    """What parts of a sequence give whose names begin so, after a ReLU; all parts run once."""
    maps = []
    for name, part in features.named_children():
        volumes = part(volumes)
        if name.startswith(beginning):
            maps.append(F.relu(volumes))
    return maps


@singledispatch
def number_of_blocks(encoder: nn.Module) -> int:
    """How many blocks an encoder has; see `block_maps`.

    Args:
        encoder: Encoder.

    Raises:
        ValueError: for an encoder that names no blocks.
    """
    _require_names(encoder)
    return int(encoder.blocks())  # type: ignore[operator]


@number_of_blocks.register(DenseNetEncoder)
@number_of_blocks.register(ResNetEncoder)
def _(encoder: DenseNetEncoder | ResNetEncoder) -> int:
    return sum(name.startswith(("denseblock", "layer")) for name, _ in encoder.features.named_children())


@number_of_blocks.register
def _(encoder: SwinEncoder) -> int:  # noqa: ARG001
    return 4


@number_of_blocks.register
def _(encoder: ViTEncoder) -> int:
    return len(encoder.vit.blocks)


def chosen_blocks(encoder: nn.Module, layers: Layers) -> list[int]:
    """The blocks before the last that are asked for, from 1 on; the last is probed in any case.

    Args:
        encoder: Encoder.
        layers: `last`, `all`, or numbers of blocks.

    Raises:
        ValueError: for a number that the encoder does not have, one that stands twice, or an encoder without blocks.
    """
    if layers == LAST:
        return []
    count = number_of_blocks(encoder)
    asked: list[Any] = list(range(1, count + 1)) if layers == ALL else list(layers)
    wrong = [number for number in asked if not isinstance(number, int) or not 1 <= number <= count]
    if wrong or not asked or len(set(asked)) < len(asked):
        raise ValueError(
            f"`layers` is {layers!r}, but {type(encoder).__name__} has the blocks 1 to {count}; give {LAST}, {ALL}, or "
            "numbers of blocks, each once."
        )
    return sorted(int(number) for number in asked if number != count)


def _require_names(encoder: nn.Module) -> None:
    own = hasattr(encoder, "blocks") and hasattr(encoder, "block_maps")
    if not own or "pool" not in inspect.signature(encoder.forward).parameters:
        raise ValueError(
            f"The encoder {type(encoder).__name__} names no blocks, so that only its last feature map can be probed. "
            "Leave `layers` out, or give it the methods blocks(), the number of its blocks, block_maps(volumes), a "
            "list of their feature maps (N, E, d, h, w), and forward(volumes, pool), which averages the last of them."
        )
