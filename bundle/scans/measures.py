"""What is measured of a map on a grid: numbers for its limits, and its likeness to other maps."""

from __future__ import annotations

import math

import numpy as np

from bundle.scans.grid import TISSUES, Array, Grid, templates
from bundle.scans.limits import likeness, limits_of
from bundle.scans.modality import GREY_MATTER, Modality

SIDES = (6, 8, 6)  # cells in which the two halves of a brain are compared
CELLS = (12, 14, 12)  # cells in which a map is compared with the mean of the training maps
INSIDE = 0.8  # of a cell that lies in the brain, from which it is compared
ZERO = 0.01  # grey-matter density below which a voxel is background; else a share of the 99th percentile
MEAN = "likeness to the training maps"


def measure(volume: Array, grid: Grid, modality: Modality = GREY_MATTER) -> dict[str, float]:
    """What is measured of a volume on a grid: one number for each of `limits_of(modality)`, in its unit.

    Args:
        volume: The map.
        grid: Grid on which it lies.
        modality: Modality of the map, of one channel.

    Shape:
        volume `grid.shape`.
    """
    known, strength = templates(grid), np.abs(volume)
    zero = ZERO if modality.is_amount else ZERO * float(np.percentile(strength, 99))
    total = float((volume if modality.is_amount else strength).sum(dtype=np.float64))
    outside = float((volume if modality.is_amount else strength)[known["brain"] <= 0].sum(dtype=np.float64))
    found = {
        "lowest value": float(volume.min()),
        "highest value": float(volume.max()),
        "background": 100 * float((strength < zero).mean()),
        "outside the brain": 100 * outside / total if total > 0 else 100.0,
        likeness(modality): correlation(volume, known[modality.tissue]),
    }
    if modality == GREY_MATTER:
        found |= _of_grey_matter(volume, grid, total)
    return {name: found[name] for name in limits_of(modality)}


def _of_grey_matter(volume: Array, grid: Grid, total: float) -> dict[str, float]:
    known = templates(grid)
    top, matter = float(volume.max()), int(np.count_nonzero(volume > ZERO))
    fits = {name: correlation(volume, known[name]) for name in TISSUES}
    other = max(fits["white matter"], fits["T1w"])
    return {
        "grey matter": total * grid.voxel_ml,
        "likeness to another tissue": other - fits["grey matter"],
        "plateau": 100 * int(np.count_nonzero(volume > 0.995 * top)) / max(1, matter),
    }


def sides(volume: Array, grid: Grid) -> Array:
    """Right minus left, in coarse cells of the half of the box.

    Shape:
        volume `grid.shape`, output (cells,).
    """
    cells = _in_cells(volume, SIDES)
    difference = (cells - cells[::-1])[: SIDES[0] // 2].ravel()
    return difference if grid.matrix[0, 0] < 0 else -difference


def pattern(volume: Array, grid: Grid) -> Array:
    """The map in coarse cells inside the brain, with mean 0 and standard deviation 1: where it is high, and where low.

    Shape:
        volume `grid.shape`, output (cells,).
    """
    inside = _in_cells(templates(grid)["brain"].astype(np.float32), CELLS) > INSIDE
    cells = _in_cells(volume, CELLS)[inside]
    spread = float(cells.std()) if cells.size else 0.0
    return (cells - cells.mean()) / spread if spread > 0 else np.zeros_like(cells)


def _in_cells(volume: Array, cells: tuple[int, int, int]) -> Array:
    """Means of coarse cells over the whole box."""
    import torch

    given = torch.as_tensor(np.ascontiguousarray(volume))[None]
    return torch.nn.functional.adaptive_avg_pool3d(given, cells)[0].numpy()


def correlation(a: Array, b: Array) -> float:
    """Pearson's correlation of two arrays of one shape; 0 where one of them is constant."""
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm > 0 else 0.0


def own_likeness(rows: Array) -> list[float]:
    """Likeness of each row to the mean of the others."""
    if len(rows) < 2:
        return [1.0] * len(rows)
    others = (rows.sum(0) - rows) / (len(rows) - 1)
    return [correlation(own, other) for own, other in zip(rows, others, strict=True)]
