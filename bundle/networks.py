"""Encoder, projector, and the two together as the network that contrastive pretraining trains."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from monai.networks.nets import DenseNet
from torch import Tensor, nn


class Encoder(nn.Module):
    """What pretraining and probing ask of an encoder: volumes in, `embedding_size` features out, `pool` on demand."""

    embedding_size: int


class DenseNetEncoder(Encoder):
    """MONAI's 3D DenseNet without its final norm and classifier: a volume becomes an embedding.

    The defaults are the paper's DenseNet121 (11.2 M parameters, 1,024-d embedding). Parameter names are those of
    `monai.networks.nets.DenseNet121`, so that weights move between the two by name.

    Args:
        in_channels: channels of a volume.
        init_features: filters of the stem convolution.
        growth_rate: filters that each dense layer adds.
        block_config: dense layers per block.

    Shape:
        volumes (N, C, D, H, W), output (N, E) with E = `embedding_size`.

    Source:
        Dufumier et al., MICCAI 2021, section 3; Huang et al., CVPR 2017.
    """

    def __init__(
        self,
        in_channels: int = 1,
        init_features: int = 64,
        growth_rate: int = 32,
        block_config: Sequence[int] = (6, 12, 24, 16),
    ) -> None:
        super().__init__()
        densenet = DenseNet(
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=1,
            init_features=init_features,
            growth_rate=growth_rate,
            block_config=block_config,
        )
        self.embedding_size = densenet.get_submodule("class_layers.out").get_parameter("weight").shape[1]
        self.features = densenet.features
        self.features.norm5 = nn.Identity()  # the released encoder has no final norm

    def forward(self, volumes: Tensor, pool: int = 1) -> Tensor:
        """Embed volumes.

        Args:
            volumes: preprocessed volumes.
            pool: average the feature map to pool³ cells: 1 for the embedding, 2 for the paper's probe features.

        Shape:
            volumes (N, C, D, H, W), output (N, E · pool³).
        """
        return F.adaptive_avg_pool3d(F.relu(self.features(volumes)), pool).flatten(1)


class Projector(nn.Module):
    """Two linear layers with a ReLU between; contrastive losses see its output, downstream tasks never do.

    Args:
        embedding_size: input features E.
        hidden_size: features between the layers.
        projection_size: output features.

    Shape:
        embedding (N, E), output (N, projection_size).

    Source:
        Dufumier et al., MICCAI 2021 (released code: 1024 → 512 → 128, no batch norm).
    """

    def __init__(self, embedding_size: int, hidden_size: int = 512, projection_size: int = 128) -> None:
        super().__init__()
        self.hidden = nn.Linear(embedding_size, hidden_size)
        self.output = nn.Linear(hidden_size, projection_size)

    def forward(self, embedding: Tensor) -> Tensor:
        """Project an embedding (N, E) to (N, projection_size)."""
        return self.output(F.relu(self.hidden(embedding)))


class ContrastiveNetwork(nn.Module):
    """An encoder and the projector on top of it.

    Args:
        encoder: has `embedding_size`.
        hidden_size: of the projector.
        projection_size: of the projector.

    Shape:
        volumes (N, C, D, H, W), output (N, projection_size).
    """

    def __init__(self, encoder: Encoder, hidden_size: int = 512, projection_size: int = 128) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = Projector(encoder.embedding_size, hidden_size, projection_size)

    def forward(self, volumes: Tensor) -> Tensor:
        """Project volumes."""
        return self.projector(self.encoder(volumes))
