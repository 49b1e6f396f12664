"""Brainmarks' wrapper of a frozen y-Aware encoder: grey-matter maps to embeddings.

Brainmarks finds this file as part of its namespace package `brainmarks.models` when `benchmarks/brainmarks/src` is on
the path.
"""

from pathlib import Path

import torch
from brainmarks.models.base import Embeddings
from brainmarks.models.registry import register_model
from torch import Tensor, nn

from bundle.networks import load_encoder
from bundle.places import found
from bundle.scans.grid import Grid, to_grid
from bundle.scans.scan import read_scan

SHAPE = (40, 48, 40)  # of the demonstration weights; 121 145 121 for maps of 1.5 mm
AFFINE = ((-4.5, 0, 0, 87.75), (0, 4.5, 0, -123.75), (0, 0, 4.5, -69.75), (0, 0, 0, 1))
SPACE = "grey_matter"


class YAware(nn.Module):
    """A frozen encoder; `cls` is its embedding, `patch` the means of the 2³ cells of its last feature map."""

    __space__ = SPACE

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        self.encoder = load_encoder(weights).encoder

    def forward(self, batch: dict[str, Tensor]) -> Embeddings:
        """Embeddings of preprocessed volumes `image` (B, 1, D, H, W)."""
        feature_map = self.encoder.feature_map(batch["image"])
        cells = nn.functional.adaptive_avg_pool3d(feature_map, 2).flatten(2).transpose(1, 2)
        return Embeddings(feature_map.mean(dim=(2, 3, 4))[:, None], None, cells)


class OnGrid:
    """A sample's map, read by its path, on the grid of the encoder, z-scored over the volume."""

    def __init__(self, shape: tuple[int, ...], affine: tuple[tuple[float, ...], ...]) -> None:
        self.grid = Grid.of(shape, affine)

    def __call__(self, sample: dict) -> dict[str, Tensor]:
        """`image` (1, D, H, W), and the target."""
        scan = read_scan(Path(sample["path"]), self.grid)
        volume = torch.as_tensor(to_grid(scan.volume, scan.affine, self.grid))
        kept = {name: value for name, value in sample.items() if name == "target"}
        return {"image": ((volume - volume.mean()) / volume.std(correction=0))[None], **kept}


@register_model
def yaware(
    weights: str = "models/pretrained.pt",
    shape: tuple[int, ...] = SHAPE,
    affine: tuple[tuple[float, ...], ...] = AFFINE,
) -> tuple[OnGrid, YAware]:
    """The transform and the model.

    Args:
        weights: of the encoder.
        shape: voxels of its grid.
        affine: of its grid, index → mm.
    """
    return OnGrid(tuple(shape), tuple(map(tuple, affine))), YAware(found(weights))
