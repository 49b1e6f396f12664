"""Pooling that answers in the type and the memory layout it is asked in; torch's 3D pooling on a CPU does neither."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaxPool(nn.MaxPool3d):
    """Maximum pooling in the type it is asked in, also under autocast, which would have it work in float32 on a CPU."""

    def forward(self, volumes: Tensor) -> Tensor:
        """Pool volumes (N, C, D, H, W)."""
        with torch.autocast("cpu", enabled=False):
            pooled = super().forward(volumes)
        assert isinstance(pooled, Tensor)
        return pooled


class AveragePool(nn.Module):
    """Average pooling by two, in the type and the memory layout it is asked in.

    On a CPU, torch's 3D average works in float32 and hands volumes of channels last on as contiguous ones, which every
    later layer would turn round again. Its 2D average does neither, and so pools over height and width, with slices as
    the batch, and then over depth, with a slice as one row.

    Shape:
        volumes (N, C, D, H, W), output (N, C, D // 2, H // 2, W // 2).
    """

    def forward(self, volumes: Tensor) -> Tensor:
        """Pool volumes."""
        if not volumes.is_contiguous(memory_format=torch.channels_last_3d):
            return F.avg_pool3d(volumes, 2).to(volumes.dtype)
        slices = F.avg_pool2d(volumes.transpose(1, 2).flatten(0, 1), 2)
        height, width = slices.shape[2:]
        rows = slices.unflatten(0, volumes.shape[:3:2]).transpose(1, 2).flatten(3)
        return F.avg_pool2d(rows, (2, 1)).unflatten(3, (height, width))
