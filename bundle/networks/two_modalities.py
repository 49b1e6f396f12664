"""Two encoders, one for each modality, whose projectors end in one space."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class ModalityBatch(NamedTuple):
    """Volumes of two modalities, of which somebody may lack one.

    Attributes:
        first: Volumes of the first modality that are there.
        second: Volumes of the second modality that are there.
        first_rows: Rows of the output that they belong to, on the CPU.
        second_rows: Rows of the output that they belong to, on the CPU.
        rows: Number of rows of the output.

    Shape:
        first (n, C, D, H, W), second (m, C', D', H', W'), first_rows (n,), second_rows (m,).
    """

    first: Tensor
    second: Tensor
    first_rows: Tensor
    second_rows: Tensor
    rows: int

    @property
    def device(self) -> torch.device:
        """Where the volumes are."""
        return self.first.device

    @property
    def parts(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Volumes and rows of each modality."""
        return (self.first, self.first_rows), (self.second, self.second_rows)


class TwoModalityNetwork(nn.Module):
    """An encoder and a projector for each of two modalities; both projectors end in one space.

    Args:
        first: Encoder and projector of the first modality, a `ContrastiveNetwork`.
        second: Those of the second modality.

    Shape:
        volumes a `ModalityBatch`, output (rows, 2, projection_size), 0 where a modality is lacking. A tensor of volumes
        (N, C, D, H, W) stands for both modalities of everybody, for estimates by shapes.

    Raises:
        ValueError: when both are one network, or end in spaces of different sizes.
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        if {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}:
            raise ValueError("Both modalities have the same encoder or projector; give each its own.")
        sizes = [network.get_submodule("projector.output").out_features for network in (first, second)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"The projectors of two modalities end in one space, but their projection_size is {sizes[0]} and "
                f"{sizes[1]}; give both the same."
            )
        self.first, self.second = first, second

    @property
    def networks(self) -> tuple[nn.Module, nn.Module]:
        """Encoder and projector of each modality."""
        return self.get_submodule("first"), self.get_submodule("second")

    @property
    def encoder(self) -> nn.Module:
        """The first modality's encoder."""
        return self.get_submodule("first.encoder")

    @property
    def second_encoder(self) -> nn.Module:
        """The second modality's encoder."""
        return self.get_submodule("second.encoder")

    @property
    def projector(self) -> nn.Module:
        """The first modality's projector; the second's has as many layers."""
        return self.get_submodule("first.projector")

    def forward(self, volumes: ModalityBatch | Tensor) -> Tensor:
        """Project the volumes of both modalities."""
        if isinstance(volumes, Tensor):
            rows = torch.arange(len(volumes))
            volumes = ModalityBatch(volumes, volumes, rows, rows, len(volumes))
        found = [
            placed(network, *part, volumes.rows) for network, part in zip(self.networks, volumes.parts, strict=True)
        ]
        there = next(part for part in found if part is not None)
        first, second = (torch.zeros_like(there) if part is None else part for part in found)
        return torch.stack([first, second], dim=1)


def placed(network: nn.Module, volumes: Tensor, places: Tensor, rows: int) -> Tensor | None:
    """What a network makes of the volumes that are there, each in its row, and 0 in the others; None of no volume.

    Args:
        network: Network of volumes; it sees those that are there alone.
        volumes: Volumes that are there.
        places: Row of each, on the CPU.
        rows: Number of rows.

    Shape:
        volumes (n, C, D, H, W), places (n,), output (rows, D).
    """
    if not len(volumes):
        return None
    found = network(volumes)
    if len(volumes) == rows:
        return found
    return found.new_zeros((rows, *found.shape[1:])).index_copy(0, places.to(found.device, non_blocking=True), found)
