"""Two random views of a batch of volumes: seeded by subject, made on the device of the images.

Parameters are drawn on the CPU from a generator that knows only (seed, epoch, key, view) and applied in place, volume
by volume: one brain volume fills a GPU, nothing waits for the host, no view depends on its neighbours in the batch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor

from bundle.hints import nearest
from bundle.pretext.transform import Params, Transform, check_batch, integer, is_number, region, require, uniform, widen


class _Cuboid(Transform):
    """A change that concerns one cuboid, uniformly placed inside the volume."""

    def __init__(self, fraction: float, prob: float = 1.0) -> None:
        super().__init__(prob)
        valid = is_number(fraction) and 0 < fraction <= 1
        require(valid, self, "fraction", "a number in (0, 1], a part of each side", fraction)
        self.fraction = float(fraction)

    def make_params(self, generator: torch.Generator, shape: Sequence[int]) -> Params:
        """Draw the first corner: {"start": voxels, "size": voxels}."""
        # Rounded before the ceiling: 0.1 * 30 is 3.0000000000000004 and must not become 4.
        size = tuple(max(1, math.ceil(round(self.fraction * side, 6))) for side in shape[-3:])
        free = [side - n + 1 for side, n in zip(shape[-3:], size, strict=True)]
        return {"start": tuple(integer(generator, n) for n in free), "size": size}


class _Strength(Transform):
    """A change of a strength sigma, uniform between two values."""

    def __init__(self, sigma: Sequence[float] = (0.1, 1.0), prob: float = 1.0) -> None:
        super().__init__(prob)
        valid = isinstance(sigma, (list, tuple)) and len(sigma) == 2 and all(map(is_number, sigma))
        expected = "two numbers [lowest, highest] with 0 < lowest <= highest"
        require(valid and 0 < sigma[0] <= sigma[1], self, "sigma", expected, sigma)
        self.sigma = (float(sigma[0]), float(sigma[1]))

    def make_params(self, generator: torch.Generator, shape: Sequence[int]) -> Params:  # noqa: ARG002
        """Draw the strength: {"sigma": float}."""
        return {"sigma": self.sigma[0] + (self.sigma[1] - self.sigma[0]) * uniform(generator)}


class Cutout(_Cuboid):
    """Set one cuboid, uniformly placed inside the volume, to 0: the mean after a z-score.

    Args:
        fraction: Side of the cuboid as a part, in (0, 1], of each side, rounded up to voxels.
        prob: Probability per view.

    Raises:
        ValueError: for an argument outside its range.

    Source:
        DeVries and Taylor 2017 (arXiv 1708.04552); one cuboid of 25 %: Dufumier et al., MICCAI 2021.

    Example:
        >>> Cutout(0.25).make_params(torch.Generator(), (121, 145, 121))["size"]
        (31, 37, 31)
    """

    @staticmethod
    def change_(volume: Tensor, start: Sequence[int], size: Sequence[int]) -> None:
        """Zero the cuboid [start, start + size)."""
        region(volume, start, size).zero_()


class CropResize(_Cuboid):
    """Crop one cuboid, uniformly placed inside the volume, and resize it to the whole volume, trilinearly.

    Args:
        fraction: Side of the crop as a part, in (0, 1], of each side, rounded up to voxels.
        prob: Probability per view.

    Raises:
        ValueError: for an argument outside its range.

    Source:
        Dufumier et al., MICCAI 2021 (75 %); the arithmetic of MONAI's SpatialCrop and Resize.

    Example:
        >>> params = [{"start": (0, 1, 2), "size": (6, 8, 6)}, None]
        >>> CropResize(0.75).apply(torch.ones(2, 1, 8, 10, 8), params).shape
        torch.Size([2, 1, 8, 10, 8])
    """

    @staticmethod
    def change_(volume: Tensor, start: Sequence[int], size: Sequence[int]) -> None:
        """Stretch the cuboid [start, start + size) over the whole volume."""
        crop = widen(region(volume, start, size)).unsqueeze(0)
        volume.copy_(F.interpolate(crop, size=volume.shape[1:], mode="trilinear", align_corners=False)[0])


class Flip(Transform):
    """Mirror the volume along one of its three spatial axes, drawn uniformly.

    Args:
        prob: Probability per view.
    """

    def make_params(self, generator: torch.Generator, shape: Sequence[int]) -> Params:  # noqa: ARG002
        """Draw the axis: {"axis": 0, 1 or 2}."""
        return {"axis": integer(generator, 3)}

    @staticmethod
    def change_(volume: Tensor, axis: int) -> None:
        """Reverse one spatial axis."""
        volume.copy_(volume.flip(axis + 1))


class LeftRightFlip(Flip):
    """Mirror the volume left to right: along its first spatial axis, as maps in MNI space are stored.

    For maps whose two sides mean the same to the question: it hides which side a difference is on.

    Args:
        prob: Probability per view.

    Example:
        >>> LeftRightFlip().make_params(torch.Generator(), (40, 48, 40))
        {'axis': 0}
    """

    def make_params(self, generator: torch.Generator, shape: Sequence[int]) -> Params:  # noqa: ARG002
        """The axis, which is not drawn: {"axis": 0}."""
        return {"axis": 0}


class GaussianBlur(_Strength):
    """Smooth the volume by an isotropic Gaussian, truncated at 4 sigma.

    Weight at distance d: ½ erf((d + ½) / √2σ) − ½ erf((d − ½) / √2σ). Beyond the border a volume counts as zero, as in
    MONAI: a z-scored background fades towards 0 in the outermost voxels.

    Args:
        sigma: Lowest and highest standard deviation, voxels.
        prob: Probability per view.

    Raises:
        ValueError: for an argument outside its range.

    Source:
        Dufumier et al., MICCAI 2021; the kernel of MONAI's GaussianSmooth (approx="erf", truncated=4.0).

    Example:
        >>> images = torch.zeros(1, 1, 9, 9, 9).index_fill(4, torch.tensor(4), 1.0)
        >>> round(GaussianBlur().apply(images, [{"sigma": 1.0}])[0, 0, 4, 4, 4].item(), 3)
        0.383
    """

    @staticmethod
    def change_(volume: Tensor, sigma: float) -> None:
        """Smooth the three spatial axes, one after the other."""
        blurred = widen(volume)
        for axis in (1, 2, 3):
            blurred = _smooth_axis(blurred, _half_kernel(sigma), axis)
        volume.copy_(blurred)


class GaussianNoise(_Strength):
    """Add independent Gaussian noise to every voxel: x + σ n, n ~ N(0, 1).

    The voxels of n come from a generator on the device of the images: the same on every run there, but not the same on
    CPU and CUDA.

    Args:
        sigma: Lowest and highest standard deviation, units of the image.
        prob: Probability per view.

    Raises:
        ValueError: for an argument outside its range.

    Example:
        >>> noisy = GaussianNoise().apply(torch.zeros(1, 1, 20, 20, 20), [{"sigma": 0.5, "seed": 1}])
        >>> round(noisy.std().item(), 1)
        0.5
    """

    def make_params(self, generator: torch.Generator, shape: Sequence[int]) -> Params:
        """Draw the strength and the seed of the voxels: {"sigma": float, "seed": int}."""
        return super().make_params(generator, shape) | {"seed": integer(generator, 2**63 - 1)}

    @staticmethod
    def change_(volume: Tensor, sigma: float, seed: int) -> None:
        """Add sigma times the standard normal voxels of this seed, drawn in at least float32."""
        generator = torch.Generator(device=volume.device).manual_seed(seed)
        dtype = torch.promote_types(volume.dtype, torch.float32)
        noise = torch.randn(volume.shape, generator=generator, device=volume.device, dtype=dtype)
        volume.add_(noise, alpha=sigma)


class ZScore(Transform):
    """Standardise each volume, over all its channels and voxels: (x − mean) / std.

    Args:
        prob: Probability per view.

    Source:
        The arithmetic of MONAI's NormalizeIntensity: population std; a constant volume becomes 0.

    Example:
        >>> ZScore().apply(torch.tensor([1.0, 3.0]).view(1, 1, 1, 1, 2), [{}]).flatten().tolist()
        [-1.0, 1.0]
    """

    @staticmethod
    def change_(volume: Tensor) -> None:
        """Shift and scale to mean 0 and standard deviation 1."""
        std, mean = torch.std_mean(widen(volume), correction=0)
        volume.copy_((widen(volume) - mean) / torch.where(std > 0, std, 1.0))


def preset(name: str) -> list[Transform]:
    """Sets of transforms by name, in order of application.

    Args:
        name: "cutout" (the best), "crop", or "all_tf" (flip, blur, noise, cutout, crop, each with probability ½); or
            "cutout_flip", which is not published: half of the views are mirrored left to right before the cutout.

    Raises:
        ValueError: for an unknown name.

    Source:
        Dufumier et al., MICCAI 2021, and the authors' public code.

    Example:
        >>> preset("cutout")
        [Cutout(prob=1.0, fraction=0.25)]
    """
    p = 0.5
    presets: dict[str, list[Transform]] = {
        "cutout": [Cutout(0.25)],
        "crop": [CropResize(0.75)],
        "cutout_flip": [LeftRightFlip(p), Cutout(0.25)],
        "all_tf": [Flip(p), GaussianBlur(prob=p), GaussianNoise(prob=p), Cutout(0.25, p), CropResize(0.75, p)],
    }
    if name not in presets:
        raise ValueError(f"No preset of views is named {name!r}{nearest(name, presets)}")
    return presets[name]


class TwoViews:
    """Two random views of every image of a batch: rows 0 … N−1 are the first views, N … 2N−1 the second.

    What happens to a view depends on (seed, epoch, key, view number) alone: it is the same for any order or composition
    of the batches and any number of workers or devices. Only the voxels of Gaussian noise differ between CPU and CUDA.

    Args:
        transforms: Transforms in order of application, or the name of a preset.
        seed: Another integer gives other views.

    Shape:
        (N, C, D, H, W) → (2N, C, D, H, W), same dtype and device; the input is not modified.

    Raises:
        ValueError: for transforms, a seed, images or keys that are not as described here.

    Source:
        Dufumier et al., MICCAI 2021, after SimCLR (Chen et al. 2020).

    Example:
        >>> images = torch.randn(2, 1, 12, 14, 12)
        >>> TwoViews("cutout", seed=0)(images, ["sub-01/ses-1", "sub-02/ses-1"], epoch=1).shape
        torch.Size([4, 1, 12, 14, 12])
    """

    def __init__(self, transforms: Sequence[Transform] | str = "cutout", seed: int = 0) -> None:
        self.transforms = preset(transforms) if isinstance(transforms, str) else list(transforms)
        valid = bool(self.transforms) and all(isinstance(t, Transform) for t in self.transforms)
        expected = "the name of a preset or a list of at least one bundle.pretext.Transform"
        require(valid, self, "transforms", expected, transforms)
        require(isinstance(seed, Integral), self, "seed", "an integer", seed)
        self.seed = int(seed)

    @torch.no_grad()
    def __call__(self, images: Tensor, keys: Sequence[str], epoch: int) -> Tensor:
        """Make the views; `keys` name the images, such as "sub-01/ses-1"."""
        check_batch(self, images, keys, "keys")
        params = self.make_params(keys, epoch, images.shape)
        views = torch.cat([images.as_subclass(Tensor)] * 2)  # a MetaTensor's bookkeeping is slow and not needed here
        for position, transform in enumerate(self.transforms):
            transform.apply(views, [row[position] for row in params], inplace=True)
        return views

    def make_params(self, keys: Sequence[str], epoch: int, shape: Sequence[int]) -> list[list[Params | None]]:
        """The parameters of the 2N views: one row per view, one entry per transform, None where it is left out."""
        require(isinstance(epoch, Integral), self, "epoch", "an integer", epoch)
        require(all(isinstance(key, str) for key in keys), self, "keys", "strings such as 'sub-01/ses-1'", keys)
        streams = ((self.seed, int(epoch), key, view) for view in (1, 2) for key in keys)
        generators = (torch.Generator().manual_seed(_hash(*stream)) for stream in streams)
        return [[transform.draw(g, shape) for transform in self.transforms] for g in generators]


def _hash(*parts: int | str) -> int:
    """A number in [0, 2⁶³), the same in every process; torch's CPU generator uses its low 32 bits."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


def _half_kernel(sigma: float) -> list[float]:
    """The Gaussian's integral over each voxel, from the centre outwards to 4 sigma."""
    radius = int(max(4.0 * sigma, 0.5) + 0.5)
    edges = [math.erf((distance - 0.5) * math.sqrt(0.5) / sigma) for distance in range(radius + 2)]
    return [(high - low) / 2 for low, high in pairwise(edges)]


def _smooth_axis(volume: Tensor, weights: Sequence[float], axis: int) -> Tensor:
    """Convolve one axis by adding shifted copies: on a CPU ten times faster than conv3d."""
    length = volume.shape[axis]
    out = volume * weights[0]
    for distance, weight in enumerate(weights[1:length], start=1):
        kept = length - distance
        out.narrow(axis, 0, kept).add_(volume.narrow(axis, distance, kept), alpha=weight)
        out.narrow(axis, distance, kept).add_(volume.narrow(axis, 0, kept), alpha=weight)
    return out
