"""An encoder of somebody else: its names, its classes and its forward pass are nothing that the bundle knows."""

from torch import nn


class ThreeLayers(nn.Module):
    """The smallest thing that is an encoder.

    Args:
        width: numbers in its embedding.
    """

    def __init__(self, width=6):
        super().__init__()
        self.embedding_size = width
        self.first, self.norm = nn.Conv3d(1, width, 5, 4), nn.BatchNorm3d(width)
        self.head = nn.Linear(width, width)  # a name that files also have for what is no encoder's

    def forward(self, x):
        return self.head(self.norm(self.first(x)).relu().mean((2, 3, 4)))


class WithoutSize(nn.Conv3d):
    """No encoder: it does not say how large its embedding is."""


class Map(nn.Conv3d):
    """No encoder: it makes a map rather than a vector."""

    embedding_size = 4
