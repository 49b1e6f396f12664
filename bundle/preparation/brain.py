"""Where the brain is in a head: deepbet's network, whose weights come with it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bundle.extras import require


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
    found = np.asanyarray(mask.dataobj) > 0
    if not found.any():
        raise NoBrainError("No brain was found; is this the T1w scan of a whole head?")
    return found


def share_on_border(mask: NDArray[np.bool_]) -> float:
    """Share of a mask's voxels that lie on a face of the field of view."""
    inner = mask[1:-1, 1:-1, 1:-1]
    return 1 - int(np.count_nonzero(inner)) / max(int(np.count_nonzero(mask)), 1)
