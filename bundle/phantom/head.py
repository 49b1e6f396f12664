"""A synthetic T1w head whose tissues and place are known, to test what prepares heads; no evidence about people."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bundle.scans.grid import Grid, templates
from bundle.scans.nifti import PHANTOM

Array = NDArray[np.float64]
# The template's head: MNI, 1 mm, with room for skull and scalp.
SOURCE = Grid.of((205, 241, 191), [[1, 0, 0, -102], [0, 1, 0, -137], [0, 0, 1, -90], [0, 0, 0, 1]])
TISSUES = ("csf", "gm", "wm", "skull", "scalp")
BRIGHTNESS = {"csf": 0.22, "gm": 0.62, "wm": 1.0, "skull": 0.08, "scalp": 0.85}  # as at 3 T, white matter = 1
SCALE = 800.0  # value of white matter
CSF_WEIGHT = 1.4  # the average brain has little CSF: where people differ, its sulci are blurred
STEM = ((-14, 15), (-45, -8), (-62, 2))  # mm; the brainstem, which the average calls grey and which is mostly white
CSF_MM, SKULL_MM, SCALP_MM = 1.5, 7.0, 13.0  # outer faces, from the brain
PARTIAL_MM = 0.6  # standard deviation of the tissues' edges
NOISE, BIAS = 0.03, 0.15  # of white matter; largest deviation of the coil's brightness from 1
WAVES, WAVE_MM, BEND_MM = 4, (90.0, 160.0), 2.0  # of the warp: number, lengths, amplitude of each
ZOOM, TURN, SHIFT = (1.04, 1.14), 8.0, 6.0  # head → template: range of zooms, degrees, mm; heads are smaller


@dataclass(frozen=True)
class HeadTruth:
    """What is known of a synthetic head.

    Attributes:
        matrix: 4 × 4, from millimetres of the head, bent, to those of the template (MNI).
        waves: (K, 3) wave vectors of the bend, radians per mm.
        phases: (K,) radians.
        amplitudes: (K, 3) mm.
        volumes: mL of `tiv`, `gm`, `wm` and `csf` in the head.
    """

    matrix: Array
    waves: Array
    phases: Array
    amplitudes: Array
    volumes: dict[str, float]

    def to_template(self, points: Array) -> Array:
        """Where points of the head lie in the template.

        Shape:
            points (..., 3), mm; output the same.
        """
        bent = points + np.sin(points @ self.waves.T + self.phases) @ self.amplitudes
        return bent @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def to_head(self, points: Array) -> Array:
        """The inverse of `to_template`, by iteration: the bend is gentle."""
        straight = (points - self.matrix[:3, 3]) @ np.linalg.inv(self.matrix[:3, :3]).T
        found = straight
        for _ in range(12):
            found = straight - np.sin(found @ self.waves.T + self.phases) @ self.amplitudes
        return found

    def volume_ratio(self, points: Array) -> Array:
        """Volume in the head over that in the template, at points of the template.

        Shape:
            points (..., 3), mm; output (...).
        """
        slopes = np.cos(self.to_head(points) @ self.waves.T + self.phases)
        bend = np.eye(3) + np.einsum("...k,ki,kj->...ij", slopes, self.amplitudes, self.waves)
        return 1 / (np.linalg.det(bend) * np.linalg.det(self.matrix[:3, :3]))

    def grey_matter(self, grid: Grid) -> NDArray[np.float32]:
        """The modulated map that a faultless preparation gives: grey matter of the template times `volume_ratio`.

        Args:
            grid: Voxels in the template's space.
        """
        points = np.moveaxis(np.indices(grid.shape), 0, -1) @ grid.matrix[:3, :3].T + grid.matrix[:3, 3]
        size = float(np.linalg.norm(grid.matrix[:3, 0]))
        sharp = ndimage.gaussian_filter(_tissues()["gm"], np.hypot(PARTIAL_MM, 0.425 * size))
        inverse = np.linalg.inv(SOURCE.matrix)
        places = np.moveaxis(points @ inverse[:3, :3].T + inverse[:3, 3], -1, 0)
        return (ndimage.map_coordinates(sharp, places, order=1) * self.volume_ratio(points)).astype(np.float32)


def make_head(resolution: float = 1.0, seed: int = 0) -> tuple[nib.Nifti1Image, HeadTruth]:
    """Make a T1w head: the template's tissues inside a skull and a scalp, bent, zoomed, turned, uneven and noisy.

    Args:
        resolution: Edge of a voxel, mm.
        seed: Seed of warp, affine, uneven brightness and noise.

    Returns:
        The image, whose header says that it is a phantom, and what is known of it.

    Raises:
        ValueError: When the resolution is not between 0.5 and 4 mm.
    """
    if not 0.5 <= resolution <= 4:
        raise ValueError(f"The resolution is {resolution:g} mm, expected 0.5 to 4 mm.")
    rng = np.random.default_rng(seed)
    matrix, waves, phases, amplitudes = _placed(rng)
    bare = HeadTruth(matrix, waves, phases, amplitudes, {})
    shape, affine = _field_of_view(bare, resolution)
    shares = _sampled(bare, shape, affine, resolution)
    ml = {name: float(shares[name].sum(dtype=np.float64)) * resolution**3 / 1000 for name in ("gm", "wm", "csf")}
    signal = sum(BRIGHTNESS[name] * shares[name] for name in TISSUES) * _coil(rng, shape)
    noise = NOISE * rng.standard_normal((2, *shape), dtype=np.float32)
    values = SCALE * np.hypot(signal + noise[0], noise[1])  # a magnitude image: Rician
    image = nib.Nifti1Image(values.round().astype(np.int16), affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = PHANTOM
    return image, HeadTruth(matrix, waves, phases, amplitudes, {"tiv": sum(ml.values()), **ml})


def _placed(rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Affine and bend of a head."""
    turns = np.radians(rng.uniform(-TURN, TURN, 3))
    turn = np.eye(3)
    for axis, angle in enumerate(turns):
        first, second = [other for other in range(3) if other != axis]
        plane = np.eye(3)
        plane[[first, second], [first, second]] = np.cos(angle)
        plane[first, second], plane[second, first] = -np.sin(angle), np.sin(angle)
        turn = turn @ plane
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(rng.uniform(*ZOOM, 3)) @ turn
    matrix[:3, 3] = rng.uniform(-SHIFT, SHIFT, 3)
    ways = rng.standard_normal((WAVES, 3))
    waves = 2 * np.pi * ways / np.linalg.norm(ways, axis=1, keepdims=True) / rng.uniform(*WAVE_MM, (WAVES, 1))
    return matrix, waves, rng.uniform(0, 2 * np.pi, WAVES), BEND_MM * rng.standard_normal((WAVES, 3))


