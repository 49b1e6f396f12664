"""A small encoder that the tests of both adversaries train."""

from torch import nn


class Flat(nn.Module):
    """An encoder of two layers over numbers in the place of volumes."""

    embedding_size = 5

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5))

    def forward(self, volumes):
        return self.layers(volumes)
