"""y-Aware InfoNCE between two modalities: a person's two maps attract each other, and those of near age by degrees."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bundle.pretext.arguments import check_temperature, is_number
from bundle.pretext.infonce import KernelLoss, precision
from bundle.pretext.shares import NOBODY, check_own_share
from bundle.pretext.within_site import within_site_infonce

MODALITIES = 2


def cross_modal_infonce(
    first: Tensor,
    second: Tensor,
    weights: Tensor,
    both: Tensor | None = None,
    temperature: float = 0.1,
    own_share: float | None = None,
) -> Tensor:
    """InfoNCE with graded positives, whose anchors are of one modality and whose candidates are of the other.

    With a the projections of the first modality and b those of the second, s_ik = a_i · b_k / (‖a_i‖ ‖b_k‖), and
    p_ik = w_ik / Σ_j w_ij, all indices over the 2n views of the n subjects who have both modalities:

    L = −1/(4n) Σ_i Σ_k p_ik [ log( exp(s_ik/τ) / Σ_j exp(s_ij/τ) ) + log( exp(s_ki/τ) / Σ_j exp(s_ji/τ) ) ]

    A modality is never compared with itself, so that recognising the modality gains nothing. Where nobody has both, the
    loss is 0.

    Args:
        first: Projections of the first modality: all first views, then all second views; normalised here.
        second: Those of the second modality, of the same subjects in the same order.
        weights: Similarity of the N subjects in [0, 1], symmetric, diagonal 1.
        both: Who has both modalities; the rows of the others are in no sum. None: everybody.
        temperature: τ.
        own_share: λ: the two views of the anchor's own other map get λ together, and those of the others 1 − λ in
            proportion to their weights; somebody similar to nobody keeps the own map alone. None: the equation.

    Shape:
        first (2N, D), second (2N, D), weights (N, N), both (N,), output () float32 (float64 for float64 projections).

    Raises:
        ValueError: for wrong shapes, an implausible temperature, or a share that cannot be.

    Source:
        Candidates of the other modality: Radford et al., ICML 2021. Weights: Dufumier et al., MICCAI 2021.

    Example:
        >>> own = torch.eye(2).repeat(2, 1)
        >>> round(cross_modal_infonce(own, own, torch.eye(2), temperature=1.0).item(), 4)  # log(2e + 2) − 1
        1.0064
    """
    _check(first, second, weights)
    check_temperature(temperature)
    check_own_share(own_share)
    there = torch.ones(len(weights), dtype=torch.bool) if both is None else both
    with torch.autocast(first.device.type, enabled=False):
        a, b = (F.normalize(part.to(precision(part)), dim=1) for part in (first, second))
        here = there.to(a.device)
        pairs = here[:, None] & here[None, :]
        known = torch.where(pairs, weights.to(a), torch.eye(len(here)).to(a))
        shares = cross_shares(known, own_share) * here[:, None]
        views = here.repeat(2)
        logits = (a @ (b.T / temperature)).masked_fill(views[:, None] ^ views[None, :], -torch.inf)
        repulsion = ((logits.logsumexp(dim=1) + logits.logsumexp(dim=0)) * views).sum()
        people = [part.unflatten(0, (2, -1)).sum(0) for part in (a, b)]  # the sum of each person's two views
        attraction = (people[0] * (shares @ people[1])).sum() + (people[1] * (shares @ people[0])).sum()
        return (repulsion - attraction / temperature) / (4 * here.sum()).clamp(min=1)


def cross_shares(weights: Tensor, own_share: float | None = None) -> Tensor:
    """What one view of subject b's other map is of the positives of a view of subject a.

    Everybody has two views of the other modality, the anchor as well: twice a row adds up to 1.

    Args:
        weights: Similarity of the N subjects in [0, 1], diagonal 1.
        own_share: λ, or None; see `cross_modal_infonce`.

    Shape:
        weights (N, N), output (N, N).
    """
    if own_share is None:
        return weights / (2 * weights.sum(1, keepdim=True))
    others = weights - weights.diagonal().diag()
    sums = others.sum(1, keepdim=True)
    some = sums > NOBODY
    own = torch.where(some[:, 0], own_share, 1.0).to(weights.dtype) / 2
    return torch.where(some, (1 - own_share) / 2 * others / torch.where(some, sums, 1.0), 0.0) + own.diag()


class TwoModalityInfoNCE(KernelLoss):
    """y-Aware InfoNCE across two modalities, and within each of them; a subject may lack one.

    L = (1 − ω) L_across + ω (L_first + L_second) / 2. L_across is `cross_modal_infonce` of the subjects of a batch who
    have both modalities. L_first and L_second are `weighted_infonce`, the y-Aware loss, of the two views of one
    modality, over those who have it; 0 where fewer than two do. Somebody who lacks a modality is in no pair across, and
    teaches the encoder of the modality that is there.

    Args:
        kernel: Similarity of metadata.
        temperature: τ.
        own_share: λ in [0, 1], the own map's share of an anchor's positives; None: the paper's equation.
        within_share: ω in [0, 1], the share of the losses within a modality; 0: across the modalities alone.

    Shape:
        projection (2N, 2, D), all first views, then all second views, each of both modalities; target (N, M + 2),
        metadata (NaN = unknown) and, in the last two columns, 1 for each modality that is there; output ().

    Raises:
        ValueError: for an implausible temperature, or shares that cannot be.

    Example:
        >>> from bundle.pretext import GaussianKernel
        >>> loss = TwoModalityInfoNCE(GaussianKernel(sigma=5.0))
        >>> target = torch.tensor([[20.0, 1, 1], [24.0, 1, 0], [60.0, 1, 1]])  # the second person lacks a modality
        >>> loss(torch.randn(6, 2, 16), target).shape
        torch.Size([])
    """

    def __init__(
        self,
        kernel: nn.Module,
        temperature: float = 0.1,
        own_share: float | None = None,
        within_share: float = 0.5,
    ) -> None:
        super().__init__(kernel)
        check_temperature(temperature)
        check_own_share(own_share)
        if not is_number(within_share) or not 0 <= within_share <= 1:
            raise ValueError(
                "`within_share` is the share of the losses within a modality beside the loss across them, a number in "
                f"[0, 1], but {within_share!r} was given."
            )
        self.temperature, self.own_share, self.within_share = float(temperature), own_share, float(within_share)

    def forward(self, projection: Tensor, metadata: Tensor) -> Tensor:
        """Loss of projections (2N, 2, D) given metadata and what is there, (N, M + 2)."""
        known, there = told_apart(projection, metadata)
        weights = self.kernel(known).to(projection.device)
        first, second = projection.unbind(1)
        across = cross_modal_infonce(first, second, weights, there.all(1), self.temperature, self.own_share)
        within = [self._within(views, weights, there[:, m]) for m, views in enumerate((first, second))]
        return (1 - self.within_share) * across + self.within_share * (within[0] + within[1]) / MODALITIES

    def _within(self, views: Tensor, weights: Tensor, there: Tensor) -> Tensor:
        group = torch.where(there, 0.0, torch.nan)  # those who have the modality; the others are in no sum
        return within_site_infonce(views, weights, group, self.temperature, self.own_share)

    def extra_repr(self) -> str:
        """Show what the loss was made with."""
        share = "" if self.own_share is None else f", own_share={self.own_share}"
        return f"temperature={self.temperature}{share}, within_share={self.within_share}"


def told_apart(projection: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Metadata, and which modalities are there.

    Args:
        projection: Projections of both modalities.
        target: Metadata and, in the last two columns, what is there.

    Shape:
        projection (2N, 2, D), target (N, M + 2), outputs (N, M) and (N, 2) bool.

    Raises:
        ValueError: for other shapes.
    """
    people = len(target)
    if projection.ndim != 3 or projection.shape[:2] != (2 * people, MODALITIES) or target.ndim != 2:
        raise ValueError(
            f"Projections of two modalities are (2N, 2, D), but {tuple(projection.shape)} was found for {people} "
            "subject(s); the loss of two modalities needs configs/two_modalities.yaml, which makes both."
        )
    if target.shape[1] <= MODALITIES:
        raise ValueError(f"The target is metadata and two columns of what is there, but has {target.shape[1]} columns.")
    return target[:, :-MODALITIES], (target[:, -MODALITIES:] > 0).to(projection.device)


def _check(first: Tensor, second: Tensor, weights: Tensor) -> None:
    people = len(weights)
    if first.shape != second.shape or first.ndim != 2 or len(first) != 2 * people:
        raise ValueError(
            f"Projections of both modalities are (2N, D), but {tuple(first.shape)} and {tuple(second.shape)} were "
            f"found for {people} subject(s)."
        )
    if weights.shape != (people, people):
        raise ValueError(f"Weights are (N, N), one per pair of subjects, but {tuple(weights.shape)} was found.")
