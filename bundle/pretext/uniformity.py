"""Contrastive losses with continuous metadata that are not InfoNCE: other answers to the paper's question."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bundle.pretext.arguments import check_number
from bundle.pretext.infonce import KernelLoss, check, cosines, others, precision


def decoupled_uniformity(projections: Tensor, weights: Tensor, regularization: float = 0.01) -> Tensor:
    """Decoupled uniformity: subjects' centroids, smoothed over similar subjects, spread over the sphere.

    L = log mean_{i<j} exp(−2 ‖μ̂_i − μ̂_j‖²), μ̂ = (K + λI)⁻¹ K μ, with μ_i the mean of the two normalised views and K the
    weights. The loss is 0 for a single subject.

    Args:
        projections: All first views, then all second views; normalised here.
        weights: Similarity of the N subjects in [0, 1], diagonal 1.
        regularization: λ.

    Shape:
        projections (2N, D), weights (N, N), output () float32 (float64 for float64 projections).

    Raises:
        ValueError: for wrong shapes or λ ≤ 0.

    Source:
        Dufumier et al., ICML 2023.
    """
    check(projections, weights)
    _check_regularization(regularization)
    with torch.autocast(projections.device.type, enabled=False):
        view_1, view_2 = F.normalize(projections.to(precision(projections)), dim=1).chunk(2)
        kernel = weights.to(view_1)
        ridge = regularization * torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
        centroids = torch.linalg.solve_ex(kernel + ridge, kernel @ ((view_1 + view_2) / 2))[0]
        if len(centroids) == 1:
            return 0.0 * centroids.sum()
        return torch.logsumexp(-2 * F.pdist(centroids) ** 2, dim=0) - math.log(math.comb(len(centroids), 2))


def conditional_alignment_uniformity(projections: Tensor, weights: Tensor, balance: float = 1.0) -> Tensor:
    """Similar subjects attract, and only dissimilar ones repel.

    L = Σ_{i≠j} w_ij ‖z_i − z_j‖² / Σ_{i≠j} w_ij + β · log( Σ_{i≠j} v_ij exp(−2 ‖z_i − z_j‖²) / Σ_{i≠j} v_ij ),
    v = 1 − w, over the 2N views. Without dissimilar pairs the second term is 0.

    Args:
        projections: All first views, then all second views; normalised here.
        weights: Similarity of the N subjects in [0, 1], diagonal 1.
        balance: β.

    Shape:
        projections (2N, D), weights (N, N), output () float32 (float64 for float64 projections).

    Raises:
        ValueError: for wrong shapes or β < 0.

    Source:
        Dufumier et al., 2021 (conditional alignment and uniformity); Wang and Isola, ICML 2020.
    """
    check(projections, weights)
    _check_balance(balance)
    with torch.autocast(projections.device.type, enabled=False):
        squares = 2 - 2 * others(cosines(projections))
        attract = others(weights.to(squares.dtype).repeat(2, 2))
        repel = 1 - attract
        total = repel.sum()
        some = (total > 0).to(total.dtype)  # without a branch, which would wait for the host
        repulsion = ((repel * torch.exp(-2 * squares)).sum() + 1 - some) / (total + 1 - some)
        return (attract * squares).sum() / attract.sum() + balance * torch.log(repulsion)


def _check_regularization(regularization: float) -> None:
    check_number("regularization", regularization, 0, without_low=True, usual=0.01)


def _check_balance(balance: float) -> None:
    check_number("balance", balance, 0, without_low=False, usual=1)


class DecoupledUniformity(KernelLoss):
    """Module of `decoupled_uniformity`.

    Args:
        kernel: Similarity of metadata.
        regularization: λ.

    Raises:
        ValueError: for λ ≤ 0.
    """

    def __init__(self, kernel: nn.Module, regularization: float = 0.01) -> None:
        super().__init__(kernel)
        _check_regularization(regularization)
        self.regularization = float(regularization)

    def loss(self, projection: Tensor, weights: Tensor) -> Tensor:
        """Loss of projections (2N, D) and weights (N, N)."""
        return decoupled_uniformity(projection, weights, self.regularization)

    def extra_repr(self) -> str:
        """Show what the loss was made with."""
        return f"regularization={self.regularization}"


class ConditionalAlignmentUniformity(KernelLoss):
    """Module of `conditional_alignment_uniformity`.

    Args:
        kernel: Similarity of metadata.
        balance: β.

    Raises:
        ValueError: for β < 0.
    """

    def __init__(self, kernel: nn.Module, balance: float = 1.0) -> None:
        super().__init__(kernel)
        _check_balance(balance)
        self.balance = float(balance)

    def loss(self, projection: Tensor, weights: Tensor) -> Tensor:
        """Loss of projections (2N, D) and weights (N, N)."""
        return conditional_alignment_uniformity(projection, weights, self.balance)

    def extra_repr(self) -> str:
        """Show what the loss was made with."""
        return f"balance={self.balance}"
