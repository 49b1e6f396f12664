"""The projector, and with an encoder the network that contrastive pretraining trains."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from bundle.networks.encoders import check_encoder, embed

PROJECTOR_LAYERS = (2, 3)


class Projector(nn.Module):
    """Linear layers with a ReLU between any two; contrastive losses see its output, downstream tasks never do.

    Args:
        embedding_size: Input features E.
        hidden_size: Features between the layers.
        projection_size: Output features.
        layers: Linear layers, 2 or 3.

    Shape:
        embedding (N, E), output (N, projection_size).

    Raises:
        ValueError: for another number of layers.

    Source:
        Dufumier et al., MICCAI 2021 (released code: 1024 → 512 → 128, no batch norm); three layers: Chen et al.,
        NeurIPS 2020 (there with batch norm).
    """

    def __init__(
        self, embedding_size: int, hidden_size: int = 512, projection_size: int = 128, layers: int = 2
    ) -> None:
        super().__init__()
        if layers not in PROJECTOR_LAYERS:
            raise ValueError(f"A projector has {' or '.join(map(str, PROJECTOR_LAYERS))} layers, not {layers!r}.")
        self.hidden = nn.Linear(embedding_size, hidden_size)
        if layers == 3:
            self.middle = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, projection_size)
        self.layers = layers

    def forward(self, embedding: Tensor) -> Tensor:
        """Project an embedding (N, E) to (N, projection_size)."""
        hidden = F.relu(self.hidden(embedding))
        return self.output(F.relu(self.middle(hidden)) if self.layers == 3 else hidden)


class ContrastiveNetwork(nn.Module):
    """An encoder and the projector on top of it.

    Args:
        encoder: Any module with `embedding_size`; see `check_encoder`.
        hidden_size: Hidden size of the projector.
        projection_size: Output size of the projector.
        projector_layers: Linear layers of the projector, 2 or 3.

    Shape:
        volumes (N, C, D, H, W), output (N, projection_size).
    """

    def __init__(
        self,
        encoder: nn.Module,
        hidden_size: int = 512,
        projection_size: int = 128,
        projector_layers: int = 2,
    ) -> None:
        super().__init__()
        size: int = check_encoder(encoder).embedding_size  # type: ignore[assignment]
        self.encoder = encoder
        self.projector = Projector(size, hidden_size, projection_size, projector_layers)

    def forward(self, volumes: Tensor) -> Tensor:
        """Project volumes."""
        return self.projector(embed(self.encoder, volumes))
