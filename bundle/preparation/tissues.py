"""Three tissues in a brain: EM for Gaussians, with the template's priors, smooth labels and local means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]
CSF, GM, WM = range(3)
FLOOR = 1e-4  # variance, at least
NEVER = 0.01  # added to each prior: no tissue is impossible
SETTLED = 5e-4  # means that move less have converged
ROUNDS = 20
PLAIN_ROUNDS = 3  # before neighbours count
LOCAL_ROUNDS = 3
LOCAL_CELL_MM = 3.0  # local means are computed on cells of this size
NEAR_SD = 3.0  # voxels further from a mean say nothing about it
LEAST_CONTRAST = 0.35  # of the distance of grey and white matter, which local means keep


@dataclass(frozen=True)
class Mixture:
    """How the segmentation weighs its sources.

    Attributes:
        prior: Power of the priors; 1 trusts the template fully.
        neighbours: Weight of the six neighbours (Potts, mean field).
        local_mm: Standard deviation over which the means of grey and white matter vary.
    """

    prior: float
    neighbours: float = 0.2
    local_mm: float = 8.0


@dataclass(frozen=True)
class Segmentation:
    """Tissues of a brain.

    Attributes:
        maps: (3, X, Y, Z) probabilities of CSF, grey and white matter; their sum is 1 in the mask and 0 outside.
        means: Intensity of each.
        deviations: Standard deviation of each.
    """

    maps: Array
    means: NDArray[np.float64]
    deviations: NDArray[np.float64]

    @property
    def contrast_to_noise(self) -> float:
        """Distance of the means of grey and white matter in their mean standard deviations."""
        return float((self.means[WM] - self.means[GM]) / self.deviations[GM:].mean())

    def volumes(self, voxel_ml: float) -> NDArray[np.float64]:
        """ML of CSF, grey and white matter."""
        return self.maps.sum((1, 2, 3), dtype=np.float64) * voxel_ml


def priors_of(gm: Array, wm: Array) -> Array:
    """Priors of CSF, grey and white matter, none of them zero, from the template's two."""
    gm, wm = np.clip(gm, 0, 1), np.clip(wm, 0, 1)
    return np.stack([np.clip(1 - gm - wm, 0, 1), gm, wm]) + np.float32(NEVER)


def segment(brain: Array, mask: NDArray[np.bool_], priors: Array, voxel_mm: float, mixture: Mixture) -> Segmentation:
    """Tell CSF, grey and white matter apart.

    Args:
        brain: (X, Y, Z), T1w.
        mask: (X, Y, Z), where the brain is.
        priors: (3, X, Y, Z), of `priors_of`.
        voxel_mm: Edge of a voxel.
        mixture: Weights.

    Source:
        Zhang et al., Segmentation of brain MR images through a hidden Markov random field model and the
        expectation-maximization algorithm, 2001; local means as in CAT12's local adaptive segmentation.
    """
    corners = np.argwhere(mask)
    box = tuple(slice(max(0, a - 1), b + 2) for a, b in zip(corners.min(0), corners.max(0), strict=True))
    inside = np.pad(mask[box], 1)  # neighbours are found by rolling: nothing may touch a face
    em = _Mixture(np.pad(brain[box], 1)[inside], inside, np.stack([np.pad(p[box], 1)[inside] for p in priors]), mixture)
    em.settle()
    if mixture.local_mm:
        em.adapt(mixture.local_mm, voxel_mm)
    maps = np.zeros((3, *mask.shape), np.float32)
    for tissue in (CSF, GM, WM):
        maps[tissue][mask] = em.shares[tissue]
    return Segmentation(maps, em.means.astype(float), np.sqrt(em.variances.astype(float)))


class _Mixture:
    """The state of EM over the voxels of a mask; arrays are (3, N) and (N,)."""

    def __init__(self, values: Array, inside: NDArray[np.bool_], priors: Array, mixture: Mixture) -> None:
        self.values, self.inside, self.mixture = values, inside, mixture
        self.priors = priors / priors.sum(0)
        self.log_priors = np.float32(mixture.prior) * np.log(self.priors)
        self.shares = self.priors.copy()
        self.scratch = np.zeros(inside.shape, np.float32)
        self.means = self.variances = np.zeros(3, np.float32)

    def settle(self) -> None:
        """Alternate means and shares until the means stand."""
        for round_ in range(ROUNDS):
            before, weights = self.means, self.shares.sum(1)
            self.means = (self.shares * self.values).sum(1) / weights
            self._spread(self.means[:, None])
            self._share(self.means[:, None], with_neighbours=round_ >= PLAIN_ROUNDS)
            if round_ and np.abs(self.means - before).max() < SETTLED:
                return

    def adapt(self, local_mm: float, voxel_mm: float) -> None:
        """Let the means of grey and white matter follow what is bright and dark nearby."""
        means = np.repeat(self.means[:, None], self.values.size, 1)
        for _ in range(LOCAL_ROUNDS):
            for tissue in (GM, WM):
                near = np.abs(self.values - means[tissue]) < NEAR_SD * np.sqrt(self.variances[tissue])
                weights = np.where(near, 0.5 * self.shares[tissue] + 0.5 * self.priors[tissue] ** 2, np.float32(0))
                local, count = (self._blurred(w, local_mm, voxel_mm) for w in (weights * self.values, weights))
                means[tissue] = (local + 0.05 * self.means[tissue]) / (count + 0.05)
            gap = np.float32(LEAST_CONTRAST) * (self.means[WM] - self.means[GM])
            means[GM] = np.minimum(means[GM], means[WM] - gap)
            self._spread(means)
            self._share(means, with_neighbours=True)

    def _spread(self, means: Array) -> None:
        squares = self.shares * (self.values - means) ** 2
        self.variances = np.maximum(squares.sum(1) / self.shares.sum(1), np.float32(FLOOR))

    def _share(self, means: Array, with_neighbours: bool) -> None:
        spread = self.variances[:, None]
        logs = self.log_priors - np.float32(0.5) * ((self.values - means) ** 2 / spread + np.log(spread))
        if with_neighbours:
            logs += np.float32(self.mixture.neighbours) * np.stack([self._neighbours(s) for s in self.shares])
        shares = np.exp(logs - logs.max(0))
        self.shares = shares / shares.sum(0)

    def _neighbours(self, share: Array) -> Array:
        """Sum of the six neighbours of each voxel; outside the mask they are 0."""
        volume = self.scratch
        volume[self.inside] = share
        total = np.zeros_like(volume)
        for axis in range(3):
            for step in (1, -1):
                total += np.roll(volume, step, axis)
        return total[self.inside]

    def _blurred(self, values: Array, local_mm: float, voxel_mm: float) -> Array:
        """Gaussian over a volume that is 0 outside the mask, on coarse cells."""
        size = max(1, round(LOCAL_CELL_MM / voxel_mm))
        volume = self.scratch
        volume[self.inside] = values
        shape: tuple[int, ...] = volume.shape
        padded = np.pad(volume, [(0, -n % size) for n in shape])
        x, y, z = (n // size for n in padded.shape)
        cells = padded.reshape(x, size, y, size, z, size).mean((1, 3, 5))
        cells = ndimage.gaussian_filter(cells, local_mm / (voxel_mm * size), mode="constant")
        fine = ndimage.zoom(cells, size, order=1, grid_mode=True, mode="nearest")
        return fine[tuple(slice(n) for n in shape)][self.inside]
