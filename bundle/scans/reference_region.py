"""Images whose unit means nothing by itself, relative to a region that a disease leaves alone."""

from __future__ import annotations

from typing import cast

import numpy as np
from monai.data import MetaTensor

from bundle.scans.grid import Grid
from bundle.scans.placement import in_words
from bundle.scans.regions import REGIONS, region_weights

CEREBELLUM = tuple(place for place, name in enumerate(REGIONS) if name.startswith("cerebellum"))


def relative_to_cerebellum(volume: MetaTensor) -> MetaTensor:
    """Divide an image by its mean in the grey matter of the cerebellum, as is usual for FDG-PET in dementia.

    Args:
        volume: Image with the affine of its voxels, in MNI space.

    Shape:
        volume (1, D, H, W), output the same.

    Raises:
        ValueError: the image does not reach the cerebellum, or has no uptake there.
    """
    affine = getattr(volume, "affine", None)
    grid = Grid.of(volume.shape[-3:], np.eye(4) if affine is None else affine)
    weights = np.asarray(region_weights(grid)[list(CEREBELLUM)].sum(0)).ravel()
    size = float(weights.sum())
    mean = float(weights @ np.asarray(volume, dtype=np.float64).ravel()) / size if size > 0 else 0.0
    if not mean > 0:
        found = f"its mean there is {mean:g}" if size > 0 else f"the image ({in_words(grid)}) does not reach it"
        raise ValueError(
            f"The image cannot be divided by its mean in the cerebellum: {found}. Expected an image of the whole brain "
            "in MNI space, as a NIfTI file, whose values are above 0 there."
        )
    return cast("MetaTensor", volume / mean)
