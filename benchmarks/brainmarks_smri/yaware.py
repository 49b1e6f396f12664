"""Brainmarks-sMRI's model of a frozen y-Aware encoder.

The benchmark hands over T1w scans; this encoder reads the grey-matter maps that CAT12, or `python -m bundle prepare`,
made of them. A map is found by the name of its scan: `sub-1_T1w.nii.gz` has `mwp1sub-1_T1w.nii` somewhere in the folder
of maps.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from brainmarks_smri.models.base import EmbeddingOutput, ImageInput, register_model
from torch import nn

from bundle.networks import load_encoder
from bundle.places import found
from bundle.scans.grid import Grid, to_grid
from bundle.scans.names import stem_of
from bundle.scans.scan import read_scan

SHAPE = (40, 48, 40)  # of the demonstration weights; 121 145 121 for maps of 1.5 mm
AFFINE = ((-4.5, 0, 0, 87.75), (0, 4.5, 0, -123.75), (0, 0, 4.5, -69.75), (0, 0, 0, 1))


class YAware(nn.Module):
    """A frozen encoder of grey-matter maps. Lesions are not its task: it has no dense embedding."""

    name = "yaware"

    def __init__(self, weights: Path, maps: Path, grid: Grid) -> None:
        super().__init__()
        self.encoder = load_encoder(weights).encoder.eval().requires_grad_(False)
        self.embed_dim = self.encoder.embedding_size
        self.patch_size = grid.shape
        self.grid = grid
        self.maps = {stem_of(path.name).removeprefix("mwp1"): path for path in sorted(maps.rglob("mwp1*.nii*"))}

    def transform(self, sample: ImageInput) -> dict[str, Any]:
        """The map of a scan, on the grid of the encoder, z-scored: (1, D, H, W)."""
        name = stem_of(Path(sample["image"].get_filename() or "").name)
        if name not in self.maps:
            raise ValueError(f"The scan '{name}' has no map mwp1{name}.nii among the {len(self.maps)} of --maps.")
        scan = read_scan(self.maps[name], self.grid)
        volume = np.asarray(to_grid(scan.volume, scan.affine, self.grid))
        return {"volume": torch.as_tensor((volume - volume.mean()) / volume.std())[None]}

    @torch.inference_mode()
    def forward_embeddings(self, samples: list[dict[str, Any]], return_dense: bool = False) -> list[EmbeddingOutput]:
        """The embedding of each sample, (E,) float32."""
        if return_dense:
            raise ValueError("The y-Aware encoder has no dense embedding, so that it takes no segmentation task.")
        volumes = torch.stack([sample["volume"] for sample in samples]).to(next(self.parameters()).device)
        nothing = {"dense_embedding": None, "dense_affine": None, "dense_mask": None}
        return [EmbeddingOutput(global_embedding=row.float(), **nothing) for row in self.encoder(volumes)]


@register_model
def yaware(maps: str, weights: str = "models/pretrained.pt", shape: Any = SHAPE, affine: Any = AFFINE) -> YAware:
    """The model.

    Args:
        maps: folder with the maps of all scans, at any depth.
        weights: of the encoder.
        shape: voxels of its grid.
        affine: of its grid, index → mm.
    """
    return YAware(found(weights), Path(maps), Grid.of(tuple(shape), affine))