def _field_of_view(truth: HeadTruth, resolution: float) -> tuple[tuple[int, int, int], Array]:
    """A box around the head."""
    ends = [(0, n - 1) for n in SOURCE.shape]
    corners = np.array([[i, j, k] for i in ends[0] for j in ends[1] for k in ends[2]], float)
    placed = truth.to_head(corners @ SOURCE.matrix[:3, :3].T + SOURCE.matrix[:3, 3])
    middle, half = (placed.max(0) + placed.min(0)) / 2, (placed.max(0) - placed.min(0)) / 2
    x, y, z = (int(n) for n in np.ceil(2 * half / resolution))
    affine = np.diag([resolution, resolution, resolution, 1.0])
    affine[:3, 3] = middle - resolution * (np.array([x, y, z]) - 1) / 2
    return (x, y, z), affine


def _sampled(
    truth: HeadTruth, shape: tuple[int, int, int], affine: Array, resolution: float
) -> dict[str, NDArray[np.float32]]:
    """Share of each tissue in each voxel of the head."""
    blur = np.hypot(PARTIAL_MM, 0.425 * resolution)
    sources = {name: ndimage.gaussian_filter(share, blur) for name, share in _tissues().items()}
    shares = {name: np.empty(shape, np.float32) for name in TISSUES}
    inverse = np.linalg.inv(SOURCE.matrix)
    for plane in range(shape[2]):  # one at a time: coordinates of all voxels would take gigabytes
        i, j = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
        points = np.stack([i, j, np.full_like(i, plane)], -1) @ affine[:3, :3].T + affine[:3, 3]
        places = truth.to_template(points) @ inverse[:3, :3].T + inverse[:3, 3]
        for name in TISSUES:
            shares[name][:, :, plane] = ndimage.map_coordinates(sources[name], np.moveaxis(places, -1, 0), order=1)
    return shares


@lru_cache(maxsize=1)
def _tissues() -> dict[str, NDArray[np.float32]]:
    """What each voxel of the template's head is made of: one tissue, or air."""
    known = templates(SOURCE)
    gm, wm = known["grey matter"].copy(), known["white matter"].copy()
    stem = tuple(
        slice(low - start, high - start)
        for (low, high), start in zip(STEM, SOURCE.matrix[:3, 3].astype(int), strict=True)
    )
    wm[stem] += gm[stem]
    gm[stem] = 0
    inside = known["brain"] > 0.5
    most = np.stack([CSF_WEIGHT * (1 - gm - wm), gm, wm]).argmax(0)
    away = ndimage.distance_transform_edt(~inside)
    made = {name: inside & (most == number) for number, name in enumerate(("csf", "gm", "wm"))}
    made["csf"] |= (away > 0) & (away <= CSF_MM)
    made["skull"] = (away > CSF_MM) & (away <= SKULL_MM)
    made["scalp"] = (away > SKULL_MM) & (away <= SCALP_MM)
    return {name: where.astype(np.float32) for name, where in made.items()}


def _coil(rng: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Smooth brightness around 1."""
    coarse = ndimage.zoom(rng.standard_normal((3, 3, 3)), 4, order=3)
    smooth = ndimage.zoom(coarse, np.array(shape) / coarse.shape, order=1)
    return (1 + BIAS * smooth / np.abs(smooth).max()).astype(np.float32)
