"""A random transform of a volume: `make_params` draws, `apply` is deterministic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bundle.pretext.arguments import is_number

Params = dict[str, Any]  # plain Python numbers: they can be logged, compared and stored as JSON


class Transform:
    """A random change of a volume: `make_params` draws it, `apply` is deterministic.

    Args:
        prob: Probability, in [0, 1], that a view undergoes the change.

    Raises:
        ValueError: for an argument outside its range.
    """

    change_: Callable[..., None]  # changes one volume (C, D, H, W) in place: static, called with **params

    def __init__(self, prob: float = 1.0) -> None:
        require(is_number(prob) and 0 <= prob <= 1, self, "prob", "a number in [0, 1]", prob)
        self.prob = float(prob)

    def make_params(self, generator: torch.Generator, shape: Sequence[int]) -> Params:  # noqa: ARG002
        """Draw one sample's parameters, none here, from a CPU generator; `shape` ends with (D, H, W) in voxels."""
        return {}

    def draw(self, generator: torch.Generator, shape: Sequence[int]) -> Params | None:
        """One sample's parameters, or None, with probability 1 − prob, where it is left alone.

        It consumes the same random numbers either way, so `prob` never shifts what is drawn later.
        """
        drawn, params = uniform(generator), self.make_params(generator, shape)
        return params if drawn < self.prob else None

    @torch.no_grad()
    def apply(self, images: Tensor, params: Sequence[Params | None], inplace: bool = False) -> Tensor:
        """Change each image by its own parameters.

        Args:
            images: A floating-point batch.
            params: One set per image as drawn by `make_params`; None leaves the image alone.
            inplace: Overwrite `images` rather than a copy.

        Shape:
            (B, C, D, H, W) → (B, C, D, H, W), same dtype, device and memory format.

        Raises:
            ValueError: for images that are not such a batch, or another number of parameters.

        Example:
            >>> Flip().apply(torch.arange(4.0).view(1, 1, 1, 1, 4), [{"axis": 2}]).flatten().tolist()
            [3.0, 2.0, 1.0, 0.0]
        """
        check_batch(self, images, params, "params")
        out = images if inplace else images.as_subclass(Tensor).clone()
        for volume, chosen in zip(out, params, strict=True):
            if chosen is not None:
                self.change_(volume, **chosen)
        return out

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


def integer(generator: torch.Generator, high: int) -> int:
    """A whole number below `high`."""
    return int(torch.randint(high, (), generator=generator).item())


def uniform(generator: torch.Generator) -> float:
    """A number in [0, 1)."""
    return float(torch.rand((), generator=generator, dtype=torch.float64).item())


def region(volume: Tensor, start: Sequence[int], size: Sequence[int]) -> Tensor:
    """The voxels of a cuboid in all channels, as a view: (C, d, h, w)."""
    d, h, w = (slice(first, first + side) for first, side in zip(start, size, strict=True))
    return volume[:, d, h, w]


def widen(volume: Tensor) -> Tensor:
    """The volume in at least float32: sums over half-precision voxels are too coarse."""
    return volume.to(torch.promote_types(volume.dtype, torch.float32))


def require(valid: bool, owner: object, name: str, expected: str, found: object) -> None:
    """Refuse an argument in a sentence that names its owner, what is expected and what was found."""
    if not valid:
        raise ValueError(f"{type(owner).__name__}: {name} must be {expected}, but got {found!r}.")


def check_batch(owner: object, images: Tensor, items: Sequence[object], name: str) -> None:
    """Refuse images that are no floating-point batch, and lists that do not have one item per image."""
    found = f"{images.dtype} of shape {tuple(images.shape)}" if isinstance(images, Tensor) else images
    valid = isinstance(images, Tensor) and images.ndim == 5 and images.is_floating_point()
    require(valid, owner, "images", "a floating-point batch (N, C, D, H, W)", found)
    valid = isinstance(items, (list, tuple)) and len(items) == len(images)
    require(valid, owner, name, f"a list of one per image, {len(images)} here", items)
