"""Named regions of the brain: soft ellipsoids about anatomical centres in MNI space, on any grid.

They are no anatomical parcellation: an ellipsoid follows no fold. Centres and half-axes are read off textbook atlases
in MNI space, rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bundle.scans.grid import Grid, templates
from bundle.scans.modality import GREY_MATTER, Modality


@dataclass(frozen=True)
class Ellipsoid:
    """Where a region lies in the right hemisphere; the left one is its mirror image.

    Attributes:
        centre: MNI mm.
        radii: Half-axes, mm.
    """

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]


ELLIPSOIDS: dict[str, Ellipsoid] = {
    "hippocampus": Ellipsoid((27, -22, -14), (10, 18, 10)),
    "amygdala": Ellipsoid((23, -2, -18), (10, 9, 9)),
    "entorhinal": Ellipsoid((23, -9, -34), (11, 13, 9)),
    "thalamus": Ellipsoid((12, -19, 8), (11, 15, 11)),
    "caudate": Ellipsoid((13, 12, 10), (9, 17, 12)),
    "insula": Ellipsoid((38, 5, -2), (10, 22, 16)),
    "superior_temporal": Ellipsoid((58, -17, 2), (15, 33, 13)),
    "inferior_temporal": Ellipsoid((48, -38, -22), (22, 35, 14)),
    "superior_frontal": Ellipsoid((18, 28, 50), (18, 37, 20)),
    "middle_frontal": Ellipsoid((40, 36, 22), (16, 26, 20)),
    "medial_frontal": Ellipsoid((8, 44, 4), (11, 24, 28)),
    "pars_opercularis": Ellipsoid((50, 14, 14), (13, 12, 15)),
    "precuneus": Ellipsoid((9, -60, 42), (12, 21, 23)),
    "parietal": Ellipsoid((44, -54, 44), (23, 23, 20)),
    "occipital": Ellipsoid((20, -86, 4), (27, 22, 28)),
    "precentral": Ellipsoid((42, -12, 48), (19, 15, 24)),
    "cerebellum": Ellipsoid((25, -62, -38), (30, 26, 20)),
}
REST = "rest"  # the grey matter outside the ellipsoids
SIDES = {"left": -1, "right": 1}  # the sign of x
REGIONS = (
    *(f"{name}_{side}" for side in SIDES for name in ELLIPSOIDS),
    REST,
)  # the order of all that is given by region
EDGE = 7.0  # steepness of an ellipsoid's edge, per relative radius
LEAST_TISSUE = 0.05  # of the template, below which a voxel belongs to no region
LEAST_WEIGHT = 1e-3  # below which a voxel is not counted to an ellipsoid


def memberships(points: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Soft membership of points in `REGIONS`; they add up to one at every point.

    Args:
        points: x, y and z in MNI mm, which broadcast against each other.

    Shape:
        output (35, …), the last axes those of the points.
    """
    x, y, z = points
    soft = [soft_inside(shape, (side * x, y, z)) for side in SIDES.values() for shape in ELLIPSOIDS.values()]
    weights = np.stack(soft)
    weights /= np.maximum(weights.sum(0), 1)
    return np.concatenate([weights, 1 - weights.sum(0, keepdims=True)])


def soft_inside(shape: Ellipsoid, points: tuple[NDArray[Any], ...]) -> NDArray[np.float32]:
    """Membership of points in one ellipsoid, from 0 to 1 across its edge.

    Args:
        shape: The ellipsoid.
        points: x, y and z in mm, which broadcast against each other.
    """
    terms = zip(points, shape.centre, shape.radii, strict=True)
    radius = np.sqrt(sum(((p - c) / r) ** 2 for p, c, r in terms))
    return (1 / (1 + np.exp(EDGE * (radius - 1)))).astype(np.float32)


@lru_cache(maxsize=4)
def region_weights(grid: Grid, tissue: str = GREY_MATTER.tissue) -> csr_array:
    """Soft membership of every voxel of a grid in `REGIONS`: they add up to one where the template has the tissue.

    Elsewhere they are 0, so that nothing outside it counts.

    Args:
        grid: Grid of the volumes, in MNI space.
        tissue: Template, one of `grid.TISSUES`.

    Shape:
        output (35, voxels), sparse; voxels in the order of `ravel`.
    """
    inside = np.flatnonzero(templates(grid)[tissue] > LEAST_TISSUE)
    index = np.stack(np.unravel_index(inside, grid.shape))
    points = grid.matrix[:3, :3] @ index + grid.matrix[:3, 3:]
    weights = memberships(tuple(points))
    weights[:-1][weights[:-1] < LEAST_WEIGHT] = 0
    weights[-1] = 1 - weights[:-1].sum(0)
    region, voxel = np.nonzero(weights)
    return csr_array((weights[region, voxel], (region, inside[voxel])), shape=(len(REGIONS), int(np.prod(grid.shape))))


def regional_volumes(volume: NDArray[np.float32], grid: Grid) -> NDArray[np.float64]:
    """Grey matter in each of `REGIONS`, mL.

    Args:
        volume: Modulated grey matter per voxel volume.
        grid: Grid on which it lies.

    Shape:
        volume `grid.shape`, output (35,).
    """
    return (region_weights(grid) @ volume.ravel().astype(np.float64)) * grid.voxel_ml


def regional_values(volume: NDArray[np.float32], grid: Grid, modality: Modality) -> NDArray[np.float64]:
    """What is said of each of `REGIONS`: mL of an amount of tissue, or the mean of anything else.

    Args:
        volume: The map.
        grid: Grid on which it lies.
        modality: Modality of the map; of several channels the first counts.

    Shape:
        volume `grid.shape`, output (35,); NaN of a region that the grid does not reach.
    """
    modality = modality.first
    if modality == GREY_MATTER:
        return regional_volumes(volume, grid)
    weights = region_weights(grid, modality.tissue)
    sums = weights @ volume.ravel().astype(np.float64)
    if modality.is_amount:
        return sums * grid.voxel_ml
    sizes = np.asarray(weights.sum(1)).ravel()
    return np.divide(sums, sizes, out=np.full(len(REGIONS), np.nan), where=sizes > 0)


def region_and_side(name: str, rest: str = GREY_MATTER.rest) -> tuple[str, str]:
    """A region in words, and its side.

    Args:
        name: One of `REGIONS`.
        rest: What lies in no named region, in words.

    Example:
        >>> region_and_side("superior_temporal_left"), region_and_side("rest")
        (('superior temporal', 'left'), ('rest of the grey matter', 'both'))
    """
    if name == REST:
        return rest, "both"
    region, _, side = name.rpartition("_")
    return region.replace("_", " "), side
