"""Where voxels lie: a grid of voxels in MNI space, and volumes brought onto it by their affine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
LONGEST = 512  # voxels along an axis
FINEST = 2**27  # voxels on which a volume is sampled, at most; coarser where a header claims tiny voxels
SAME_MM = 0.01  # affines that differ by less are the same
SAME_VOXEL = 1e-4  # voxels by which axes may run askew over a whole volume and be sampled one after the other
TISSUES = ("grey matter", "white matter", "T1w")


@dataclass(frozen=True)
class Grid:
    """Voxels in space.

    Attributes:
        shape: Voxels along each axis.
        affine: 4 × 4, rows as tuples: index → mm (RAS+, MNI).
    """

    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, shape: Any, affine: Any) -> Grid:
        """A grid from any sequences or arrays; coordinates are rounded to 1e-4."""
        rows = np.asarray(affine, dtype=float).round(4) + 0.0
        x, y, z = (int(n) for n in shape)
        return cls((x, y, z), tuple(tuple(float(v) for v in row) for row in rows))

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The affine as an array."""
        return np.array(self.affine)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel, mL."""
        return float(abs(np.linalg.det(self.matrix[:3, :3])) / 1000)

    @property
    def card(self) -> dict[str, Any]:
        """The grid as a card holds it."""
        return {"shape": list(self.shape), "affine": [list(row) for row in self.affine]}

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> Grid:
        """The inverse of `card`.

        Raises:
            ValueError: when it is no grid of a brain.
        """
        try:
            shape, affine = np.array(card["shape"]), np.array(card["affine"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"The card's grid has no shape and affine ({error!r}); restore the card.") from error
        if shape.shape != (3,) or shape.dtype.kind != "i" or not 0 < shape.min() <= shape.max() <= LONGEST:
            raise ValueError(f"The card's grid has {shape.tolist()} voxels, expected three numbers up to {LONGEST}.")
        numbers = affine.shape == (4, 4) and affine.dtype.kind in "if" and bool(np.isfinite(affine).all())
        if not numbers or not 1e-3 < abs(np.linalg.det(affine[:3, :3])) < 1e6:
            raise ValueError(f"The card's grid has no usable affine: {affine.tolist()}; restore the card.")
        return cls.of(shape, affine)

    def is_same(self, shape: Any, affine: Any) -> bool:
        """Whether other voxels are these."""
        return tuple(shape) == self.shape and bool(np.allclose(affine, self.matrix, atol=SAME_MM))

    def __str__(self) -> str:
        """Voxels and their size."""
        sizes = np.linalg.norm(self.matrix[:3, :3], axis=0)
        return f"{'×'.join(map(str, self.shape))} voxels of {'×'.join(f'{mm:g}' for mm in sizes.round(3))} mm"


# CAT12's and SPM's grid of 1.5 mm, which the paper and OpenBHB use; x decreases with the index.
REFERENCE = Grid.of((121, 145, 121), [[-1.5, 0, 0, 90], [0, 1.5, 0, -126], [0, 0, 1.5, -72], [0, 0, 0, 1]])

# The smaller box of the same voxels that newer CAT12, CAT26 and deepmriprep write: 4 voxels less on each side of the
# first two axes, 8 less at the upper end of the third.
NEWER = Grid.of((113, 137, 113), [[-1.5, 0, 0, 84], [0, 1.5, 0, -120], [0, 0, 1.5, -72], [0, 0, 0, 1]])
KNOWN_GRIDS = (REFERENCE, NEWER)  # where an array of their shape, which has no affine, is taken to lie


def to_grid(volume: Array, affine: NDArray[np.float64], grid: Grid, by_axis: bool = True) -> Array:
    """Bring a volume onto a grid by its affine: linear, zero outside, averaged where voxels become larger.

    Densities, such as modulated grey matter per voxel volume, stay densities: their sum times the voxel volume is kept.

    Args:
        volume: The values.
        affine: 4 × 4 of the volume, index → mm.
        grid: The target.
        by_axis: Where axes are parallel, an axis after the other: many times quicker, and exact; otherwise always by
            MONAI, whose coordinates are float32.

    Shape:
        volume (D, H, W), output `grid.shape`, float32. A volume that lies on the grid is returned as it is, and one
        that differs by its axes, whole voxels and its extent keeps every value.

    Example:
        >>> to_grid(np.ones((121, 145, 121), np.float32), REFERENCE.matrix, REFERENCE).shape
        (121, 145, 121)
    """
    if grid.is_same(volume.shape, affine):
        return np.asarray(volume, dtype=np.float32)
    if (turned := _moved_by_whole_voxels(volume, affine, grid)) is not None:
        return turned
    return _resampled(volume, affine, grid, by_axis)


def _resampled(volume: Array, affine: NDArray[np.float64], grid: Grid, by_axis: bool) -> Array:
    """The volume between its voxels, averaged where the grid is coarser."""
    step = np.linalg.norm((np.linalg.inv(affine) @ grid.matrix)[:3, :3], axis=0)  # of the target, in source voxels
    most = max(1, int((FINEST / np.prod(grid.shape)) ** (1 / 3)))
    parts = np.floor(step + 0.45).clip(1, most).astype(int)  # up to 1.5, linear interpolation suffices
    fine = grid.matrix
    fine[:3, :3] /= parts
    fine[:3, 3] -= grid.matrix[:3, :3] @ ((parts - 1) / (2 * parts))
    if by_axis and (sampled := _sampled_by_axis(volume, affine, grid, fine, parts)) is not None:
        return sampled
    size = [n * k for n, k in zip(grid.shape, parts.tolist(), strict=True)]
    return _sampled_by_monai(volume, affine, fine, size, parts.tolist())


def _sampled_by_monai(
    volume: Array, affine: NDArray[np.float64], fine: NDArray[np.float64], size: list[int], parts: list[int]
) -> Array:
    """The volume at the voxels of a fine grid, averaged in parts."""
    import torch  # here, so that who reads headers alone does not wait for it
    from monai.data import MetaTensor
    from monai.transforms import SpatialResample

    source = MetaTensor(
        torch.as_tensor(np.ascontiguousarray(volume, dtype=np.float32))[None], affine=torch.as_tensor(affine)
    )
    resample = SpatialResample(mode="bilinear", padding_mode="zeros", align_corners=True, dtype=np.float32)
    moved = resample(source, dst_affine=torch.as_tensor(fine), spatial_size=size)
    return torch.nn.functional.avg_pool3d(torch.as_tensor(np.asarray(moved)), tuple(parts))[0].numpy()


def _sampled_by_axis(
    volume: Array, affine: NDArray[np.float64], grid: Grid, fine: NDArray[np.float64], parts: NDArray[np.intp]
) -> Array | None:
    """The volume on a grid, an axis after the other; None where grid and volume are turned.

    Args:
        volume: The values.
        affine: 4 × 4 of the volume, index → mm.
        grid: The target.
        fine: 4 × 4 of the samples whose means are the target's values.
        parts: Samples along each axis of a voxel of the target.
    """
    matrix = np.linalg.inv(affine) @ fine
    axes = np.abs(matrix[:3, :3]).argmax(1)  # of the target, for each of the volume
    across = matrix[:3, :3].copy()
    across[np.arange(3), axes] = 0
    if len(set(axes)) < 3 or (np.abs(across) @ (np.array(grid.shape) * parts)).max() > SAME_VOXEL:
        return None
    weights = [
        _linear(row[axis] * np.arange(grid.shape[axis] * parts[axis]) + row[3], size, parts[axis])
        for row, axis, size in zip(matrix, axes, volume.shape, strict=False)
    ]
    found = np.einsum("ijk,ai,bj,ck->abc", np.asarray(volume, dtype=np.float32), *weights, optimize=True)
    return np.ascontiguousarray(found.transpose(np.argsort(axes)))


def _linear(places: NDArray[np.float64], size: int, parts: int) -> Array:
    """How much each voxel of an axis counts in each mean of `parts` samples; beyond the ends there is zero.

    Shape:
        places (targets · parts,), output (targets, size).
    """
    weights = np.maximum(1 - np.abs(places[:, None] - np.arange(size)), 0)
    return weights.reshape(-1, parts, size).mean(1).astype(np.float32)


def _moved_by_whole_voxels(volume: Array, affine: NDArray[np.float64], grid: Grid) -> Array | None:
    """The volume with axes exchanged and flipped, cropped and padded with zeros; None where that does not suffice."""
    if (whole := _whole_steps(volume.shape, affine, grid)) is None:
        return None
    axes = np.abs(whole[:3, :3]).argmax(1)  # of the volume, for each of the grid
    turned = np.transpose(volume, axes)
    signs = whole[np.arange(3), axes]
    turned = turned[tuple(slice(None, None, int(sign)) for sign in signs)]
    starts = np.where(signs > 0, whole[:3, 3], whole[:3, 3] - (np.array(volume.shape)[axes] - 1)).astype(int)
    moved = np.zeros(grid.shape, np.float32)
    ends = [min(n, start + size) for n, start, size in zip(grid.shape, starts, turned.shape, strict=True)]
    there = tuple(slice(max(0, start), max(0, end)) for start, end in zip(starts, ends, strict=True))
    here = tuple(slice(max(0, -start), max(0, end - start)) for start, end in zip(starts, ends, strict=True))
    moved[there] = turned[here]
    return moved


def is_exact(shape: tuple[int, ...], affine: NDArray[np.float64], grid: Grid) -> bool:
    """Whether `to_grid` keeps every value of a volume: it differs by its axes, whole voxels and its extent alone.

    Args:
        shape: (D, H, W) of the volume.
        affine: 4 × 4 of the volume, index → mm.
        grid: The target.
    """
    return _whole_steps(shape, affine, grid) is not None


def _whole_steps(shape: tuple[int, ...], affine: NDArray[np.float64], grid: Grid) -> NDArray[np.float64] | None:
    """Index of a volume → index of a grid, in whole numbers; None where voxels do not coincide."""
    matrix = np.linalg.inv(grid.matrix) @ affine
    whole = matrix.round()
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    corners[:, :3] *= np.array(shape) - 1
    off = np.abs(corners @ (matrix - whole).T).max()
    coincide = off * np.linalg.norm(grid.matrix[:3, 0]) <= SAME_MM and (np.abs(whole[:3, :3]).sum(0) == 1).all()
    return whole if coincide else None


@lru_cache(maxsize=4)
def templates(grid: Grid) -> dict[str, Array]:
    """The MNI152 2009 templates that nilearn holds, on a grid: one per tissue, and `brain`, its mask.

    Source:
        Fonov et al., 2009, as in nilearn.
    """
    from nilearn import datasets

    images = {
        "grey matter": datasets.load_mni152_gm_template(resolution=1),
        "white matter": datasets.load_mni152_wm_template(resolution=1),
        "T1w": datasets.load_mni152_template(resolution=1),
        "brain": datasets.load_mni152_brain_mask(resolution=1),
    }
    # By MONAI, as cards of models were measured: its last digits say where the mask of the brain is 0.
    volumes = {name: (image.get_fdata(dtype=np.float32), image.affine) for name, image in images.items()}
    return {name: to_grid(volume, affine, grid, by_axis=False) for name, (volume, affine) in volumes.items()}
