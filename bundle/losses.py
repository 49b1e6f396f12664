"""The y-Aware InfoNCE loss: every other view attracts the anchor in proportion to how close their metadata are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORMALISATIONS = ("anchor", "column")


def weighted_infonce(
    projections: Tensor, weights: Tensor, temperature: float = 0.1, normalize: str = "anchor"
) -> Tensor:
    """InfoNCE with graded positives, averaged over the 2N anchors.

    L = −1/(2N) Σ_i Σ_{k≠i} w_ik / Σ_{j≠i} w_ij · log( exp(s_ik/τ) / Σ_{j≠i} exp(s_ij/τ) ), with s the cosine
    similarity of the projections. The loss is 0 for a single subject.

    Args:
        projections: all first views, then all second views; normalised here.
        weights: similarity of the N subjects in [0, 1], diagonal 1. The identity gives NT-Xent (SimCLR).
        temperature: τ.
        normalize: `anchor` divides each anchor's weights by their sum, as the paper's equation does. `column`
            reproduces the paper's released code, for reproduction only: it divides by the column sums, so that an
            anchor's weights add up to 0.4–1.2 rather than 1 and anchors of rare age count less than half, and it
            returns twice the mean over the anchors.

    Shape:
        projections (2N, D), weights (N, N), output () float32 (float64 for float64 projections).

    Raises:
        ValueError: for wrong shapes, a temperature that is not positive, or an unknown normalisation.

    Source:
        Dufumier et al., MICCAI 2021, equations 2 and 3.

    Example:
        >>> views = F.normalize(torch.eye(4), dim=1)
        >>> round(weighted_infonce(views, torch.eye(2), temperature=1.0).item(), 4)  # log 3
        1.0986
    """
    _check(projections, weights, temperature, normalize)
    with torch.autocast(projections.device.type, enabled=False):
        log_probability = _log_probability(projections, temperature)
        shares = _shares(weights.to(log_probability.dtype), normalize)
        loss = -(shares * log_probability).sum(1).mean()
    return loss if normalize == "anchor" else 2 * loss


def _log_probability(projections: Tensor, temperature: float) -> Tensor:
    """Log p(k | i) over all other views k ≠ i; 0 on the diagonal. Shape (2N, 2N)."""
    dtype = torch.float64 if projections.dtype == torch.float64 else torch.float32
    z = F.normalize(projections.to(dtype), dim=1)
    self_pairs = torch.eye(len(z), dtype=torch.bool, device=z.device)
    logits = (z @ z.T / temperature).masked_fill(self_pairs, -torch.inf)
    return F.log_softmax(logits, dim=1).masked_fill(self_pairs, 0.0)


def _shares(weights: Tensor, normalize: str) -> Tensor:
    """Weights of N subjects as shares of the 2N views' positives; 0 on the diagonal. Shape (2N, 2N)."""
    shares = weights.repeat(2, 2)
    shares = shares.masked_fill(torch.eye(len(shares), dtype=torch.bool, device=shares.device), 0.0)
    sums = shares.sum(1, keepdim=True)
    return shares / (sums if normalize == "anchor" else sums.T)


def _check(projections: Tensor, weights: Tensor, temperature: float, normalize: str) -> None:
    n = len(weights)
    if projections.ndim != 2 or len(projections) != 2 * n or n == 0:
        raise ValueError(
            f"Projections are (2N, D), all first views then all second views, but {tuple(projections.shape)} was found "
            f"for {n} subject(s)."
        )
    if weights.shape != (n, n):
        raise ValueError(f"Weights are (N, N), one per pair of subjects, but {tuple(weights.shape)} was found.")
    _check_options(temperature, normalize)


def _check_options(temperature: float, normalize: str) -> None:
    if normalize not in NORMALISATIONS:
        raise ValueError(f"`normalize` is one of {', '.join(NORMALISATIONS)}, but '{normalize}' was given.")
    if not temperature > 0:
        raise ValueError(f"`temperature` must be a positive number (the paper's is 0.1), but {temperature} was given.")


class YAwareInfoNCE(nn.Module):
    """The y-Aware InfoNCE loss of projections and metadata; see `weighted_infonce` for the formula.

    Args:
        kernel: similarity of metadata, for example `GaussianKernel(sigma=5.0)` for age alone or
            `ProductKernel(age=GaussianKernel(5.0), sex=DiscreteKernel(0.5))`.
        temperature: τ.
        normalize: `anchor` (the paper's equation) or `column` (its released code).

    Shape:
        projection (2N, D), all first views, then all second views; metadata (N, M), NaN = unknown; output ().

    Raises:
        ValueError: for a temperature that is not positive, an unknown normalisation, or wrong shapes.

    Source:
        Dufumier et al., MICCAI 2021.

    Example:
        >>> from bundle.kernels import GaussianKernel
        >>> loss = YAwareInfoNCE(GaussianKernel(sigma=5.0))
        >>> loss(torch.randn(8, 16), torch.tensor([[20.0], [24.0], [28.0], [60.0]])).shape
        torch.Size([])
    """

    def __init__(self, kernel: nn.Module, temperature: float = 0.1, normalize: str = "anchor") -> None:
        super().__init__()
        _check_options(temperature, normalize)
        self.kernel = kernel
        self.temperature, self.normalize = float(temperature), normalize

    def forward(self, projection: Tensor, metadata: Tensor) -> Tensor:
        """Loss of projections (2N, D) given metadata (N, M)."""
        weights = self.kernel(metadata).to(projection.device)
        return weighted_infonce(projection, weights, self.temperature, self.normalize)


class InfoNCE(nn.Module):
    """InfoNCE / NT-Xent (SimCLR): a subject's own second view is its only positive.

    Not the same as y-Aware InfoNCE with a tiny sigma: two subjects of equal (integer!) age have weight 1 at any sigma.

    Args:
        temperature: τ.

    Shape:
        projection (2N, D), all first views, then all second views; output ().

    Raises:
        ValueError: for a temperature that is not positive, or an odd number of views.

    Source:
        Chen et al., ICML 2020, equation 1.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        _check_options(temperature, "anchor")
        self.temperature = float(temperature)

    def forward(self, projection: Tensor, metadata: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Loss of projections (2N, D); metadata are taken, for engines that pass them, and ignored."""
        weights = torch.eye(len(projection) // 2, device=projection.device)
        return weighted_infonce(projection, weights, self.temperature)
