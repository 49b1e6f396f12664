"""Images before anything shrinks them: means of an atlas' regions, and the voxels in a mask."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from monai.transforms import Compose
from torch import Tensor

from bundle.evaluation.features import Extractor, Images
from bundle.evaluation.plan import NATIVE, REGIONS
from bundle.scans.grid import Grid
from bundle.scans.parcels import brain_on, parcels_on
from bundle.scans.placement import grids_of, require_one_grid

MOVING = ("monai.transforms.spatial", "monai.transforms.croppad")  # steps that move, shrink, crop or pad
SOURCES = {NATIVE: "mask", REGIONS: "atlas"}  # features: the option that names a file for them
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NativeImages:
    """Images on the grid of their files, and what is read of them there.

    Args:
        images: How images become features; of their preprocessing, the steps that move, shrink, crop or pad are left
            out.
        atlas: File of whole-numbered labels of regions, in MNI space; None: parcels grown from published centres.
        mask: File whose voxels above 0 are looked at, in MNI space; None: the MNI152 template's brain mask.
    """

    images: Images
    atlas: str | None = None
    mask: str | None = None

    @cached_property
    def own(self) -> Images:
        """The images on their own grid; `images` itself where nothing moves them."""
        return without_moving(self.images)

    def extractors(self, asked: Collection[str], records: Sequence[Mapping], what: str) -> dict[str, Extractor]:
        """What computes each of the asked features of these images, in their volumes as `own` gives them.

        Nothing where the images' place is not known, which is logged.

        Args:
            asked: Names among `SOURCES`.
            records: Records of the images.
            what: Words that say whose they are, for messages.

        Raises:
            ValueError: the images lie on several grids; a file cannot be used with them; or a file was given and their
                place is not known.
        """
        if not asked or not records:
            return {}
        grid, reason = self._place(records, what)
        if grid is None:
            if named := [SOURCES[name] for name in SOURCES if name in asked and getattr(self, SOURCES[name])]:
                raise ValueError(f"`{named[0]}` cannot be used with {what}: {reason}. Leave it out.")
            logger.warning(f"{what}: no row of {' and '.join(sorted(asked))}, because {reason}.")
            return {}
        made: dict[str, Callable[[Grid], Extractor]] = {REGIONS: self._means, NATIVE: self._inside}
        return {name: made[name](grid) for name in SOURCES if name in asked}

    def _place(self, records: Sequence[Mapping], what: str) -> tuple[Grid | None, str]:
        """The grid of images, or why it is not known."""
        require_one_grid(records, what)
        first, *others = grids_of(records)
        if first is None or None in others:
            return None, "an array (.npy) does not say where its voxels lie"
        shape = tuple(self.own.preprocessing(dict(records[0]))["image"].shape[1:])
        if shape != first.shape:
            words = ["×".join(map(str, size)) for size in (first.shape, shape)]
            return None, f"images of {words[0]} voxels are preprocessed to {words[1]} by a step that is not MONAI's"
        return first, ""

    def _means(self, grid: Grid) -> Extractor:
        return partial(region_means, labels=torch.from_numpy(parcels_on(grid, self.atlas).labels))

    def _inside(self, grid: Grid) -> Extractor:
        inside = brain_on(grid, None if self.mask is None else Path(self.mask))
        return partial(voxels_inside, index=torch.from_numpy(np.flatnonzero(inside)))


def without_moving(images: Images) -> Images:
    """Images whose preprocessing leaves voxels where they are: its steps that move, shrink, crop or pad are left out.

    Args:
        images: How images become features; returned as it is where no step does so.
    """
    if not isinstance(images.preprocessing, Compose):
        return images
    steps = images.preprocessing.flatten().transforms
    kept = [step for step in steps if not type(step).__module__.startswith(MOVING)]
    return images if len(kept) == len(steps) else replace(images, preprocessing=Compose(kept))


def region_means(volumes: Tensor, labels: Tensor) -> Tensor:
    """Mean of each region.

    Args:
        volumes: Volumes.
        labels: Region of each voxel, from 1, each with a voxel; 0: of none.

    Shape:
        volumes (N, C, D, H, W), labels (D, H, W), output (N, C · regions).
    """
    regions = labels.flatten().to(volumes.device)
    inside = regions.nonzero().squeeze(1)
    places, count = regions[inside] - 1, int(regions.max())
    values = volumes.flatten(2)[..., inside].double()
    sums = values.new_zeros(*values.shape[:2], count).index_add_(2, places, values)
    return (sums / torch.bincount(places, minlength=count)).flatten(1)


def voxels_inside(volumes: Tensor, index: Tensor) -> Tensor:
    """The voxels of a mask.

    Args:
        volumes: Volumes.
        index: Voxels, in the order of `ravel`.

    Shape:
        volumes (N, C, D, H, W), index (p,), output (N, C · p).
    """
    return volumes.flatten(2)[..., index.to(volumes.device)].flatten(1)
