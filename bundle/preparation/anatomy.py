"""The template that heads are brought to: CAT12's of geodesic shooting, read from an installed deepmriprep."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundle.extras import INSTALL
from bundle.scans.grid import NEWER, REFERENCE, to_grid
from bundle.scans.nifti import open_image

TISSUES, HEAD = "Template_4_GS.nii.gz", "Template_05mm_bet.nii.gz"
FINE = 3  # voxels of the head template along an axis in one of `NEWER`


@dataclass(frozen=True)
class Templates:
    """The average brain on `REFERENCE`, MNI152NLin2009cAsym.

    Attributes:
        brain: T1w without skull.
        mask: Mask where the brain is.
        gm: Probability of grey matter.
        wm: Probability of white matter.

    Source:
        Files of deepmriprep (MIT).
    """

    brain: NDArray[np.float32]
    mask: NDArray[np.bool_]
    gm: NDArray[np.float32]
    wm: NDArray[np.float32]


def find_templates() -> Path:
    """The folder of templates of the installed deepmriprep, which is not imported: it would load what nobody needs.

    Raises:
        ValueError: When it is not installed, or without its templates; says how to install it.
    """
    found = find_spec("deepmriprep")
    places = list(found.submodule_search_locations or []) if found else []
    for place in places:
        folder = Path(place) / "data" / "templates"
        if (folder / TISSUES).is_file() and (folder / HEAD).is_file():
            return folder
    raise ValueError(f"Preparing a T1w scan needs the templates of deepmriprep, which are not installed; {INSTALL}.")


@lru_cache(maxsize=1)
def read_templates() -> Templates:
    """The templates; read once a process.

    Raises:
        ValueError: When they are not installed, or are other files than those of deepmriprep 0.3.
    """
    folder = find_templates()
    tissues, head = open_image(folder / TISSUES), open_image(folder / HEAD)
    fine = tuple(FINE * n for n in NEWER.shape)
    if not NEWER.is_same(tissues.shape[:3], tissues.affine) or head.shape != fine or head.affine[0, 0] < 0:
        raise ValueError(f"The templates in {folder} are not those of deepmriprep 0.3.0; install that version.")
    gm, wm = (to_grid(np.asarray(tissues.dataobj[..., k], np.float32), NEWER.matrix, REFERENCE) for k in (0, 1))
    brain, inside = _averaged(np.asarray(head.dataobj, np.float32)[::-1])
    return Templates(brain, inside > 0.5, gm.clip(0, 1), wm.clip(0, 1))


def _averaged(head: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean, and share of voxels in the brain, of the head template in each voxel of `REFERENCE`."""
    x, y, z = NEWER.shape
    cells = head.reshape(x, FINE, y, FINE, z, FINE)
    means = (cells.mean((1, 3, 5)), (cells > 0).mean((1, 3, 5), dtype=np.float32))
    brain, inside = (to_grid(values, NEWER.matrix, REFERENCE) for values in means)
    return brain, inside
