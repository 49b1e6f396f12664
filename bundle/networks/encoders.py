"""Encoders: a volume becomes an embedding."""

from __future__ import annotations

import contextlib
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets import DenseNet, ResNet
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bundle.hints import say_once
from bundle.networks.pools import AveragePool, MaxPool

GROUPS = 8  # of group norm; must divide the channels of every layer
NORMS: dict[str, Any] = {"batch": "batch", "group": ("group", {"num_groups": GROUPS})}
RESNET_PARTS = ("conv1", "bn1", "act", "maxpool", "layer1", "layer2", "layer3", "layer4")


class Encoder(nn.Module):
    """A volume becomes an embedding; the base of our own encoders.

    Any other module can take its place: all that is needed is `embedding_size` and a forward pass from volumes
    (N, C, D, H, W) to embeddings (N, embedding_size); see `check_encoder`.

    Attributes:
        features: Volumes (N, C, D, H, W) to the last feature map (N, E, d, h, w), of convolutional encoders.
        embedding_size: E.
        arguments: What the encoder was made with, for its card: plain values by name.
        checkpointing: Compute activations again in the backward pass rather than keep them.
    """

    features: nn.Sequential
    embedding_size: int
    arguments: dict[str, Any]
    checkpointing: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.last_map = nn.Identity()  # where maps of a network find its last feature map

    def forward(self, volumes: Tensor, pool: int = 1) -> Tensor:
        """Embed volumes.

        Args:
            volumes: Preprocessed volumes.
            pool: Average the feature map to pool³ cells: 1 for the embedding, 2 for the paper's probe features.

        Shape:
            volumes (N, C, D, H, W), output (N, E · pool³).
        """
        cells = self.last_map(self.feature_map(volumes))
        if pool > (fewest := min(cells.shape[2:])):
            say_once(
                f"The last feature map has {fewest} cell(s) a side, so `pool` {pool} repeats values: give {fewest}."
            )
        return F.adaptive_avg_pool3d(cells, pool).flatten(1)

    def feature_map(self, volumes: Tensor) -> Tensor:
        """The last feature map (N, E, d, h, w) of volumes (N, C, D, H, W)."""
        return F.relu(self._features(volumes))

    def _features(self, volumes: Tensor) -> Tensor:
        if not (self.checkpointing and torch.is_grad_enabled()):
            return self.features(volumes)
        for unit in checkpointed_units(self.features):
            volumes = _checkpointed(unit, volumes)
        return volumes


def check_encoder(encoder: object) -> nn.Module:
    """Refuse what can be no encoder, before anything is trained on top of it.

    Args:
        encoder: A module with `embedding_size`.

    Raises:
        ValueError: says what is missing, and how to add it.
    """
    size = getattr(encoder, "embedding_size", None)
    if not isinstance(encoder, nn.Module) or type(size) is not int or size < 1:
        raise ValueError(
            f"The encoder {type(encoder).__name__} has embedding_size {size!r}, but an encoder is a module with a "
            "whole number `embedding_size`, whose forward pass makes embeddings (N, embedding_size) of volumes "
            "(N, C, D, H, W); set the attribute, or wrap the network in a module that has it."
        )
    return encoder


def embed(encoder: nn.Module, volumes: Tensor) -> Tensor:
    """An encoder's embedding of volumes, refused where it has another shape than the encoder says.

    Args:
        encoder: Encoder; see `check_encoder`.
        volumes: Preprocessed volumes.

    Shape:
        volumes (N, C, D, H, W), output (N, E) with E = `embedding_size`.

    Raises:
        ValueError: with the shape that was found.
    """
    embedding = encoder(volumes)
    expected = (len(volumes), encoder.embedding_size)
    if not isinstance(embedding, Tensor) or embedding.shape != expected:
        found = tuple(embedding.shape) if isinstance(embedding, Tensor) else f"a {type(embedding).__name__}"
        raise ValueError(
            f"The encoder {type(encoder).__name__} makes {found} of {len(volumes)} volumes, expected {expected}, "
            "as its embedding_size says; pool its output to a vector for each volume."
        )
    return embedding


