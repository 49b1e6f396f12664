"""Frozen embeddings of CAT12 grey-matter maps, in the form that BrainFMBench asks for.

The benchmark copies this file and the weights, and nothing else, to a machine without a network. So it needs only
torch, MONAI, NumPy and nibabel. Input: a folder per subject with one modulated grey-matter map. Output: a table with
the columns subject_id, f0, ..., f1023.
"""

from __future__ import annotations

import csv
import logging
import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.networks.nets import DenseNet121
from monai.transforms import SpatialResample

# The grid on which the encoder was pretrained: of the demonstration weights. For maps of 1.5 mm, as CAT12 writes them:
# GRID_SHAPE = (121, 145, 121) and GRID_AFFINE = [[-1.5, 0, 0, 90], [0, 1.5, 0, -126], [0, 0, 1.5, -72], [0, 0, 0, 1]].
GRID_SHAPE = (40, 48, 40)
GRID_AFFINE = [[-4.5, 0, 0, 87.75], [0, 4.5, 0, -123.75], [0, 0, 4.5, -69.75], [0, 0, 0, 1]]
EMBEDDING = 1024
MAPS = ("mwp1*.nii", "mwp1*.nii.gz", "normalized.nii.gz")  # CAT12's own names first, then the benchmark's one name
GATE = (16, 16, 16)  # voxels of the made-up volumes of the benchmark's check, which has no weights
LARGEST = 10.0  # of a modulated grey-matter map; usual maps stay below 3
logger = logging.getLogger("extract")


def extract(input_dir: str, output_csv: str, weights_dir: str) -> None:
    """Write one row of features for each subject.

    Args:
        input_dir: Folder with a folder per subject; each holds one map, at any depth.
        output_csv: The table to write.
        weights_dir: Folder with the one `.pt` file of an encoder.

    Raises:
        ValueError: A subject has no map or several, a map is no grey-matter map, or weights do not fit.
    """
    torch.manual_seed(0)
    maps = {folder.name: map_of(folder) for folder in sorted(Path(input_dir).iterdir()) if folder.is_dir()}
    if not maps:
        raise ValueError(f"{input_dir} has no folders; expected one for each subject, with a grey-matter map inside.")
    files = sorted(Path(weights_dir).glob("*.pt"))
    is_gate = not files and all(nib.load(path).shape == GATE for path in maps.values())
    if len(files) != 1 and not is_gate:
        raise ValueError(f"{weights_dir} has {len(files)} files .pt; expected one, with the weights of the encoder.")
    if is_gate:
        logger.warning("No weights: the features of these made-up volumes are those of a random encoder.")
    encoder = Encoder(files[0] if files else None)
    rows = {name: encoder.embed(read_map(path, check=not is_gate)) for name, path in maps.items()}
    write(Path(output_csv), rows)


def map_of(folder: Path) -> Path:
    """The one map of a subject."""
    for pattern in MAPS:
        found = sorted(folder.rglob(pattern))
        if len(found) > 1:
            raise ValueError(f"{folder} has {len(found)} files {pattern}; expected one map for each subject.")
        if found:
            return found[0]
    raise ValueError(f"{folder} has none of {', '.join(MAPS)}; expected a modulated grey-matter map of CAT12.")


def read_map(path: Path, check: bool = True) -> torch.Tensor:
    """A map on the grid of the encoder, averaged where voxels become larger, z-scored: (1, 1, D, H, W)."""
    image = nib.load(path)
    values = np.squeeze(np.asanyarray(image.dataobj)).astype(np.float32)
    if values.ndim != 3 or not np.isfinite(values).all():
        raise ValueError(f"{path} has the shape {values.shape} or values that are no numbers; expected one 3D map.")
    if check and (values.min() < 0 or values.max() > LARGEST):
        raise ValueError(
            f"{path} has values from {values.min():g} to {values.max():g}, but modulated grey matter lies between 0 "
            f"and {LARGEST:g}: this is another kind of image. Set `preprocessing: cat12` in model.yaml."
        )
    volume = on_grid(values, image.affine)
    return (volume - volume.mean()) / volume.std().clamp_min(1e-8)


def on_grid(values: np.ndarray, affine: np.ndarray) -> torch.Tensor:
    """Linear interpolation, as many times finer as voxels become larger, then the mean of each voxel."""
    target = np.array(GRID_AFFINE, float)
    step = np.linalg.norm((np.linalg.inv(affine) @ target)[:3, :3], axis=0)
    parts = np.floor(step + 0.45).clip(1, 4).astype(int)
    fine = target.copy()
    fine[:3, :3] /= parts
    fine[:3, 3] -= target[:3, :3] @ ((parts - 1) / (2 * parts))
    resample = SpatialResample(mode="bilinear", padding_mode="zeros", align_corners=True, dtype=np.float32)
    source = MetaTensor(torch.as_tensor(values)[None], affine=torch.as_tensor(affine))
    size = [int(n * k) for n, k in zip(GRID_SHAPE, parts)]  # noqa: B905  (the benchmark runs other Pythons)
    moved = resample(source, dst_affine=torch.as_tensor(fine), spatial_size=size)
    return torch.nn.functional.avg_pool3d(torch.as_tensor(np.asarray(moved))[None], tuple(parts.tolist()))


class Encoder:
    """A 3D DenseNet121 without its final norm and its classifier, frozen."""

    def __init__(self, weights: Path | None) -> None:
        network = DenseNet121(spatial_dims=3, in_channels=1, out_channels=2)
        self.features = torch.nn.Sequential(
            *(part for name, part in network.features.named_children() if name != "norm5")
        )
        names = [name for name, _ in network.features.named_children() if name != "norm5"]
        if weights is not None:
            self.load(weights, names)
        self.features.eval()

    def load(self, weights: Path, names: list[str]) -> None:
        """Every tensor, or none."""
        content = torch.load(weights, map_location="cpu", weights_only=True)
        content = content.get("model", content)
        parts = {f"features.{name}.": f"{number}." for number, name in enumerate(names)}
        found = {}
        for name, tensor in content.items():
            for start, other in parts.items():
                if name.removeprefix("encoder.").startswith(start):
                    found[other + name.removeprefix("encoder.")[len(start) :]] = tensor.float()
        expected = self.features.state_dict()
        if set(found) != set(expected) or any(found[name].shape != expected[name].shape for name in found):
            raise ValueError(
                f"{weights} has {len(found)} of the {len(expected)} tensors of a DenseNet121 encoder, or other shapes; "
                "expected the file pretrained.pt of this model."
            )
        self.features.load_state_dict(found)

    @torch.no_grad()
    def embed(self, volume: torch.Tensor) -> np.ndarray:
        """The embedding of a volume (1, 1, D, H, W): (1024,)."""
        return torch.relu(self.features(volume)).mean(dim=(2, 3, 4))[0].numpy()


def write(path: Path, rows: dict[str, np.ndarray]) -> None:
    """Write the table under another name, then rename it: it is whole, or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".part-{path.name}")
    with temporary.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["subject_id", *(f"f{number}" for number in range(EMBEDDING))])
        table.writerows([name, *(f"{value:.8g}" for value in features)] for name, features in rows.items())
    os.replace(temporary, path)  # noqa: PTH105


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    if len(sys.argv) != 4:
        raise SystemExit("usage: python extract.py INPUT_DIR OUTPUT_CSV WEIGHTS_DIR")
    extract(*sys.argv[1:])
