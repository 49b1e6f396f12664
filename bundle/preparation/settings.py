"""What the preparation with ANTs is set to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Parameters of the preparation; tests run it with larger voxels.

    Attributes:
        working_mm: Voxels of bias correction and segmentation.
        affine_mm: Voxels on which the affine is estimated, from coarse to fine.
        warp_mm: Voxels on which the warp is estimated.
        margin_mm: Space kept around the brain.
        n4_iterations: N4 iterations of N4, at each of its levels.
        n4_shrink: Voxels that N4 takes as one, along each axis.
        warp_iterations: Warp iterations, from coarse (two voxels of `warp_mm`) to fine (one).
        warp_step: Gradient step of SyN, voxels.
        warp_smoothing: Variance of the Gaussian over the whole warp after each step, voxels²; without it, SyN squeezes
            single places to a tenth of their volume where template and head disagree.
    """

    working_mm: float = 1.0
    affine_mm: tuple[float, ...] = (9.0, 6.0, 4.5, 3.0)
    warp_mm: float = 3.0
    margin_mm: float = 12.0
    n4_iterations: tuple[int, ...] = (30, 20, 15)
    n4_shrink: int = 4
    warp_iterations: tuple[int, ...] = (50, 20)
    warp_step: float = 0.25
    warp_smoothing: float = 0.3