def set_checkpointing(encoder: nn.Module, on: bool) -> None:
    """Have an encoder compute its activations again in the backward pass, in place of keeping them.

    Args:
        encoder: A DenseNet, ResNet or Swin encoder; changed in place.
        on: False leaves any encoder as it is.

    Raises:
        ValueError: for an encoder that cannot.
    """
    if not on:
        return
    if isinstance(encoder, Encoder) and hasattr(encoder, "features"):
        encoder.checkpointing = True
        return
    stages = [module for module in encoder.modules() if hasattr(module, "use_checkpoint")]
    if not stages:
        raise ValueError(f"`checkpointing` is of DenseNet, ResNet and Swin encoders, not of {type(encoder).__name__}.")
    for module in stages:
        module.use_checkpoint = True  # type: ignore[assignment]  # as MONAI's Swin Transformer calls it


def checkpointed_units(features: nn.Sequential) -> Iterator[nn.Module]:
    """What checkpointing computes again: the stem, every layer of every block, and whatever lies between two blocks."""
    parts = list(features)
    first = next(number for number, part in enumerate(parts) if isinstance(part, nn.Sequential))
    yield nn.Sequential(*parts[:first])
    for part in parts[first:]:
        layers = list(part.children())
        yield from layers if layers and all(any(layer.children()) for layer in layers) else [part]


def _checkpointed(unit: nn.Module, volumes: Tensor) -> Tensor:
    def contexts() -> tuple[contextlib.AbstractContextManager, contextlib.AbstractContextManager]:
        return contextlib.nullcontext(), statistics_kept(unit)

    output = checkpoint(unit, volumes, use_reentrant=False, context_fn=contexts)
    assert isinstance(output, Tensor)
    return output


@contextlib.contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Batch norm in training mode normalises by the batch, as always, but leaves its running statistics alone.

    For volumes that a training step looks at more than once, and that must count once.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:  # momentum 0: the statistics stay; the counter counts elsewhere
        norm.momentum, norm.num_batches_tracked = 0.0, torch.tensor(0, device=norm.weight.device)
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches


class DenseNetEncoder(Encoder):
    """MONAI's 3D DenseNet without its final norm and classifier: a volume becomes an embedding.

    The defaults are the paper's DenseNet121 (11.2 M parameters, 1,024-d embedding). Parameter names are those of
    `monai.networks.nets.DenseNet121`, so that weights move between the two by name.

    Args:
        in_channels: Channels of a volume.
        init_features: Filters of the stem convolution.
        growth_rate: Filters that each dense layer adds.
        block_config: Dense layers per block.
        norm: `batch`, or `group` (8 groups): a volume's embedding and gradient do not depend on its batch.

    Shape:
        volumes (N, C, D, H, W), output (N, E) with E = `embedding_size`.

    Raises:
        ValueError: for another norm, or layers that 8 groups do not divide.

    Source:
        Dufumier et al., MICCAI 2021, section 3; Huang et al., CVPR 2017; Wu and He, ECCV 2018 (group norm).
    """

    def __init__(
        self,
        in_channels: int = 1,
        init_features: int = 64,
        growth_rate: int = 32,
        block_config: Sequence[int] = (6, 12, 24, 16),
        norm: str = "batch",
    ) -> None:
        super().__init__()
        _check_norm(norm, init_features, growth_rate, block_config)
        sizes = {"in_channels": in_channels, "init_features": init_features, "growth_rate": growth_rate}
        self.arguments = {**sizes, "block_config": list(block_config), "norm": norm}
        densenet = DenseNet(
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=1,
            init_features=init_features,
            growth_rate=growth_rate,
            block_config=block_config,
            norm=NORMS[norm],
        )
        self.embedding_size = densenet.get_submodule("class_layers.out").get_parameter("weight").shape[1]
        self.features = densenet.features
        self.features.norm5 = nn.Identity()  # the released encoder has no final norm
        self.features.pool0 = MaxPool(kernel_size=3, stride=2, padding=1)
        for number in range(1, len(block_config)):
            transition = self.features.get_submodule(f"transition{number}")
            self.features.set_submodule(f"transition{number}", _pooled_first(transition))


def _pooled_first(transition: nn.Module) -> nn.Sequential:
    """A transition whose 1³ convolution sees an eighth of the voxels: it gives the same before the mean as after it."""
    parts = {"norm": transition.norm, "relu": transition.relu, "pool": AveragePool(), "conv": transition.conv}
    return nn.Sequential(OrderedDict(parts))  # type: ignore[arg-type]


