"""The two maps of a person as one item of a data set; a placeholder where one is lacking."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Transform
from torch import Tensor

from bundle.cohort.joined import FIRST, SECOND

MAPS = (FIRST, SECOND)


class BothMaps(Transform):
    """Reads and preprocesses the maps of a joined record.

    Args:
        first: Preprocessing of the first modality: record with `image` → the same with a volume.
        second: That of the second modality.
        records: All joined records of the data set. A placeholder has the shape of the first map of its modality.

    Shape:
        item["image"] (C, D, H, W), item["second_image"] (C', D', H', W'), zeros where there is no map; item["there"]
        (2,) bool, which of them are maps.
    """

    def __init__(self, first: Callable[..., Any], second: Callable[..., Any], records: Sequence[Mapping]) -> None:
        self.preprocessing = dict(zip(MAPS, (first, second), strict=True))
        self.records = records
        self._placeholders: dict[str, Tensor] = {}

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The record with both volumes, and which of them are maps."""
        volumes = {key: self._read(key, record[key]) if record[key] else self._placeholder(key) for key in MAPS}
        return {**record, **volumes, "there": torch.tensor([bool(record[key]) for key in MAPS])}

    def _read(self, key: str, path: str) -> Tensor:
        return self.preprocessing[key]({FIRST: path})[FIRST]

    def _placeholder(self, key: str) -> Tensor:
        if key not in self._placeholders:
            path = next(record[key] for record in self.records if record[key])
            self._placeholders[key] = torch.zeros_like(self._read(key, path))
        return self._placeholders[key]
