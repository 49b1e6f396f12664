"""Rank-N-Contrast: subjects are ranked by how far their metadata are from the anchor's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bundle.pretext.arguments import check_temperature
from bundle.pretext.infonce import check, log_sum_up_to, others, precision, row_shares


def rank_n_contrast(projections: Tensor, metadata: Tensor, temperature: float = 2.0) -> Tensor:
    """Rank-N-Contrast: every other view is a positive, against all views at least as far away in metadata.

    L = −1/(2N) Σ_i 1/|P_i| Σ_{j∈P_i} log( exp(−‖z_i − z_j‖/τ) / Σ_{k≠i: d_ik ≥ d_ij} exp(−‖z_i − z_k‖/τ) ), with d the
    Euclidean distance of the metadata. Projections are not normalised. P_i are the other views whose distance is
    known, always the subject's own second view; a view of unknown distance counts as farther than any other.

    Args:
        projections: All first views, then all second views.
        metadata: Metadata of the N subjects, on one scale; NaN = unknown.
        temperature: τ, of Euclidean distances and therefore larger than that of cosines.

    Shape:
        projections (2N, D), metadata (N,) or (N, M), output () float32 (float64 for float64 projections).

    Raises:
        ValueError: for wrong shapes or an implausible temperature.

    Source:
        Zha et al., NeurIPS 2023, equation 2.
    """
    check(projections, torch.eye(len(metadata)))
    check_temperature(temperature)
    with torch.autocast(projections.device.type, enabled=False):
        z = projections.to(precision(projections))
        logits = -others(_distances(z)) / temperature
        closeness = others(_closeness(metadata.reshape(len(metadata), -1).to(z)).repeat(2, 2))
        positive = closeness.isfinite().to(z.dtype)
        against = log_sum_up_to(logits, closeness, equal=True)
        return -(row_shares(positive) * (logits - against)).sum(1).mean()


def _distances(rows: Tensor) -> Tensor:
    """Euclidean distances (n, n) of rows (n, d), by differences: exactly 0 between equal rows."""
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")


def _closeness(metadata: Tensor) -> Tensor:
    """Negative distance of metadata rows (N, N); −∞ where it is unknown, 0 to oneself."""
    closeness = torch.nan_to_num(-_distances(metadata), nan=-torch.inf)
    return closeness.masked_fill(torch.eye(len(closeness), dtype=torch.bool, device=closeness.device), 0.0)


class RankNContrast(nn.Module):
    """Module of `rank_n_contrast`.

    Args:
        temperature: τ, of Euclidean distances.

    Raises:
        ValueError: for an implausible temperature.
    """

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = float(temperature)

    def forward(self, projection: Tensor, metadata: Tensor) -> Tensor:
        """Loss of projections (2N, D) given metadata (N, M)."""
        return rank_n_contrast(projection, metadata.to(projection.device), self.temperature)

    def extra_repr(self) -> str:
        """Show what the loss was made with."""
        return f"temperature={self.temperature}"
