"""The nonlinear warp between a brain and the template: SyN on grey and white matter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.preparation.settings import Settings
from bundle.preparation.volumes import coarser

SPACE_MM = 10.5  # kept around the template's brain: half the voxels of the whole box


@dataclass(frozen=True)
class Warp:
    """An affine, and displacements where they are known, as files of ANTs.

    Attributes:
        affine: Affine, from the template to the head.
        forward: Displacements on the voxels of the template that bring a head to it.
        backward: Displacements that bring the template to a head.
    """

    affine: Path
    forward: Path | None = None
    backward: Path | None = None

    def to_template(self, ants: Any, image: Any, template: Any) -> NDArray[np.float32]:
        """Values of a head's image on the voxels of a template."""
        files = [str(file) for file in (self.forward, self.affine) if file]
        return ants.apply_transforms(template, image, files, "linear").numpy()

    def to_head(self, ants: Any, image: Any, head: Any) -> NDArray[np.float32]:
        """Values of a template's image on the voxels of a head."""
        files = [str(file) for file in (self.affine, self.backward) if file]
        inverted = [True, False][: len(files)]
        return ants.apply_transforms(head, image, files, "linear", whichtoinvert=inverted).numpy()


def warp_tissues(
    ants: Any, templates: tuple[Any, Any], tissues: tuple[Any, Any], affine: Path, settings: Settings, folder: Path
) -> Warp:
    """Estimate the warp; mean squares of both tissues, so that it does not depend on the number of threads.

    Args:
        ants: The library.
        templates: Grey and white matter of the template.
        tissues: Grey and white matter of the head.
        affine: Affine where the warp begins.
        settings: Settings of the preparation.
        folder: Folder that receives the files.

    Source:
        Avants et al., Symmetric diffeomorphic image registration with cross-correlation, 2008, as in ANTs.
    """
    size = settings.warp_mm
    fixed_gm, fixed_wm = (coarser(ants, _around_the_brain(ants, image, templates[0]), size) for image in templates)
    moving_gm, moving_wm = (coarser(ants, image, size) for image in tissues)
    found = ants.registration(
        fixed_gm,
        moving_gm,
        "SyNOnly",
        initial_transform=[str(affine)],
        syn_metric="meansquares",
        syn_sampling=1,
        multivariate_extras=[("meansquares", fixed_wm, moving_wm, 1, 1)],
        reg_iterations=settings.warp_iterations,
        grad_step=settings.warp_step,
        total_sigma=settings.warp_smoothing,
        outprefix=str(folder / "warp_"),
    )
    forward = next(name for name in found["fwdtransforms"] if name.endswith("Warp.nii.gz"))
    backward = next(name for name in found["invtransforms"] if name.endswith("InverseWarp.nii.gz"))
    fine = folder / "forward.nii"
    ants.image_write(_finer(ants, ants.image_read(forward), templates[0]), str(fine))
    return Warp(affine, fine, Path(backward))


def _finer(ants: Any, field: Any, template: Any) -> Any:
    """Displacements on a template's voxels: by cubic splines, so that their derivatives have no steps."""
    parts = [ants.resample_image_to_target(part, template, "bSpline") for part in ants.split_channels(field)]
    return ants.merge_channels(parts)


def _around_the_brain(ants: Any, image: Any, gm: Any) -> Any:
    """The part of a template's image that holds its brain, with some space."""
    corners = np.argwhere(gm.numpy() > 0.05)
    margin = np.ceil(SPACE_MM / np.asarray(gm.spacing)).astype(int)
    low = np.maximum(corners.min(0) - margin, 0)
    high = np.minimum(corners.max(0) + margin + 1, gm.shape)
    return ants.crop_indices(image, low.tolist(), high.tolist())
