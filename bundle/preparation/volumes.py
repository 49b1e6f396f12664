"""Arrays with an affine as images of ANTs, and back; ITK's axes run to the left and to the back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LPS = np.diag([-1.0, -1.0, 1.0])  # ITK's physical axes, in terms of NIfTI's


def to_ants(ants: Any, values: NDArray[Any], affine: NDArray[np.float64]) -> Any:
    """An image of ANTs.

    Args:
        ants: The library.
        values: (X, Y, Z), or (X, Y, Z, 3) for vectors in ITK's axes.
        affine: 4 × 4, index → mm.
    """
    turned = LPS @ affine[:3]
    spacing = np.linalg.norm(turned[:, :3], axis=0)
    return ants.from_numpy(
        np.ascontiguousarray(values, dtype=np.float32),
        origin=turned[:, 3].tolist(),
        spacing=spacing.tolist(),
        direction=turned[:, :3] / spacing,
        has_components=values.ndim == 4,
    )


def affine_of(image: Any) -> NDArray[np.float64]:
    """Index → mm of an image of ANTs, as NIfTI has it."""
    affine = np.eye(4)
    affine[:3, :3] = LPS @ (np.asarray(image.direction) * np.asarray(image.spacing))
    affine[:3, 3] = LPS @ np.asarray(image.origin)
    return affine


def write_affine(ants: Any, matrix: NDArray[np.float64], path: Path) -> None:
    """Write an affine as a file of ANTs.

    Args:
        ants: The library.
        matrix: 4 × 4, from millimetres of the target to those of the image that is moved.
        path: Ends in `.mat`.
    """
    turned = LPS @ matrix[:3, :3] @ LPS
    transform = ants.create_ants_transform(
        transform_type="AffineTransform", precision="double", matrix=turned, offset=(LPS @ matrix[:3, 3]).tolist()
    )
    ants.write_transform(transform, str(path))


def coarser(ants: Any, image: Any, size: float) -> Any:
    """An image with larger voxels, smoothed before, so that nothing finer than they are is left.

    Args:
        ants: The library.
        image: Its image.
        size: Edge of the new voxels, mm; those of the image where they are larger.
    """
    size = max(size, *image.spacing)
    blur = [0.425 * np.sqrt(max(size**2 - mm**2, 0.0)) for mm in image.spacing]  # FWHM: what the voxels grow by
    smooth = ants.smooth_image(image, blur, sigma_in_physical_coordinates=True)
    return ants.resample_image(smooth, (size,) * 3, False, 0)


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Overlap of two masks: 1 where they are the same, 0 where they share nothing."""
    total = int(np.count_nonzero(first)) + int(np.count_nonzero(second))
    return 2 * int(np.count_nonzero(first & second)) / max(total, 1)
