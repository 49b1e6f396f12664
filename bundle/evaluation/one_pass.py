"""Features of several blocks of an encoder from one forward pass of each batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from bundle.hints import say_once
from bundle.networks.blocks import block_maps
from bundle.training.engines import PrecisionInferer


@dataclass(frozen=True, eq=False)
class AllBlocks:
    """Features of every block of a frozen encoder: each feature map averaged to pool³ cells.

    Args:
        encoder: Encoder in evaluation mode, where its volumes will be.
        pool: Cells per side.
        precision: Precision of the forward pass; see `training.PrecisionInferer`.

    Shape:
        volumes (N, C, D, H, W), each output (N, E_k · pool³).
    """

    encoder: nn.Module
    pool: int
    precision: str

    def __call__(self, volumes: Tensor) -> list[Tensor]:
        """Features of volumes after each block."""
        maps = PrecisionInferer(self.precision)(volumes, lambda batch: block_maps(self.encoder, batch))
        if self.pool > (fewest := min(maps[-1].shape[2:])):
            say_once(
                f"The last feature map has {fewest} cell(s) a side, so `pool` {self.pool} repeats values: "
                f"give {fewest}."
            )
        return [F.adaptive_avg_pool3d(cells, self.pool).flatten(1) for cells in maps]


@dataclass(frozen=True)
class OneBlock:
    """Features of one block; an extractor, as `features.features_of` takes it.

    Args:
        every: Features of all blocks; extractors that share it share its forward pass.
        number: Number of the block, from 1 on; −1 for the last.
    """

    every: AllBlocks
    number: int

    def of(self, features: Sequence[Tensor]) -> Tensor:
        """This block's among the features of all."""
        return features[-1 if self.number == -1 else self.number - 1]

    def __call__(self, volumes: Tensor) -> Tensor:
        """Features of volumes (N, E_k · pool³)."""
        return self.of(self.every(volumes))


def outputs_of(extractors: Mapping[str, Callable[[Tensor], Tensor]], volumes: Tensor) -> dict[str, Tensor]:
    """What each of several extractors gives of a batch; blocks of one encoder come from one forward pass.

    Args:
        extractors: Name → what computes features.
        volumes: Volumes of the batch.

    Shape:
        volumes (N, C, D, H, W), each output (N, p).
    """
    passes: dict[AllBlocks, list[Tensor]] = {}  # of this batch alone: others are computed beside it
    found = {}
    for name, extractor in extractors.items():
        if isinstance(extractor, OneBlock):
            if extractor.every not in passes:
                passes[extractor.every] = extractor.every(volumes)
            found[name] = extractor.of(passes[extractor.every])
        else:
            found[name] = extractor(volumes)
    return found
