"""What the phantom's images are made of: grids, templates, smooth fields in millimetres, and what a scanner does."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from zlib import crc32

import numpy as np
from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template
from numpy.typing import NDArray
from scipy import ndimage

from bundle.phantom import tables

Array = NDArray[Any]

CONTROL_MM = 4.5  # amplitudes are solved on this grid at every resolution
BOX_MM = (181.5, 217.5, 181.5)  # 121 x 145 x 121 voxels of 1.5 mm
BOX_CENTRE = (0.0, -18.0, 18.0)
TEMPLATES: dict[str, Callable[..., Any]] = {"grey": load_mni152_gm_template, "white": load_mni152_wm_template}


def generator(seed: int, name: str) -> np.random.Generator:
    """Randomness that depends on the seed and a name alone."""
    return np.random.default_rng([seed, crc32(name.encode())])


def reference_grid(resolution: float) -> tuple[tuple[int, int, int], Array]:
    """Shape and affine of the grid over SPM/CAT12's box; x decreases with the first index.

    Args:
        resolution: Voxel size in mm; 1.5 gives 121 x 145 x 121.

    Raises:
        ValueError: if the resolution is not between 1 and 12 mm.
    """
    if not 1 <= resolution <= 12:
        raise ValueError(f"The phantom's resolution is {resolution} mm; expected 1 to 12 mm, such as 4.5 or 1.5.")
    shape = tuple(int(np.floor(mm / resolution + 0.5)) for mm in BOX_MM)
    step = resolution * np.array([-1, 1, 1])
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = np.array(BOX_CENTRE) - step * (np.array(shape) - 1) / 2
    return (shape[0], shape[1], shape[2]), affine


def axes(resolution: float) -> tuple[Array, ...]:
    """Coordinates of the voxel centres along each axis, MNI mm."""
    shape, affine = reference_grid(resolution)
    return tuple(affine[i, 3] + affine[i, i] * np.arange(n) for i, n in enumerate(shape))


@lru_cache(maxsize=4)
def _smooth_template(resolution: float, tissue: str) -> tuple[Array, Array]:
    """The 1 mm template, blurred to the resolution it will be sampled at, and its origin in mm."""
    image = TEMPLATES[tissue](resolution=1)
    sigma = np.sqrt(max(resolution**2 - 1, 0)) / np.sqrt(8 * np.log(2))
    data = np.asarray(image.dataobj, dtype=np.float32)
    return ndimage.gaussian_filter(data, sigma, truncate=3), image.affine[:3, 3]


def template_at(points: list[Array], resolution: float, tissue: str = "grey") -> Array:
    """The anti-aliased template of a tissue at MNI points, given as one broadcastable array per axis."""
    data, origin = _smooth_template(resolution, tissue)
    index = np.stack(np.broadcast_arrays(*(p - o for p, o in zip(points, origin, strict=True))))
    return ndimage.map_coordinates(data, index, order=1, output=np.float32)


@lru_cache(maxsize=64)
def _cosines(resolution: float, axis: int, count: int, slope: bool) -> Array:
    """The first cosines of the box along one axis, (points, count); or their slopes per mm."""
    start = BOX_CENTRE[axis] - BOX_MM[axis] / 2
    k = np.pi * np.arange(count) / BOX_MM[axis]
    phase = np.outer(axes(resolution)[axis] - start, k)
    return (-k * np.sin(phase) if slope else np.cos(phase)).astype(np.float32)


def waves(coefficients: Array, resolution: float, slope_along: int | None = None) -> Array:
    """A smooth field: the sum of cosine products with these (n, n, n) coefficients."""
    field = coefficients.astype(np.float32)
    for axis in range(3):
        basis = _cosines(resolution, axis, len(coefficients), axis == slope_along)
        field = np.tensordot(field, basis, axes=(0, 1))  # rotates the axes once around
    return field


def random_waves(rng: np.random.Generator, count: int, decay: float) -> Array:
    """Coefficients (count, count, count) of a random field with SD near one and no mean."""
    index = np.indices((count, count, count))
    order = np.sqrt((index**2).sum(0))
    height = np.where((order > 0) & (order < count), np.maximum(order, 1) ** -decay, 0)
    power = (height**2 * 0.5 ** (index > 0).sum(0)).sum()
    return rng.standard_normal(height.shape) * height / np.sqrt(power)


def displaced(coefficients: Array, resolution: float) -> tuple[list[Array], Array]:
    """Where the voxels of a grid lie under a smooth displacement (mm), and the volume change there."""
    shift = [waves(c, resolution) for c in coefficients]
    growth: Any = 1 + sum(waves(c, resolution, slope_along=i) for i, c in enumerate(coefficients))
    return [a + s for a, s in zip(np.ix_(*axes(resolution)), shift, strict=True)], growth


def bend_of(rng: np.random.Generator) -> Array:
    """The coefficients of a person's displacement: what their random numbers begin with."""
    return np.stack([random_waves(rng, tables.WARP_WAVES, 1.0) for _ in range(3)]) * tables.WARP_MM


def on_grid(field: Array, resolution: float) -> Array:
    """Interpolate a field from the control grid."""
    if resolution == CONTROL_MM:
        return field
    shape, affine = reference_grid(resolution)
    step = np.linalg.inv(reference_grid(CONTROL_MM)[1]) @ affine
    return ndimage.affine_transform(field, step, output_shape=shape, order=1, mode="nearest")


@dataclass(frozen=True)
class SiteEffect:
    """What a scanner does: gain, bias field coefficients, sigma of its blur (mm), noise SD."""

    gain: float
    bias: Array
    smoothing: float
    noise: float


@lru_cache(maxsize=256)
def site_effect(site: str, seed: int = 0) -> SiteEffect:
    """The effect of a site, which depends on the seed and the name of the site alone.

    Args:
        site: Such as "schizophrenia-03".
        seed: Seed of the whole phantom.
    """
    rng = generator(seed, site)
    gain = 1 + tables.GAIN_SD * rng.standard_normal()
    bias = random_waves(rng, tables.BIAS_WAVES, 0.0) * tables.BIAS_SD
    return SiteEffect(gain, bias, rng.uniform(*tables.SMOOTHING_MM), rng.uniform(*tables.NOISE_SD))


def through_scanner(
    volume: Array, local: Array, site: str, seed: int, rng: np.random.Generator, resolution: float
) -> Array:
    """What a site makes of an image.

    Args:
        volume: The image, changed in place.
        local: The template of the image, by which noise is scaled.
        site: Name of the site.
        seed: Seed of the whole phantom.
        rng: Random numbers of the noise.
        resolution: Voxel size in mm.
    """
    return under_effect(volume, local, site_effect(site, seed), rng, resolution)


def under_effect(volume: Array, local: Array, effect: SiteEffect, rng: np.random.Generator, resolution: float) -> Array:
    """What a scanner with an effect makes of an image.

    Args:
        volume: The image, changed in place.
        local: The template of the image, by which noise is scaled.
        effect: Effect of the scanner.
        rng: Random numbers of the noise.
        resolution: Voxel size in mm.
    """
    size = reference_grid(CONTROL_MM)[0]
    noise = rng.standard_normal(size, dtype=np.float32) * effect.noise
    volume = ndimage.gaussian_filter(volume, effect.smoothing / resolution)
    volume *= effect.gain * (1 + waves(effect.bias, resolution))
    return np.maximum(volume + local * on_grid(noise, resolution), 0)
