"""The brain cut out of its head, on voxels of equal size, with the scanner's uneven brightness corrected."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.preparation.settings import Settings
from bundle.preparation.volumes import to_ants

BRIGHTEST = 99.8  # percentile of the brain's voxels above which values are cut
WHITE = 98  # percentile that becomes 1


def correct_bias(
    ants: Any, values: NDArray[np.float32], affine: NDArray[np.float64], mask: NDArray[np.bool_], settings: Settings
) -> tuple[Any, Any]:
    """Brain and mask as images of ANTs with voxels of `settings.working_mm`; the brightest tissue is about 1.

    Args:
        ants: The library.
        values: (X, Y, Z) of the head.
        affine: 4 × 4, index → mm.
        mask: (X, Y, Z) of the brain.
        settings: Settings of the preparation.

    Source:
        Tustison et al., N4ITK: improved N3 bias correction, 2010, as in ANTs.
    """
    values, affine, mask = _cropped(values, affine, mask, settings.margin_mm)
    top = float(np.percentile(values[mask], BRIGHTEST))
    head = to_ants(ants, np.clip(values - min(0.0, float(values.min())), 0, top) / top, affine)
    head = ants.resample_image(head, (settings.working_mm,) * 3, False, 0)
    inside = ants.resample_image_to_target(to_ants(ants, mask, affine), head, "linear")
    inside = ants.threshold_image(inside, 0.5, 2)
    steps = {"iters": list(settings.n4_iterations), "tol": 1e-6}
    head = ants.n4_bias_field_correction(head, mask=inside, shrink_factor=settings.n4_shrink, convergence=steps)
    brain = head * inside
    return brain / float(np.percentile(brain.numpy()[inside.numpy() > 0], WHITE)), inside


def _cropped(
    values: NDArray[np.float32], affine: NDArray[np.float64], mask: NDArray[np.bool_], margin_mm: float
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_]]:
    """The box around the brain, with a margin where there is one."""
    corners = np.argwhere(mask)
    margin = np.ceil(margin_mm / np.linalg.norm(affine[:3, :3], axis=0)).astype(int)
    low = np.maximum(corners.min(0) - margin, 0)
    high = np.minimum(corners.max(0) + margin + 1, mask.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    moved = affine.copy()
    moved[:3, 3] = affine[:3, :3] @ low + affine[:3, 3]
    return values[box], moved, mask[box]
