"""Rivals of contrastive pretraining: other tasks that teach an encoder without diagnoses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bundle.networks.encoders import check_encoder, embed


class AgeRegressor(nn.Module):
    """An encoder with a linear head that predicts standardised age.

    Args:
        encoder: Any module with `embedding_size`; see `networks.encoders.check_encoder`.

    Shape:
        volumes (N, C, D, H, W), output (N, 1).

    Source:
        The age-regression rival of Dufumier et al., MICCAI 2021.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = check_encoder(encoder)
        self.projector = nn.Linear(encoder.embedding_size, 1)  # type: ignore[arg-type]

    def forward(self, volumes: Tensor) -> Tensor:
        """Predict from volumes."""
        return self.projector(embed(self.encoder, volumes))


class AgeRegressionLoss(nn.Module):
    """Mean absolute error of age over both views, in standard deviations of the training ages.

    L = mean of abs(p − (y − m) / s), over the views of subjects whose age y is known; 0 where none is.

    Args:
        ages: Ages of the training table, years, NaN = unknown; their mean m and standard deviation s standardise.

    Shape:
        prediction (2N, 1), all first views, then all second views; metadata (N, 1) years; output () float32.

    Raises:
        ValueError: when the known ages do not differ, or shapes do not fit.

    Attributes:
        columns: The metadata are ages; a training with others is refused.
    """

    columns = ("age",)
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
