"""What the preparation with ANTs is set to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Parameters of the preparation; tests run it with larger voxels.

    Attributes:
        working_mm: Voxels of bias correction and segmentation.
        matching_mm: Voxels on which affine and warp are estimated.
        margin_mm: Space kept around the brain.
        n4_iterations: Of N4, at each of its levels.
        n4_shrink: Voxels that N4 takes as one, along each axis.
        affine_iterations: From coarse (three voxels of `matching_mm`) to fine (one).
        warp_iterations: From coarse (two voxels of `matching_mm`) to fine (one).
        warp_step: Gradient step of SyN, voxels.
        seed: Of the voxels that the affine's metric looks at.
    """

    working_mm: float = 1.0
    matching_mm: float = 3.0
    margin_mm: float = 12.0
    n4_iterations: tuple[int, ...] = (30, 20, 15)
    n4_shrink: int = 4
    affine_iterations: tuple[int, ...] = (1000, 500, 250)
    warp_iterations: tuple[int, ...] = (60, 30)
    warp_step: float = 0.25
    seed: int = 1