def _check_norm(norm: str, init_features: int, growth_rate: int, block_config: Sequence[int]) -> None:
    if norm not in NORMS:
        raise ValueError(f"A norm is {' or '.join(NORMS)}, but '{norm}' was given.")
    channels = init_features
    for layers in block_config if norm == "group" else ():
        if channels % GROUPS or growth_rate % GROUPS:
            raise ValueError(
                f"Group norm has {GROUPS} groups, but init_features {init_features}, growth_rate {growth_rate} and "
                f"block_config {list(block_config)} make layers that {GROUPS} does not divide; take multiples of 16."
            )
        channels = (channels + layers * growth_rate) // 2


class ResNetEncoder(Encoder):
    """MONAI's 3D ResNet-18 without its classifier: a volume becomes an embedding.

    The defaults give a 512-d embedding (33.2 M parameters). Parameter names are those of
    `monai.networks.nets.resnet18`, under `features`.

    Args:
        in_channels: Channels of a volume.
        width: Filters of the stem and the first stage; each of the later three doubles them.

    Shape:
        volumes (N, C, D, H, W), output (N, E) with E = `embedding_size` = 8 · width.

    Source:
        He et al., CVPR 2016.
    """

    def __init__(self, in_channels: int = 1, width: int = 64) -> None:
        super().__init__()
        self.arguments = {"in_channels": in_channels, "width": width}
        resnet = ResNet(
            block="basic",
            layers=[2, 2, 2, 2],
            block_inplanes=[width * factor for factor in (1, 2, 4, 8)],
            spatial_dims=3,
            n_input_channels=in_channels,
            conv1_t_stride=2,
            feed_forward=False,
        )
        self.embedding_size = 8 * width
        self.features = nn.Sequential(OrderedDict((part, resnet.get_submodule(part)) for part in RESNET_PARTS))


def encoder_of(state_dict: Mapping[str, Tensor]) -> Encoder:
    """A new encoder of the architecture that an encoder's weights show.

    Args:
        state_dict: State dict of a `DenseNetEncoder` or a `ResNetEncoder`.

    Raises:
        ValueError: when the names are of neither.
    """
    if options := densenet_options(state_dict):
        return DenseNetEncoder(**options)
    if (stem := _kernels(state_dict, "features.conv1.weight")) is not None:
        return ResNetEncoder(stem.shape[1], stem.shape[0])
    raise ValueError(
        "These are no weights of a known encoder: neither features.conv0.weight and "
        "features.denseblock1.denselayer1.layers.conv2.weight (DenseNet) nor features.conv1.weight (ResNet) is among "
        f"their {len(state_dict)} tensors ({', '.join(list(state_dict)[:3])}, …). Nothing was loaded."
    )


def densenet_options(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of `DenseNetEncoder` that weights show; empty when they are of no DenseNet.

    Args:
        state_dict: State dict of an encoder.
    """
    stem = _kernels(state_dict, "features.conv0.weight")
    first = _kernels(state_dict, "features.denseblock1.denselayer1.layers.conv2.weight")
    if stem is None or first is None:
        return {}
    return {
        "in_channels": stem.shape[1],
        "init_features": stem.shape[0],
        "growth_rate": first.shape[0],
        "block_config": _dense_blocks(state_dict),
        "norm": "batch" if "features.norm0.running_mean" in state_dict else "group",
    }


def _kernels(state_dict: Mapping[str, Tensor], name: str) -> Tensor | None:
    """The kernels of a 3D convolution, where there are any."""
    found = state_dict.get(name)
    return found if found is not None and found.ndim == 5 and 0 not in found.shape else None


def _dense_blocks(names: Mapping[str, Tensor]) -> list[int]:
    """Layers of each dense block: the highest number that any tensor's name has."""
    blocks: dict[int, int] = {}
    for name in names:
        if found := re.match(r"features\.denseblock(\d{1,9})\.denselayer(\d{1,9})\.", name, re.ASCII):
            block, layer = int(found[1]), int(found[2])
            if max(block, layer) > len(names):
                raise ValueError(f"A tensor is named {name}, but there are {len(names)} in all. Nothing was loaded.")
            blocks[block] = max(blocks.get(block, 0), layer)
    return [blocks.get(block, 0) for block in range(1, max(blocks) + 1)]
