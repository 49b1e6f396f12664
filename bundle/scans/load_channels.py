"""The files of a scan as one tensor: each is one channel of what a network sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import LoadImage, MapTransform

from bundle.hints import nearest
from bundle.scans.channels import Place, other_grid
from bundle.scans.grid import Grid
from bundle.scans.modality import MODALITIES
from bundle.scans.nifti import VolumeError
from bundle.scans.volumes import squeezed, within_limits

MISSING = ("refuse", "zero")


class LoadChannelsd(MapTransform):
    """Loads the files of one scan and stacks them: the record's `image`, and those of its `channels`.

    MONAI's `LoadImaged` stacks a list of files, too, but reads all with the reader of the first, keeps axes of length
    one, and knows neither of missing files nor of whose channel one is.

    Args:
        keys: Key of the path of the first channel; the tensor of all takes its place.
        channels: Names of the modality of each channel; the first is that of `image`.
        missing: What becomes of a channel without a file: `refuse`, or `zero`, which every voxel has then; normalised,
            it is still 0, the mean of any other scan.

    Shape:
        output (C, D, H, W), with the affine of the first channel.

    Raises:
        ValueError: for other channels than known ones, or another way with missing files.
    """

    def __init__(self, keys: KeysCollection, channels: Sequence[str], missing: str = "refuse") -> None:
        super().__init__(keys)
        if missing not in MISSING:
            raise ValueError(
                f"`missing` is {' or '.join(MISSING)}, but '{missing}' was given{nearest(missing, MISSING)}"
            )
        if unknown := [name for name in channels if name not in MODALITIES]:
            raise ValueError(f"No modality is named '{unknown[0]}'{nearest(unknown[0], MODALITIES)}")
        self.channels, self.missing = tuple(channels), missing
        self.load = LoadImage(image_only=True)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The record with its scan as a tensor.

        Raises:
            VolumeError: a file cannot be used, is missing, or lies on another grid than the first.
        """
        return {**data, **{name: self._stacked(data[name], data.get("channels", ())) for name in map(str, self.keys)}}

    def _stacked(self, image: str, others: Sequence[str]) -> MetaTensor:
        if len(others) != len(self.channels) - 1:
            raise VolumeError(
                f"{image} has {1 + len(others)} channel(s), expected {len(self.channels)} "
                f"({', '.join(self.channels)}); make the datalist with `cohort --channels`."
            )
        first = self._loaded(str(image))
        volumes: list[torch.Tensor] = [first]
        for name, path in zip(self.channels[1:], others, strict=True):
            if not path and self.missing == "refuse":
                raise VolumeError(
                    f"The scan {image} has no {MODALITIES[name].words}; leave the scan out, or let the preprocessing "
                    "put 0 in its place (missing: zero, in the overlay of the modality)."
                )
            volumes.append(self._on_the_same_grid(str(path), str(image), first) if path else torch.zeros_like(first))
        stacked = torch.stack([torch.as_tensor(volume.as_subclass(torch.Tensor)) for volume in volumes])
        return MetaTensor(stacked, affine=first.affine)

    def _on_the_same_grid(self, path: str, image: str, first: MetaTensor) -> MetaTensor:
        volume = self._loaded(path)
        places = [_place(str(file), found) for file, found in ((image, first), (path, volume))]
        if fault := other_grid([image, path], places):
            raise VolumeError(fault)
        return volume

    def _loaded(self, path: str) -> MetaTensor:
        volume = self.load(within_limits(path))
        return volume.reshape(squeezed(tuple(volume.shape)))


def _place(path: str, volume: MetaTensor) -> Place:
    """Where a volume lies; of an array, which has no affine, its shape."""
    return tuple(volume.shape) if path.endswith(".npy") else Grid.of(volume.shape, volume.affine)
