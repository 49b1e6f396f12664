"""The affine from the template to a brain, by least squares, and what its matrix says about the head.

ANTs has one, too: with mutual information it depends on the order in which threads finish. This one does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bundle.preparation.settings import Settings

Array = NDArray[np.float64]
PITCHES = (-30.0, 0.0, 30.0)  # degrees, of the starts: heads are nodded more than turned or tilted
LENGTH = 50.0  # mm; brings the derivatives of zooms and shifts to one size
UNITS = np.array([LENGTH, LENGTH, LENGTH, 1.0])
AROUND_MM = 15.0  # around the template's brain, where nothing should be
MOST_STEPS = 40
SETTLED = 1e-5  # relative decrease of the squares
DAMPING = (1e-3, 1e-6, 1e3)  # at first, at least, at most


@dataclass(frozen=True)
class Volume:
    """A brain without skull in space.

    Attributes:
        values: (X, Y, Z), T1w.
        mask: (X, Y, Z), where the brain is.
        affine: 4 × 4, index → mm.
    """

    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    affine: Array

    @property
    def centre(self) -> Array:
        """Of the mask, mm."""
        return self.affine[:3, :3] @ np.argwhere(self.mask).mean(0) + self.affine[:3, 3]

    @property
    def size(self) -> float:
        """Of the mask, mm³."""
        return float(np.count_nonzero(self.mask) * abs(np.linalg.det(self.affine[:3, :3])))

    def smoothed(self, size: float) -> NDArray[np.float32]:
        """Values without what is finer than voxels of a size, mm."""
        edges = np.linalg.norm(self.affine[:3, :3], axis=0)
        blur = 0.425 * np.sqrt(np.maximum(size**2 - edges**2, 0)) / edges
        return ndimage.gaussian_filter(self.values, blur, mode="constant")


def align(template: Volume, brain: Volume, settings: Settings) -> Array:
    """Estimate the affine from millimetres of the template to millimetres of a brain.

    Args:
        template: The average brain.
        brain: The head's.
        settings: Settings of the preparation; `affine_mm` from coarse to fine.

    Shape:
        Output 4 × 4.

    Source:
        Least squares with a scaled intensity as in Friston et al., Spatial registration and normalization of images,
        1995; steps of Levenberg and Marquardt.
    """
    coarse, *finer = (_Level(template, brain, size) for size in settings.affine_mm)
    matrix, _ = min((coarse.fit(_start(template, brain, pitch)) for pitch in PITCHES), key=lambda found: found[1])
    for level in finer:
        matrix, _ = level.fit(matrix)
    return np.vstack([matrix, [0, 0, 0, 1]])


def _start(template: Volume, brain: Volume, pitch: float) -> Array:
    """Centres and volumes agree, and the head nods by some degrees."""
    angle = np.radians(pitch)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    matrix = np.cbrt(brain.size / template.size) * turn
    return np.column_stack([matrix, brain.centre - matrix @ template.centre])


class _Level:
    """Template and brain at one size of voxels; matrices are 3 × 4, from the template to the brain."""

    def __init__(self, template: Volume, brain: Volume, size: float) -> None:
        edge = float(np.linalg.norm(template.affine[:3, 0]))
        step = max(1, round(size / edge))
        near = ndimage.binary_dilation(template.mask, iterations=round(AROUND_MM / edge))
        every = np.zeros_like(near)
        every[step // 2 :: step, step // 2 :: step, step // 2 :: step] = True
        points = np.argwhere(near & every)
        self.fixed = template.smoothed(size)[tuple(points.T)].astype(float)
        self.points = points @ template.affine[:3, :3].T + template.affine[:3, 3]
        self.scaled = np.column_stack([self.points / LENGTH, np.ones(len(points))])
        self.moving, self.size = brain.smoothed(size), size
        self.index = np.linalg.inv(brain.affine)

    def fit(self, matrix: Array) -> tuple[Array, float]:
        """The best matrix near one, and its squares that are left."""
        squares, damping = self._squares(matrix), DAMPING[0]
        for _ in range(MOST_STEPS):
            normal, slope = self._equations(matrix)
            left = squares
            while damping <= DAMPING[2]:
                damped = normal + damping * np.diag(np.diag(normal) + 1e-12)
                tried: Array = matrix - np.linalg.solve(damped, slope)[:12].reshape(3, 4) / UNITS
                left = self._squares(tried)
                if left < squares:
                    break
                damping *= 10
            if left >= squares:
                return matrix, squares
            matrix, damping, settled = tried, max(damping / 10, DAMPING[1]), left > squares * (1 - SETTLED)
            squares = left
            if settled:
                break
        return matrix, squares

    def _equations(self, matrix: Array) -> tuple[Array, Array]:
        """Normal equations of the twelve numbers of the matrix and the scale of intensities."""
        places = self._places(matrix)
        moved = self._at(places)
        scale = self._scale(moved)
        slopes = np.stack([self._slope(places, axis) for axis in range(3)], 1)
        of_matrix = (scale * slopes[:, :, None] * self.scaled[:, None, :]).reshape(-1, 12)
        derivatives = np.column_stack([of_matrix, moved])
        # einsum adds in one order; a product of matrices would in that of its threads
        left = np.einsum("ni,nj->ij", derivatives, derivatives)
        return left, np.einsum("ni,n->i", derivatives, scale * moved - self.fixed)

    def _squares(self, matrix: Array) -> float:
        moved = self._at(self._places(matrix))
        return float(np.square(self._scale(moved) * moved - self.fixed).sum())

    def _scale(self, moved: Array) -> float:
        return float((moved * self.fixed).sum() / max(np.square(moved).sum(), 1e-12))

    def _places(self, matrix: Array) -> Array:
        return self.points @ matrix[:, :3].T + matrix[:, 3]

    def _slope(self, places: Array, axis: int) -> Array:
        """Derivative of the brain along an axis, per mm."""
        half = np.zeros(3)
        half[axis] = self.size / 2
        return (self._at(places + half) - self._at(places - half)) / self.size

    def _at(self, places: Array) -> Array:
        """The brain at places, mm; 0 outside."""
        indices = places @ self.index[:3, :3].T + self.index[:3, 3]
        return ndimage.map_coordinates(self.moving, indices.T, order=1, mode="constant", output=float)


def measures_of(matrix: Array) -> dict[str, float]:
    """What an affine says about a head.

    Args:
        matrix: 3 × 3, from the template to the head.

    Returns:
        `affine_determinant` (volume of the head's brain over the template's), `zoom_least` and `zoom_most` (along its
        axes), `anisotropy` (their ratio), `rotation` (degrees).

    Example:
        >>> measures_of(np.diag([1.0, 1.0, 2.0]))["anisotropy"]
        2.0
    """
    left, zooms, right = np.linalg.svd(matrix)
    cosine = (np.trace(left @ right) - 1) / 2
    return {
        "affine_determinant": float(np.linalg.det(matrix)),
        "zoom_least": float(zooms.min()),
        "zoom_most": float(zooms.max()),
        "anisotropy": float(zooms.max() / zooms.min()),
        "rotation": float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))),
    }
