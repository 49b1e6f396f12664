"""The y-Aware InfoNCE loss and its family: other views attract the anchor as their metadata are close to its own.

Each loss is a function of projections and weights, and a thin module that makes the weights from metadata.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bundle.pretext.arguments import check_choice, check_kernel, check_temperature
from bundle.pretext.shares import NORMALISATIONS, attraction, check_own_share, shares_of

FORMS = ("paper", "released")


def weighted_infonce(
    projections: Tensor,
    weights: Tensor,
    temperature: float = 0.1,
    normalize: str = "anchor",
    own_share: float | None = None,
) -> Tensor:
    """InfoNCE with graded positives, averaged over the 2N anchors.

    L = −1/(2N) Σ_i Σ_{k≠i} w_ik / Σ_{j≠i} w_ij · log( exp(s_ik/τ) / Σ_{j≠i} exp(s_ij/τ) ), with s the cosine
    similarity of the projections. The loss is 0 for a single subject.

    Args:
        projections: All first views, then all second views; normalised here.
        weights: Similarity of the N subjects in [0, 1], diagonal 1. The identity gives NT-Xent (SimCLR).
        temperature: τ.
        normalize: `anchor` divides each anchor's weights by their sum, as the paper's equation does. `column`
            reproduces the paper's released code, for reproduction only: it divides by the column sums, so that an
            anchor's weights add up to 0.4–1.2 rather than 1 and anchors of rare age count less than half, and it
            returns twice the mean over the anchors.
        own_share: λ in [0, 1]: in place of w_ik / Σ_j w_ij, an anchor's own second view gets λ, and the views of the
            others get 1 − λ in proportion to their weights. 1 is NT-Xent (SimCLR). See `shares.shares_of`, also for an
            anchor that is similar to nobody. None: the equation.

    Shape:
        projections (2N, D), weights (N, N), output () float32 (float64 for float64 projections).

    Raises:
        ValueError: for wrong shapes, an implausible temperature, an unknown normalisation, or a share that cannot be.

    Source:
        Dufumier et al., MICCAI 2021, equations 2 and 3.

    Example:
        >>> views = F.normalize(torch.eye(4), dim=1)
        >>> round(weighted_infonce(views, torch.eye(2), temperature=1.0).item(), 4)  # log 3
        1.0986
    """
    check(projections, weights)
    check_temperature(temperature)
    check_choice("normalize", normalize, NORMALISATIONS)
    check_own_share(own_share, normalize)
    with torch.autocast(projections.device.type, enabled=False):
        z = F.normalize(projections.to(precision(projections)), dim=1)
        shares = shares_of(weights.to(z.dtype), normalize, own_share)
        totals = 2 * shares.sum(1) - shares.diagonal()  # 1 with `anchor`
        logits = (z @ (z.T / temperature)).fill_diagonal_(-torch.inf)
        repulsion = (totals.repeat(2) * logits.logsumexp(dim=1)).sum()
        loss = (repulsion - attraction(z, shares) / temperature) / len(z)
    return loss if normalize == "anchor" else 2 * loss


def chance(subjects: int) -> float:
    """InfoNCE of projections that are all alike: log(2N − 1), since no view is told from the 2N − 1 others.

    Args:
        subjects: N.

    Example:
        >>> round(chance(64), 2)
        4.84
    """
    return math.log(2 * subjects - 1)


def exponential_infonce(projections: Tensor, weights: Tensor, temperature: float = 0.1, form: str = "paper") -> Tensor:
    """InfoNCE with graded positives whose negatives repel the more, the less similar their metadata are.

    L = −1/(2N) Σ_i Σ_{k≠i} w_ik / Σ_{j≠i} w_ij · log( exp(s_ik/τ) / Σ_{j≠i} exp(s_ij (1 − w_ij)/τ) ). A positive of
    weight 1 does not repel at all, so that the loss can be negative.

    Args:
        projections: All first views, then all second views; normalised here.
        weights: Similarity of the N subjects in [0, 1], diagonal 1.
        temperature: τ.
        form: `paper` is the equation above. `released` is the authors' code, for comparisons with it: it subtracts
            each row's maximum, the anchor's similarity of 1 to itself, from s before it multiplies by 1 − w. Each
            part of the denominator is thereby multiplied by exp(w_ij/τ): similar subjects repel, too.

    Shape:
        projections (2N, D), weights (N, N), output () float32 (float64 for float64 projections).

    Raises:
        ValueError: for wrong shapes, an implausible temperature, or an unknown form.

    Source:
        Barbano et al., ISBI 2023, exponential weighting; for `released`, the code they published, whose factor
        τ / base temperature is 1 here.
    """
    _check_form(projections, weights, temperature, form)
    with torch.autocast(projections.device.type, enabled=False):
        shift = 1.0 if form == "released" else 0.0
        logits = (others(cosines(projections)) - shift) / temperature
        similar = others(weights.to(logits.dtype).repeat(2, 2))
        repulsion = torch.logsumexp(logits * (1 - similar), dim=1, keepdim=True)
        return -(row_shares(similar) * (logits - repulsion)).sum(1).mean()


def threshold_infonce(projections: Tensor, weights: Tensor, temperature: float = 0.1, form: str = "paper") -> Tensor:
    """InfoNCE with graded positives, each against the less similar subjects alone.

    L = −1/(2N) Σ_i Σ_{k≠i} w_ik / Σ_{j≠i} w_ij · log( exp(s_ik/τ) / (exp(s_ik/τ) + Σ_{j: w_ij < w_ik} exp(s_ij/τ)) ).
    The positive itself stays in the denominator, which keeps the loss defined for the least similar one.

    Args:
        projections: All first views, then all second views; normalised here.
        weights: Similarity of the N subjects in [0, 1], diagonal 1.
        temperature: τ.
        form: `paper` is the equation above, a denominator for each positive. `released` is the authors' code, for
            comparisons with it: all positives of an anchor i share the denominator Σ_{j≠i} n_ij exp(s_ij/τ), with
            n_ij the number of the 2N views that are less similar to j than i is. Similar subjects repel most. An
            anchor whose denominator is empty, since all subjects are equally similar, counts 0.

    Shape:
        projections (2N, D), weights (N, N), output () float32 (float64 for float64 projections).

    Raises:
        ValueError: for wrong shapes, an implausible temperature, or an unknown form.

    Source:
        After Barbano et al., ISBI 2023, threshold weighting; for `released`, the code they published, whose factor
        τ / base temperature is 1 here.
    """
    _check_form(projections, weights, temperature, form)
    with torch.autocast(projections.device.type, enabled=False):
        logits = others(cosines(projections)) / temperature
        similar = others(weights.to(logits.dtype).repeat(2, 2))
        if form == "paper":
            against = torch.logaddexp(logits, log_sum_up_to(logits, similar, equal=False))
            return -(row_shares(similar) * (logits - against)).sum(1).mean()
        counts = others(_less_similar(weights).to(logits.dtype).repeat(2, 2))
        some = counts.sum(1, keepdim=True) > 0
        against = torch.logsumexp(logits + torch.where(some, counts, 1.0).log(), dim=1, keepdim=True)
        return -(row_shares(similar) * (logits - against) * some).sum(1).mean()


def _less_similar(weights: Tensor) -> Tensor:
    """How many of the 2N views are less similar to subject j than subject i is, (N, N) with entry [i, j]."""
    columns = weights.T.contiguous()
    return 2 * torch.searchsorted(columns.sort(dim=1).values, columns).T


def cosines(projections: Tensor) -> Tensor:
    """Cosine similarities (V, V) of views (V, D), in float32 at least."""
    z = F.normalize(projections.to(precision(projections)), dim=1)
    return z @ z.T


def precision(projections: Tensor) -> torch.dtype:
    """The type a loss computes in: float64 for float64 projections, else float32."""
    return torch.float64 if projections.dtype == torch.float64 else torch.float32


def others(matrix: Tensor) -> Tensor:
    """A matrix (V, V) without its diagonal: what each view is to the V − 1 others, (V, V − 1)."""
    views = len(matrix)
    return matrix.flatten()[1:].view(views - 1, views + 1)[:, :-1].reshape(views, views - 1)


def row_shares(weights: Tensor) -> Tensor:
    """Weights divided by the sum of their row."""
    return weights / weights.sum(1, keepdim=True)


def log_sum_up_to(logits: Tensor, values: Tensor, *, equal: bool) -> Tensor:
    """Log Σ exp(logits_ik) over the k with values_ik < values_ij (with `equal`: ≤), for every pair; −∞ without any.

    By sorting and a running sum: O(V² log V) time and O(V²) memory for shapes (V, V − 1).
    """
    order = values.argsort(dim=1)
    sums = F.pad(torch.logcumsumexp(logits.gather(1, order), dim=1), (1, 0), value=-torch.inf)
    return sums.gather(1, torch.searchsorted(values.gather(1, order), values, right=equal))


def check(projections: Tensor, weights: Tensor) -> None:
    """Refuse projections that are not two views of each subject.

    Raises:
        ValueError: with what was found and what was expected.
    """
    n = len(weights)
    if projections.ndim != 2 or len(projections) != 2 * n or n == 0:
        raise ValueError(
            f"Projections are (2N, D), all first views then all second views, but {tuple(projections.shape)} was found "
            f"for {n} subject(s)."
        )
    if weights.shape != (n, n):
        raise ValueError(f"Weights are (N, N), one per pair of subjects, but {tuple(weights.shape)} was found.")


def _check_form(projections: Tensor, weights: Tensor, temperature: float, form: str) -> None:
    check(projections, weights)
    check_temperature(temperature)
    check_choice("form", form, FORMS)


class KernelLoss(nn.Module):
    """A loss of projections and of the weights that a kernel makes from metadata; a subclass says which.

    Args:
        kernel: Similarity of metadata.

    Raises:
        ValueError: for what is no kernel.
    """

    def __init__(self, kernel: nn.Module) -> None:
        super().__init__()
        check_kernel(kernel)
        self.kernel = kernel

    def loss(self, projection: Tensor, weights: Tensor) -> Tensor:
        """Loss of projections (2N, D) and weights (N, N)."""
        raise NotImplementedError

    def forward(self, projection: Tensor, metadata: Tensor) -> Tensor:
        """Loss of projections (2N, D) given metadata (N, M)."""
        return self.loss(projection, self.kernel(metadata).to(projection.device))


class YAwareInfoNCE(KernelLoss):
    """The y-Aware InfoNCE loss of projections and metadata; see `weighted_infonce` for the formula.

    Args:
        kernel: Similarity of metadata, for example `GaussianKernel(sigma=5.0)` for age alone or
            `ProductKernel(age=GaussianKernel(5.0), sex=DiscreteKernel(0.5))`.
        temperature: τ.
        normalize: `anchor` (the paper's equation) or `column` (its released code).
        own_share: λ in [0, 1], the own second view's share of an anchor's positives; None: the paper's equation, where
            it has the weight of one view of somebody of the same age.

    Shape:
        projection (2N, D), all first views, then all second views; metadata (N, M), NaN = unknown; output ().

    Raises:
        ValueError: for an implausible temperature, an unknown normalisation, a share that cannot be, or wrong shapes.

    Attributes:
        reads_metadata: Whether metadata change anything; with `own_share` 1 they do not.

    Source:
        Dufumier et al., MICCAI 2021.

    Example:
        >>> from bundle.pretext import GaussianKernel
        >>> loss = YAwareInfoNCE(GaussianKernel(sigma=5.0))
        >>> loss(torch.randn(8, 16), torch.tensor([[20.0], [24.0], [28.0], [60.0]])).shape
        torch.Size([])
    """

    def __init__(
        self,
        kernel: nn.Module,
        temperature: float = 0.1,
        normalize: str = "anchor",
        own_share: float | None = None,
    ) -> None:
        super().__init__(kernel)
        check_temperature(temperature)
        check_choice("normalize", normalize, NORMALISATIONS)
        check_own_share(own_share, normalize)
        self.temperature, self.normalize, self.own_share = float(temperature), normalize, own_share
        self.reads_metadata = own_share != 1

    def loss(self, projection: Tensor, weights: Tensor) -> Tensor:
        """Loss of projections (2N, D) and weights (N, N)."""
        return weighted_infonce(projection, weights, self.temperature, self.normalize, self.own_share)

    def chance(self, subjects: int) -> float | None:
        """Loss of a network that tells nobody apart; it is not known where weights do not add up to 1."""
        return chance(subjects) if self.normalize == "anchor" else None

    def extra_repr(self) -> str:
        """Show what the loss was made with."""
        share = "" if self.own_share is None else f", own_share={self.own_share}"
        return f"temperature={self.temperature}, normalize={self.normalize}{share}"


class ExponentialInfoNCE(KernelLoss):
    """Module of `exponential_infonce`.

    Args:
        kernel: Similarity of metadata.
        temperature: τ.
        form: `paper`, or `released`, the authors' code.

    Raises:
        ValueError: for an implausible temperature, or an unknown form.
    """

    def __init__(self, kernel: nn.Module, temperature: float = 0.1, form: str = "paper") -> None:
        super().__init__(kernel)
        check_temperature(temperature)
        check_choice("form", form, FORMS)
        self.temperature, self.form = float(temperature), form

    def loss(self, projection: Tensor, weights: Tensor) -> Tensor:
        """Loss of projections (2N, D) and weights (N, N)."""
        return exponential_infonce(projection, weights, self.temperature, self.form)

    def extra_repr(self) -> str:
        """Show what the loss was made with."""
        return f"temperature={self.temperature}, form={self.form}"


class ThresholdInfoNCE(ExponentialInfoNCE):
    """Module of `threshold_infonce`.

    Args:
        kernel: Similarity of metadata.
        temperature: τ.
        form: `paper`, or `released`, the authors' code.
    """

    def loss(self, projection: Tensor, weights: Tensor) -> Tensor:
        """Loss of projections (2N, D) and weights (N, N)."""
        return threshold_infonce(projection, weights, self.temperature, self.form)


class InfoNCE(nn.Module):
    """InfoNCE / NT-Xent (SimCLR): a subject's own second view is its only positive.

    Not the same as y-Aware InfoNCE with a tiny sigma: two subjects of equal (integer!) age have weight 1 at any sigma.

    Args:
        temperature: τ.

    Shape:
        projection (2N, D), all first views, then all second views; output ().

    Raises:
        ValueError: for an implausible temperature, or an odd number of views.

    Attributes:
        reads_metadata: No.

    Source:
        Chen et al., ICML 2020, equation 1.
    """

    reads_metadata = False

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = float(temperature)

    def forward(self, projection: Tensor, metadata: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Loss of projections (2N, D); metadata are taken, for engines that pass them, and ignored."""
        weights = torch.eye(len(projection) // 2, device=projection.device)
        return weighted_infonce(projection, weights, self.temperature)

    def chance(self, subjects: int) -> float:
        """Loss of a network that tells nobody apart."""
        return chance(subjects)

    def extra_repr(self) -> str:
        """Show what the loss was made with."""
        return f"temperature={self.temperature}"
