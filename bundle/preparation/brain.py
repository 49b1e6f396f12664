"""Where the brain is in a head: deepbet's network, whose weights come with it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bundle.extras import require

SHELL = 3  # voxels around a mask
STRIPPED = 0.5  # share of them that is empty where the skull was removed
SULCI_MM = 8.0  # half the width of what is closed
RIM_MM = 1.5  # of CSF, kept around the brain


class NoBrainError(ValueError):
    """A head in which no brain was found; the message is a sentence."""


@lru_cache(maxsize=1)
def _network() -> Any:
    return require("deepbet", "Finding the brain in a head").BrainExtraction(no_gpu=True)


def find_brain(values: NDArray[np.float32], affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The mask of the brain.

    Args:
        values: (X, Y, Z) of the head, axes towards right, anterior, superior.
        affine: 4 × 4, index → mm.

    Shape:
        Output as `values`.

    Raises:
        NoBrainError: When the network sees none.
        ValueError: When deepbet is not installed.

    Source:
        Fisch et al., deepbet: fast brain extraction of T1-weighted MRI using convolutional neural networks, 2023.
    """
    network = _network()
    head = nib.Nifti1Image(values - min(0.0, float(values.min())), affine)
    try:
        _, mask, _ = network.run(head)
    except (AssertionError, IndexError, ValueError, RuntimeError) as error:  # all of them for an empty first mask
        if "memory" in str(error):
            raise
        raise NoBrainError("No brain was found; is this the T1w scan of a whole head?") from error
    found = without_void(np.asanyarray(mask.dataobj) > 0, values, affine)
    if not found.any():
        raise NoBrainError("No brain was found; is this the T1w scan of a whole head?")
    return found


def without_void(
    mask: NDArray[np.bool_], values: NDArray[np.float32], affine: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """A mask without the empty space around a brain whose skull was removed before; the mask of a whole head stays.

    The network expects a skull, and sees its inside where a program has left nothing. Sulci and fissures stay in the
    mask: what was removed there is CSF.

    Args:
        mask: (X, Y, Z), of the network.
        values: (X, Y, Z), of the image.
        affine: 4 × 4, index → mm.
    """
    empty = values == values.min()
    shell = ndimage.binary_dilation(mask, iterations=SHELL) & ~mask
    if not shell.any() or empty[shell].mean() < STRIPPED:
        return mask
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    corners = np.argwhere(mask)
    box = tuple(slice(a, b + 1) for a, b in zip(corners.min(0), corners.max(0), strict=True))
    margin = [(n, n) for n in np.ceil(SULCI_MM / edges).astype(int) + 1]
    tissue = np.pad((mask & ~empty)[box], margin)
    near = ndimage.distance_transform_edt(~tissue, edges) <= SULCI_MM
    closed = ndimage.distance_transform_edt(near, edges) > SULCI_MM - RIM_MM
    found = np.zeros_like(mask)
    found[box] = closed[tuple(slice(before, -after) for before, after in margin)]
    return found & mask


def share_on_border(mask: NDArray[np.bool_]) -> float:
    """Share of a mask's voxels that lie on a face of the field of view."""
    inner = mask[1:-1, 1:-1, 1:-1]
    return 1 - int(np.count_nonzero(inner)) / max(int(np.count_nonzero(mask)), 1)
