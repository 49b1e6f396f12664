"""The four corruptions of Models Genesis, as transforms of views: intensities, order, inside and outside of boxes.

Rates and sizes are those of the published method. Where it corrupts in many small steps on the CPU, the same
effect is had here in one pass on the device; each class says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks import SubpixelUpsample
from monai.networks.nets.flexible_unet import UNetDecoder
from torch import Tensor, nn

from bundle.networks.encoders import Encoder
from bundle.pretext.transform import Params, Transform, integer, region, require, uniform, widen

CURVE_POINTS = 256


class NonlinearIntensity(Transform):
    """Map intensities by a random increasing curve from the volume's minimum to its maximum.

    The curve is a cubic Bézier curve whose two inner control points are uniform in the unit square.

    Args:
        prob: Probability per view.

    Source:
        Zhou et al., Models Genesis, MICCAI 2019.

    Example:
        >>> ramp = torch.linspace(0, 1, 27).view(1, 1, 3, 3, 3)
        >>> same = {"points": ((1 / 3, 1 / 3), (2 / 3, 2 / 3))}
        >>> torch.allclose(NonlinearIntensity().apply(ramp, [same]), ramp, atol=1e-3)
        True
    """

    def __init__(self, prob: float = 0.9) -> None:
        super().__init__(prob)

    def make_params(self, generator: torch.Generator, shape: Sequence[int]) -> Params:  # noqa: ARG002
        """Draw the inner control points: {"points": ((x, y), (x, y))}."""
        x_1, y_1, x_2, y_2 = (uniform(generator) for _ in range(4))
        return {"points": ((x_1, y_1), (x_2, y_2))}

    @staticmethod
    def change_(volume: Tensor, points: Sequence[Sequence[float]]) -> None:
        """Look every voxel up in the curve, linearly between its points."""
        low, high = widen(volume).aminmax()
        span = torch.where(high > low, high - low, 1.0)
        place = (widen(volume) - low) / span * (CURVE_POINTS - 1)
        curve = _bezier(points).to(place, non_blocking=True)
        below = place.floor().clamp(0, CURVE_POINTS - 2).long()
        mapped = torch.lerp(curve[below], curve[below + 1], place - below)
        volume.copy_(mapped * span + low)


class LocalShuffle(Transform):
    """Permute the voxels inside small boxes: texture is lost, shape remains.

    The published method shuffles 10,000 boxes one after the other, which touches most voxels. Here the boxes tile the
    volume, from a random corner on, and are shuffled in one sort.

    Args:
        fraction: Largest side of a box as a part, in (0, 1], of each side of the volume.
        prob: Probability per view.

    Raises:
        ValueError: for an argument outside its range.

    Source:
        Zhou et al., Models Genesis, MICCAI 2019.

    Example:
        >>> ramp = torch.arange(27.0).view(1, 1, 3, 3, 3)
        >>> one_voxel = {"size": (1, 1, 1), "offset": (0, 0, 0), "seed": 0}
        >>> torch.equal(LocalShuffle().apply(ramp, [one_voxel]), ramp)
        True
    """

    def __init__(self, fraction: float = 0.1, prob: float = 0.5) -> None:
        super().__init__(prob)
        require(0 < fraction <= 1, self, "fraction", "a number in (0, 1], a part of each side", fraction)
        self.fraction = float(fraction)

    def make_params(self, generator: torch.Generator, shape: Sequence[int]) -> Params:
        """Draw the boxes and the seed of their order: {"size": voxels, "offset": voxels, "seed": int}."""
        size = tuple(2 + integer(generator, max(1, int(self.fraction * side) - 1)) for side in shape[-3:])
        offset = tuple(integer(generator, n) for n in size)
        return {"size": size, "offset": offset, "seed": integer(generator, 2**63 - 1)}

    @staticmethod
    def change_(volume: Tensor, size: Sequence[int], offset: Sequence[int], seed: int) -> None:
        """Sort all voxels by box, once in order and once in random order, and move the one to the other."""
        generator = torch.Generator(device=volume.device).manual_seed(seed)
        box = torch.zeros(volume.shape[1:], dtype=torch.float64, device=volume.device)
        for axis, (side, n, first) in enumerate(zip(volume.shape[1:], size, offset, strict=True)):
            count = (side + first + n - 1) // n
            along = (torch.arange(side, device=volume.device) + first).div(n, rounding_mode="floor")
            box = box * count + along.view([-1 if a == axis else 1 for a in range(3)])
        box = box.flatten()
        noise = torch.rand(box.shape, generator=generator, device=volume.device, dtype=torch.float64)
        target, source = box.argsort(stable=True), (box + noise).argsort()
        flat = volume.flatten(1)
        shuffled = flat.clone()
        shuffled[:, target] = flat[:, source]
        volume.copy_(shuffled.view(volume.shape))


class Paint(Transform):
    """Replace the inside of some boxes, or all but them, by uniform noise in the volume's range.

    Args:
        outer: Probability that a painted view keeps the boxes and loses everything else (out-painting) rather than the
            reverse (in-painting).
        inner_boxes: At most this many boxes, each with sides of `inner_fraction` of the volume's.
        inner_fraction: Smallest and largest side.
        outer_boxes: The same for out-painting.
        outer_fraction: The same for out-painting.
        prob: Probability per view.

    Raises:
        ValueError: for an argument outside its range.

    Source:
        Zhou et al., Models Genesis, MICCAI 2019.

    Example:
        >>> box = {"boxes": (((0, 0, 0), (1, 3, 3)),), "outer": True, "seed": 0}
        >>> Paint().apply(torch.ones(1, 1, 3, 3, 3), [box])[0, 0, 0].unique().tolist()
        [1.0]
    """

    def __init__(
        self,
        outer: float = 0.8,
        inner_boxes: int = 5,
        inner_fraction: Sequence[float] = (1 / 6, 1 / 3),
        outer_boxes: int = 4,
        outer_fraction: Sequence[float] = (3 / 7, 4 / 7),
        prob: float = 0.9,
    ) -> None:
        super().__init__(prob)
        require(0 <= outer <= 1, self, "outer", "a number in [0, 1]", outer)
        for name, (low, high) in (("inner_fraction", inner_fraction), ("outer_fraction", outer_fraction)):
            require(0 < low <= high <= 1, self, name, "two numbers with 0 < lowest <= highest <= 1", (low, high))
        require(min(inner_boxes, outer_boxes) > 0, self, "boxes", "at least 1", min(inner_boxes, outer_boxes))
        self.outer, self.inner_boxes, self.outer_boxes = float(outer), inner_boxes, outer_boxes
        self.inner_fraction, self.outer_fraction = tuple(inner_fraction), tuple(outer_fraction)

    def make_params(self, generator: torch.Generator, shape: Sequence[int]) -> Params:
        """Draw the boxes and the noise's seed: {"boxes": ((start, size), …), "outer": bool, "seed": int}."""
        outer = uniform(generator) < self.outer
        most, fraction = (self.outer_boxes, self.outer_fraction) if outer else (self.inner_boxes, self.inner_fraction)
        count = 1 + integer(generator, most)
        boxes = tuple(_box(generator, shape[-3:], fraction) for _ in range(count))
        return {"boxes": boxes, "outer": outer, "seed": integer(generator, 2**63 - 1)}

    @staticmethod
    def change_(volume: Tensor, boxes: Sequence[Sequence[Sequence[int]]], outer: bool, seed: int) -> None:
        """Paint noise inside the boxes, or outside all of them."""
        generator = torch.Generator(device=volume.device).manual_seed(seed)
        low, high = widen(volume).aminmax()
        painted = torch.rand(volume.shape, generator=generator, device=volume.device) * (high - low) + low
        inside = torch.zeros(volume.shape, dtype=torch.bool, device=volume.device)
        for start, size in boxes:
            region(inside, start, size).fill_(True)
        volume.copy_(torch.where(inside != outer, painted.to(volume.dtype), volume))


