"""Rivals of contrastive pretraining: other tasks that teach an encoder without diagnoses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks import SubpixelUpsample
from monai.networks.nets.flexible_unet import UNetDecoder
from torch import Tensor, nn

from bundle.networks import Encoder


class AgeRegressor(nn.Module):
    """An encoder with a linear head that predicts standardised age.

    Args:
        encoder: has `embedding_size`.

    Shape:
        volumes (N, C, D, H, W), output (N, 1).

    Source:
        The age-regression rival of Dufumier et al., MICCAI 2021.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = nn.Linear(encoder.embedding_size, 1)

    def forward(self, volumes: Tensor) -> Tensor:
        """Predict from volumes."""
        return self.projector(self.encoder(volumes))


class AgeRegressionLoss(nn.Module):
    """Mean absolute error of age over both views, in standard deviations of the training ages.

    L = mean |p − (y − m) / s|, over the views of subjects whose age y is known; 0 where none is.

    Args:
        ages: of the training table, years, NaN = unknown; their mean m and standard deviation s standardise.

    Shape:
        prediction (2N, 1), all first views, then all second views; metadata (N, 1) years; output () float32.

    Raises:
        ValueError: when the known ages do not differ, or shapes do not fit.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, ages: Sequence[float]) -> None:
        super().__init__()
        table = torch.as_tensor(ages, dtype=torch.float64)
        table = table[~table.isnan()]
        if len(table) < 2 or table.std() == 0:
            raise ValueError(f"Age regression needs ages that differ, but {len(table)} known age(s) were found.")
        self.register_buffer("mean", table.mean().float())
        self.register_buffer("sd", table.std().float())

    def forward(self, prediction: Tensor, metadata: Tensor) -> Tensor:
        """Loss of predictions (2N, 1) given ages (N, 1)."""
        if prediction.shape != (2 * len(metadata), 1) or metadata.shape[1:] != (1,):
            raise ValueError(
                f"Age regression takes predictions (2N, 1) and ages (N, 1), but {tuple(prediction.shape)} and "
                f"{tuple(metadata.shape)} were found; set `metadata_columns` to [age]."
            )
        ages = metadata.to(prediction.device).float().repeat(2, 1)
        known = ~ages.isnan()
        target = (torch.nan_to_num(ages, nan=0.0) - self.mean.to(ages)) / self.sd.to(ages)
        errors = F.l1_loss(prediction.float(), target, reduction="none") * known
        return errors.sum() / known.sum().clamp(min=1)


class ReconstructionNetwork(nn.Module):
    """An encoder with MONAI's U-Net decoder on top, which reconstructs a volume from a corrupted one.

    The decoder ends at half the resolution; a sub-pixel convolution makes the volume, at a tenth of the cost of
    convolutions at full resolution.

    Args:
        encoder: its last feature map at each resolution goes to the decoder.
        in_channels: channels of a volume.
        width: filters of the decoder's finest stage; each coarser one has twice as many.

    Shape:
        volumes (N, C, D, H, W), output (N, C, D, H, W).

    Source:
        Zhou et al., Models Genesis, MICCAI 2019; there the encoder is a U-Net's.
    """

    def __init__(self, encoder: Encoder, in_channels: int = 1, width: int = 16) -> None:
        super().__init__()
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
        separable: the loss of a batch is the mean of its subjects', so that several processes need exchange no volumes.
    """

    separable = True

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
