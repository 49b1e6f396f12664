"""y-Aware InfoNCE within sites: nobody is compared with a scan of another scanner."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bundle.pretext.arguments import check_temperature
from bundle.pretext.infonce import KernelLoss, check, precision
from bundle.pretext.kernels import CombinedKernel
from bundle.pretext.shares import attraction, check_own_share, shares_of

SITE = "site"


def within_site_infonce(
    projections: Tensor,
    weights: Tensor,
    sites: Tensor,
    temperature: float = 0.1,
    own_share: float | None = None,
) -> Tensor:
    """InfoNCE with graded positives, whose positives and negatives are views from the anchor's own site.

    L = −1/n Σ_{i∈A} Σ_{k∈S_i} w_ik / Σ_{j∈S_i} w_ij · log( exp(s_ik/τ) / Σ_{j∈S_i} exp(s_ij/τ) ), with S_i the other
    views of the site of anchor i. A holds the n anchors whose site has another subject in the batch. An anchor alone at
    its site has nobody to be told from: it is in no sum, and the mean is over the others. Where everybody is alone, the
    loss is 0. A difference between sites neither attracts nor repels, so that the loss gains nothing by learning it.

    Args:
        projections: All first views, then all second views; normalised here.
        weights: Similarity of the N subjects in [0, 1], diagonal 1.
        sites: Number of each subject's site; NaN = unknown, which is a site with nobody else.
        temperature: τ.
        own_share: λ, or None; see `infonce.weighted_infonce`.

    Shape:
        projections (2N, D), weights (N, N), sites (N,), output () float32 (float64 for float64 projections).

    Raises:
        ValueError: for wrong shapes, an implausible temperature, or a share that cannot be.

    Example:
        >>> views = F.normalize(torch.eye(4).repeat(2, 1), dim=1)
        >>> loss = within_site_infonce(views, torch.eye(4), torch.tensor([0.0, 0.0, 1.0, 2.0]), temperature=1.0)
        >>> round(loss.item(), 4)  # two subjects of one site: log(e + 2) − 1
        0.5514
    """
    check(projections, weights)
    check_temperature(temperature)
    check_own_share(own_share)
    with torch.autocast(projections.device.type, enabled=False):
        z = F.normalize(projections.to(precision(projections)), dim=1)
        comparable = (sites[:, None] == sites[None, :]).to(z.device) | torch.eye(len(sites), device=z.device).bool()
        anchors = comparable.sum(1) > 1
        shares = shares_of(weights.to(z.dtype) * comparable, own_share=own_share) * anchors[:, None]
        logits = (z @ (z.T / temperature)).fill_diagonal_(-torch.inf)
        logits = logits.masked_fill(~comparable.repeat(2, 2), -torch.inf)
        repulsion = (logits.logsumexp(dim=1) * anchors.repeat(2)).sum()
        return (repulsion - attraction(z, shares) / temperature) / (2 * anchors.sum().clamp(min=1))


class WithinSiteInfoNCE(KernelLoss):
    """Module of `within_site_infonce`; the site is a column of the metadata that the kernel knows.

    Args:
        kernel: Similarity of metadata by named columns, one of which is `site`, such as
            `ProductKernel(age=GaussianKernel(5.0), site=DiscreteKernel())`.
        temperature: τ.
        own_share: λ in [0, 1], the own second view's share of an anchor's positives; None: the paper's equation.

    Shape:
        projection (2N, D), all first views, then all second views; metadata (N, M), NaN = unknown; output ().

    Raises:
        ValueError: for a kernel without `site`, an implausible temperature, a share that cannot be, or wrong shapes.

    Attributes:
        compared_within: Column within which people are compared; a training whose people cannot be is refused by it.
    """

    compared_within = SITE

    def __init__(self, kernel: nn.Module, temperature: float = 0.1, own_share: float | None = None) -> None:
        super().__init__(kernel)
        check_temperature(temperature)
        check_own_share(own_share)
        if not isinstance(kernel, CombinedKernel) or SITE not in kernel.columns:
            raise ValueError(
                f"A loss within sites takes the site from a column `{SITE}` of its kernel, such as ProductKernel(age="
                f"GaussianKernel(5.0), {SITE}=DiscreteKernel()), but {' '.join(str(kernel).split())} was given. Give "
                "--config configs/pretext_within_site.yaml after the overlays that set a kernel."
            )
        self.temperature, self.own_share = float(temperature), own_share
        self.column = kernel.columns.index(SITE)

    def forward(self, projection: Tensor, metadata: Tensor) -> Tensor:
        """Loss of projections (2N, D) given metadata (N, M)."""
        weights = self.kernel(metadata).to(projection.device)
        return within_site_infonce(projection, weights, metadata[:, self.column], self.temperature, self.own_share)

    def extra_repr(self) -> str:
        """Show what the loss was made with."""
        share = "" if self.own_share is None else f", own_share={self.own_share}"
        return f"temperature={self.temperature}{share}"
