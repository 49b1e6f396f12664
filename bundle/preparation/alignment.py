"""The affine from a brain to the template, and what its matrix says about the head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.preparation.settings import Settings
from bundle.preparation.volumes import coarser

SHRINK, SMOOTH = (3, 2, 1), (2, 1, 0)  # voxels of `matching_mm`, from coarse to fine


def align(ants: Any, template: Any, brain: Any, settings: Settings, folder: Path) -> Path:
    """Estimate the affine; written as a file that ANTs reads.

    Args:
        ants: The library.
        template: T1w of the average brain, without skull.
        brain: T1w, without skull.
        settings: Of the preparation.
        folder: Folder that receives the file.
    """
    fixed, moving = (coarser(ants, image, settings.matching_mm) for image in (template, brain))
    found = ants.registration(
        fixed,
        moving,
        "Affine",
        aff_metric="mattes",
        aff_iterations=settings.affine_iterations,
        aff_shrink_factors=SHRINK,
        aff_smoothing_sigmas=SMOOTH,
        outprefix=str(folder / "affine_"),
    )
    return Path(found["fwdtransforms"][0])


def matrix_of(ants: Any, transform: Path) -> NDArray[np.float64]:
    """The 3 × 3 part of an affine of ANTs: from a millimetre of the template to one of the head."""
    return np.array(ants.read_transform(str(transform)).parameters[:9]).reshape(3, 3)


def measures_of(matrix: NDArray[np.float64]) -> dict[str, float]:
    """What an affine says about a head.

    Args:
        matrix: 3 × 3, from the template to the head.

    Returns:
        `affine_determinant` (volume of the head's brain over the template's), `zoom_least` and `zoom_most` (along its
        axes), `anisotropy` (their ratio), `rotation` (degrees).

    Example:
        >>> measures_of(np.diag([1.0, 1.0, 2.0]))["anisotropy"]
        2.0
    """
    left, zooms, right = np.linalg.svd(matrix)
    cosine = (np.trace(left @ right) - 1) / 2
    return {
        "affine_determinant": float(np.linalg.det(matrix)),
        "zoom_least": float(zooms.min()),
        "zoom_most": float(zooms.max()),
        "anisotropy": float(zooms.max() / zooms.min()),
        "rotation": float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))),
    }
