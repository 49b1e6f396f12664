"""Encoders made of MONAI's transformers: the encoder of SwinUNETR, and a ViT."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets import ViT
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bundle.networks.encoders import Encoder

LAYERS = 256  # at most, of a network


class SwinEncoder(Encoder):
    """The encoder of MONAI's SwinUNETR, its last feature map averaged: a volume becomes an embedding.

    Names of its tensors are those of `monai.networks.nets.SwinUNETR`, which calls its encoder `swinViT`. Volumes may
    have any size; the network itself fills up windows that they do not divide into. Each stage halves the sides: of
    40×48×40 voxels 2×2×2 cells are left.

    Args:
        in_channels: Channels of a volume.
        feature_size: Features of the first stage; each of the four stages doubles them.
        depths: Attention layers of each stage.
        num_heads: Attention heads of each stage.
        window_size: Cells along each side of a window.

    Shape:
        volumes (N, C, D, H, W), output (N, E) with E = `embedding_size` = 16 · feature_size.

    Raises:
        ValueError: for sizes that do not fit each other, or without einops.

    Source:
        Hatamizadeh et al., BrainLes 2021 (Swin UNETR); Tang et al., CVPR 2022 (its pretraining).
    """

    def __init__(
        self,
        in_channels: int = 1,
        feature_size: int = 24,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
    ) -> None:
        super().__init__()
        _check_installed()
        _check_stages(feature_size, depths, num_heads)
        sizes = {"in_channels": in_channels, "feature_size": feature_size, "window_size": window_size}
        self.arguments = {**sizes, "depths": list(depths), "num_heads": list(num_heads)}
        self.embedding_size = 16 * feature_size
        with _RatesOnTheCpu():
            self.swinViT = SwinTransformer(
                in_channels, feature_size, [window_size] * 3, [2] * 3, list(depths), list(num_heads), spatial_dims=3
            )

    def feature_map(self, volumes: Tensor) -> Tensor:
        """The last feature map (N, E, d, h, w) of volumes (N, C, D, H, W), normalised over its features."""
        return self.swinViT(volumes)[-1]


class ViTEncoder(Encoder):
    """MONAI's ViT without a class token, its tokens averaged: a volume becomes an embedding.

    Volumes of `image_size` are filled up to whole patches, by repeating their border. Names of the tensors are those of
    `monai.networks.nets.ViT`, under `vit`.

    Args:
        in_channels: Channels of a volume.
        image_size: Voxels of a volume, (D, H, W); others are refused, as a place has its own parameters.
        patch_size: Voxels along each side of a patch.
        hidden_size: Features of a token.
        mlp_dim: Features inside a layer.
        num_layers: Attention layers.
        num_heads: Attention heads; must divide hidden_size.

    Shape:
        volumes (N, C, D, H, W), output (N, E) with E = `embedding_size` = hidden_size.

    Raises:
        ValueError: for sizes that do not fit each other, volumes of another size, or without einops.

    Source:
        Dosovitskiy et al., ICLR 2021.
    """

    def __init__(
        self,
        in_channels: int = 1,
        image_size: Sequence[int] = (121, 145, 121),
        patch_size: int = 16,
        hidden_size: int = 384,
        mlp_dim: int = 1536,
        num_layers: int = 12,
        num_heads: int = 6,
    ) -> None:
        super().__init__()
        _check_installed()
        if hidden_size % num_heads or len(image_size) != 3 or not 0 < num_layers <= LAYERS:
            raise ValueError(
                f"A ViT has three sides of a volume, up to {LAYERS} layers and a hidden_size that num_heads divides; "
                f"{list(image_size)}, {num_layers}, {hidden_size} and {num_heads} were given."
            )
        sizes = {"in_channels": in_channels, "image_size": list(image_size), "patch_size": patch_size}
        layers = {"hidden_size": hidden_size, "mlp_dim": mlp_dim, "num_layers": num_layers, "num_heads": num_heads}
        self.arguments = {**sizes, **layers}
        self.embedding_size = hidden_size
        self.image_size = tuple(image_size)
        self.cells = tuple(math.ceil(side / patch_size) for side in image_size)
        whole = [cells * patch_size for cells in self.cells]
        self.padding = [n for side, full in zip(image_size[::-1], whole[::-1], strict=True) for n in (0, full - side)]
        self.vit = ViT(in_channels, whole, patch_size, hidden_size, mlp_dim, num_layers, num_heads)

    def feature_map(self, volumes: Tensor) -> Tensor:
        """The tokens at their places, (N, E, d, h, w), of volumes (N, C, D, H, W)."""
        return self.placed(self.vit(self.filled_up(volumes))[0])

    def filled_up(self, volumes: Tensor) -> Tensor:
        """Volumes of `image_size`, by repeating their border, as whole patches."""
        if tuple(volumes.shape[2:]) != self.image_size:
            raise ValueError(
                f"This ViT was made for volumes of {_as_text(self.image_size)} voxels, but they have "
                f"{_as_text(volumes.shape[2:])}; set its image_size (and a patch_size that suits it)."
            )
        return F.pad(volumes, self.padding, mode="replicate")

    def placed(self, tokens: Tensor) -> Tensor:
        """Tokens (N, d · h · w, E) at their places, (N, E, d, h, w)."""
        return tokens.mT.unflatten(2, self.cells)


class _RatesOnTheCpu(TorchFunctionMode):
    """MONAI's Swin Transformer reads numbers of a tensor as it is made, which a network of shapes alone cannot."""

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        place = {"device": "cpu"} if func is torch.linspace else {}
        return func(*args, **{**(kwargs or {}), **place})


def _check_installed() -> None:
    if find_spec("einops") is None:
        raise ValueError("MONAI's transformers need einops, which is not installed: pip install einops")


def _check_stages(feature_size: int, depths: Sequence[int], num_heads: Sequence[int]) -> None:
    counts = (*depths, *num_heads)
    if len(depths) != 4 or len(num_heads) != 4 or min(counts) < 1 or sum(depths) > LAYERS:
        raise ValueError(
            f"A Swin encoder has four stages, but depths {list(depths)} and num_heads {list(num_heads)} were given; "
            "give four numbers of each."
        )
    for stage, heads in enumerate(num_heads):
        if feature_size * 2**stage % heads:
            raise ValueError(
                f"Stage {stage + 1} of a Swin encoder has {feature_size * 2**stage} features, which {heads} heads do "
                "not divide; change feature_size or num_heads."
            )


def _as_text(sides: Sequence[int]) -> str:
    return "×".join(map(str, sides))
