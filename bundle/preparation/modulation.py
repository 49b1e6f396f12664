"""Grey matter of a head on the template's voxels, scaled so that its volume is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.preparation.warp import Warp

LEAST = 1e-3  # below, a voxel holds no grey matter


def modulate(warped_gm: NDArray[np.float32], jacobian: NDArray[np.float32], determinant: float) -> NDArray[np.float32]:
    """Grey matter per voxel of the template, as CAT12's `mwp1`: values above 1 where the head is larger.

    Args:
        warped_gm: (X, Y, Z) probability of grey matter on the template's voxels.
        jacobian: Volume of the head over that of the template at each voxel, without the affine's part.
        determinant: Determinant of the affine from the template to the head.
    """
    values = np.clip(warped_gm, 0, 1) * np.clip(jacobian, 0, None) * np.float32(abs(determinant))
    values[values < LEAST] = 0
    return values.astype(np.float32)


def jacobian_of(ants: Any, warp: Warp, template: Any) -> NDArray[np.float32]:
    """How a warp's displacements change volume at each voxel of the template.

    Args:
        ants: The library.
        warp: Its forward displacements lie on the template's voxels.
        template: An image on these voxels.

    Shape:
        Output as `template`.
    """
    return ants.create_jacobian_determinant_image(template, str(warp.forward), False, True).numpy()
