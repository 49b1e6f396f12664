"""How a preprocessed volume is kept in 16 or 8 bits, and read again memory-mapped."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from bundle.scans.npy import open_array
from bundle.scans.volumes import VolumeError

STORAGES = ("float16", "uint8")


class ReadStoredd(MapTransform):
    """Opens cached volumes without reading them: torch tensors (1, D, H, W) as they are stored, or float32.

    As stored, float16 or uint8 travels to the device, where `ContrastivePrepareBatch` makes float32 of it with the
    record's `intensity`. Pages come from the file while the batch is made, and the operating system keeps them.

    Args:
        keys: Keys of the records' images.
        restore: True: float32, and no `intensity` any more, for whatever does not know of it.

    Raises:
        ValueError: the volume is missing or damaged.
    """

    def __init__(self, keys: KeysCollection = "image", restore: bool = False) -> None:
        super().__init__(keys)
        self.restore = restore

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The record with its volume and `intensity` (2,), scale and offset, as tensors."""
        volumes = {str(key): _mapped(Path(data[str(key)])) for key in self.keys}
        if self.restore:
            scale, offset = map(float, data["intensity"])
            restored = {name: volume.float() * scale + offset for name, volume in volumes.items()}
            return {**{name: value for name, value in data.items() if name != "intensity"}, **restored}
        return {**data, **volumes, "intensity": torch.tensor(data["intensity"], dtype=torch.float32)}


def _mapped(path: Path) -> torch.Tensor:
    try:
        # Not "r": torch has no read-only tensors and warns of them. What is written to a copy-on-write map stays there.
        stored = open_array(path, "c")
        if stored.dtype not in STORAGES or stored.ndim != 4:
            raise ValueError(f"it holds {stored.dtype} of shape {stored.shape}")
    except Exception as error:  # as many kinds as ways to damage a file
        raise ValueError(
            f"The cached volume {path} cannot be read ({error}); run the same cache command again."
        ) from error
    if isinstance(stored.base, mmap.mmap) and hasattr(mmap, "MADV_SEQUENTIAL"):
        stored.base.madvise(mmap.MADV_SEQUENTIAL)  # a third faster, on disk and in memory: fewer, larger reads
    return torch.from_numpy(stored)


def pack(volume: np.ndarray, storage: str) -> tuple[np.ndarray, list[float]]:
    """Store a volume in 16 or 8 bits: volume ≈ scale · stored + offset.

    float16 keeps 11 significant bits. uint8 has 255 equal steps from the lowest to the highest value of this volume,
    hence an error of at most half a step.

    Args:
        volume: Finite real numbers.
        storage: `float16` or `uint8`.

    Returns:
        What is stored, and [scale, offset].

    Raises:
        VolumeError: float16 cannot hold the values.
    """
    if storage == "uint8":
        low, high = float(volume.min()), float(volume.max())
        scale = (high - low) / 255 or 1.0
        return np.rint((volume.astype(np.float64) - low) / scale).astype(np.uint8), [scale, low]
    largest = float(np.abs(volume).max())
    if largest > float(np.finfo(np.float16).max):
        raise VolumeError(f"is preprocessed to values up to {largest:g}, beyond float16's 65504; use --storage uint8")
    return volume.astype(np.float16), [1.0, 0.0]
