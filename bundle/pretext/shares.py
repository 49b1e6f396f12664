"""What each other view is of an anchor's positives: weights that a kernel gives become shares."""

from __future__ import annotations

import torch
from torch import Tensor

from bundle.pretext.arguments import is_number

NORMALISATIONS = ("anchor", "column")
NOBODY = 1e-6  # others whose weights add up to less are nobody: the same bound as that of `require_metadata`


def shares_of(weights: Tensor, normalize: str = "anchor", own_share: float | None = None) -> Tensor:
    """What one view of subject b is of the positives of a view of subject a.

    Of each anchor, the own second view counts once and each other subject twice; with `anchor` the shares of all these
    views add up to 1.

    Args:
        weights: Similarity of the N subjects in [0, 1], diagonal 1.
        normalize: `anchor` or `column`; see `infonce.weighted_infonce`.
        own_share: λ: the own second view is λ of the positives, and the others are the rest, in proportion to their
            weights. An anchor whose others' weights add up to less than 10⁻⁶ is similar to nobody: its own second view
            is its only positive. None: the own view has its weight, 1, among the others.

    Shape:
        weights (N, N), output (N, N).
    """
    if own_share is None:
        sums = 2 * weights.sum(1, keepdim=True) - weights.diagonal()[:, None]  # over all other views
        return weights / (sums if normalize == "anchor" else sums.T)
    others = weights - weights.diagonal().diag()
    sums = others.sum(1, keepdim=True)
    some = sums > NOBODY
    own = torch.where(some[:, 0], own_share, 1.0).to(weights.dtype)
    return torch.where(some, (1 - own_share) / 2 * others / torch.where(some, sums, 1.0), 0.0) + own.diag()


def attraction(z: Tensor, shares: Tensor) -> Tensor:
    """Σ_i Σ_{k≠i} share_ik z_i · z_k over the 2N views, from the sum of each subject's two: no (2N, 2N) matrix.

    Args:
        z: Normalised projections, all first views, then all second views.
        shares: See `shares_of`.

    Shape:
        z (2N, D), shares (N, N), output ().
    """
    pairs = z.unflatten(0, (2, -1))
    subjects = pairs.sum(0)
    return (subjects * (shares @ subjects)).sum() - (shares.diagonal() * pairs.square().sum((0, 2))).sum()


def check_own_share(own_share: float | None, normalize: str = "anchor") -> None:
    """Refuse a share of the own view that cannot be.

    Args:
        own_share: λ, or None.
        normalize: How the weights are normalised beside it.

    Raises:
        ValueError: with what was found and what was expected.
    """
    if own_share is None:
        return
    if not is_number(own_share) or not 0 <= own_share <= 1:
        raise ValueError(
            f"`own_share` is the own second view's share of an anchor's positives, a number in [0, 1], or null for the "
            f"paper's loss, but {own_share!r} was given."
        )
    if normalize != "anchor":
        raise ValueError(
            f"`own_share` is a share of weights that add up to 1, which those of `normalize` {normalize} do not; leave "
            "out `own_share` (null) or take `normalize` anchor."
        )