def _bezier(points: Sequence[Sequence[float]]) -> Tensor:
    """Height of the curve at evenly spaced x from 0 to 1, shape (CURVE_POINTS,)."""
    (x_1, y_1), (x_2, y_2) = points
    t = torch.linspace(0, 1, 4 * CURVE_POINTS)
    first, second, third = 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
    x, y = first * x_1 + second * x_2 + third, first * y_1 + second * y_2 + third
    grid = torch.linspace(0, 1, CURVE_POINTS)
    right = torch.searchsorted(x, grid).clamp(1, len(x) - 1)
    share = (grid - x[right - 1]) / (x[right] - x[right - 1]).clamp(min=1e-12)
    return torch.lerp(y[right - 1], y[right], share.clamp(0, 1))


def _box(
    generator: torch.Generator, shape: Sequence[int], fraction: Sequence[float]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    low, high = fraction
    sides = [low + (high - low) * uniform(generator) for _ in shape]
    size = tuple(max(1, round(part * side)) for part, side in zip(sides, shape, strict=True))
    start = tuple(integer(generator, side - n + 1) for side, n in zip(shape, size, strict=True))
    return start, size


class ReconstructionNetwork(nn.Module):
    """An encoder with MONAI's U-Net decoder on top, which reconstructs a volume from a corrupted one.

    The decoder ends at half the resolution; a sub-pixel convolution makes the volume, at a tenth of the cost of
    convolutions at full resolution.

    Args:
        encoder: Encoder whose last feature map at each resolution goes to the decoder.
        in_channels: Channels of a volume.
        width: Filters of the decoder's finest stage; each coarser one has twice as many.

    Shape:
        volumes (N, C, D, H, W), output (N, C, D, H, W).

    Raises:
        ValueError: for an encoder without `features`.

    Source:
        Zhou et al., Models Genesis, MICCAI 2019; there the encoder is a U-Net's.
    """

    def __init__(self, encoder: Encoder, in_channels: int = 1, width: int = 16) -> None:
        super().__init__()
        if not isinstance(getattr(encoder, "features", None), nn.Sequential):
            raise ValueError(
                f"Models Genesis reads the feature maps of an encoder's `features`, but {type(encoder).__name__} has "
                "none; take the DenseNet or the ResNet, or another pretext."
            )
        self.encoder = encoder
        channels = _stage_channels(encoder, in_channels)
        self.multiple = 2 ** len(channels)  # every stage halves the sides
        self.decoder = UNetDecoder(
            spatial_dims=3,
            encoder_channels=channels,
            decoder_channels=[width * 2**i for i in reversed(range(len(channels) - 1))],
            act="relu",
            norm="batch",
            dropout=0.0,
            bias=False,
            upsample="nontrainable",
            pre_conv="default",
            interp_mode="trilinear",
            align_corners=False,
            is_pad=False,
        )
        self.output = SubpixelUpsample(3, width, in_channels, scale_factor=2)

    def forward(self, volumes: Tensor) -> Tensor:
        """Reconstruct volumes; their borders are repeated up to sides that halve without a remainder."""
        missing = [-side % self.multiple for side in volumes.shape[:1:-1]]
        padded = F.pad(volumes, [n for side in missing for n in (0, side)], mode="replicate")
        maps = _stages(self.encoder.features, padded)
        maps[-1] = F.relu(maps[-1])
        restored = self.output(self.decoder(maps, skip_connect=len(maps) - 2))
        depth, height, width = volumes.shape[2:]
        return restored[:, :, :depth, :height, :width]


class ReconstructionLoss(nn.Module):
    """Mean squared error of both views' reconstructions.

    Shape:
        reconstruction (2N, C, D, H, W), all first views, then all second views; volumes (N, C, D, H, W);
        output () float32.

    Attributes:
        separable: The loss of a batch is the mean of its subjects', so that several processes need exchange no volumes.
        reads_metadata: No.
    """

    separable = True
    reads_metadata = False

    def forward(self, reconstruction: Tensor, volumes: Tensor) -> Tensor:
        """Loss of reconstructions given the volumes before corruption."""
        view_1, view_2 = reconstruction.float().chunk(2)
        return (F.mse_loss(view_1, volumes.float()) + F.mse_loss(view_2, volumes.float())) / 2


def _stages(features: nn.Module, volumes: Tensor) -> list[Tensor]:
    """The last feature map at each resolution, the finest first."""
    maps: list[Tensor] = []
    last = volumes
    for layer in features.children():
        before, last = last, layer(last)
        if last.shape[2:] != before.shape[2:] and before is not volumes:
            maps.append(before)
    return [*maps, last]


@torch.no_grad()
def _stage_channels(encoder: Encoder, in_channels: int) -> list[int]:
    training = encoder.training
    maps = _stages(encoder.eval().features, torch.zeros(1, in_channels, 64, 64, 64))
    encoder.train(training)
    return [m.shape[1] for m in maps]
