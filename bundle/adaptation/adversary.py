"""An adversary that reads the site from the embedding, and whose reversed gradient teaches the encoder to hide it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from torch import Tensor, nn

from bundle.networks.encoders import embed
from bundle.networks.projector import ContrastiveNetwork
from bundle.training.readiness import columns_of

SITE = "site"
STEEPNESS = 10.0  # of the ramp, as published


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, strength: Tensor) -> Tensor:
        ctx.save_for_backward(strength)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (strength,) = ctx.saved_tensors
        return -strength * gradients[0], None


def reversed_gradient(values: Tensor, strength: Tensor | float) -> Tensor:
    """The same values, whose gradient is turned round on its way back.

    Args:
        values: Values of any shape.
        strength: λ, by whose negative the gradient is multiplied.

    Source:
        Ganin & Lempitsky, ICML 2015; Ganin et al., Journal of Machine Learning Research 17 (2016).

    Example:
        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> (2 * reversed_gradient(x, 0.5)).backward()
        >>> x.grad
        tensor([-1.])
    """
    return _Reversal.apply(values, torch.as_tensor(strength, dtype=values.dtype, device=values.device))


def ramp(progress: float, steepness: float = STEEPNESS) -> float:
    """How strong the reversed gradient is: 0 at the start of a training, nearly 1 from its middle on.

    λ = 2 / (1 + exp(−γ p)) − 1, so that the adversary has learnt something before the encoder hides it.

    Args:
        progress: p, the share of the steps that are done.
        steepness: γ.

    Example:
        >>> [round(ramp(p), 2) for p in (0, 0.1, 0.5, 1)]
        [0.0, 0.46, 0.99, 1.0]
    """
    return 2 / (1 + math.exp(-steepness * progress)) - 1


class AdversarialNetwork(ContrastiveNetwork):
    """An encoder with a projector and, while it is trained, a linear adversary that reads the site from the embedding.

    Args:
        encoder: Any module with `embedding_size`; see `networks.check_encoder`.
        sites: Number of sites; see `number_of_sites`.
        kwargs: Those of `ContrastiveNetwork`.

    Attributes:
        strength: λ of the reversed gradient; `AdversaryRamp` sets it.

    Shape:
        volumes (N, C, D, H, W); output (N, projection_size + sites), projections before the logits of the sites; in
        evaluation mode (N, projection_size), the projections alone.
    """

    strength: Tensor

    def __init__(self, encoder: nn.Module, sites: int, **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        self.site_head = nn.Linear(encoder.embedding_size, sites)  # type: ignore[arg-type]
        self.register_buffer("strength", torch.zeros(()), persistent=False)

    def forward(self, volumes: Tensor) -> Tensor:
        """Project volumes and, in training, read their sites."""
        embedding = embed(self.encoder, volumes)
        projection = self.projector(embedding)
        if not self.training:
            return projection
        return torch.cat([projection, self.site_head(reversed_gradient(embedding, self.strength))], dim=1)


class AdversarialLoss(nn.Module):
    """A loss of projections, and the cross-entropy with which an adversary reads the site.

    L = loss(projections) + w · mean over the views of known site of −log softmax(logits)[site].

    The cross-entropy teaches the adversary alone: on its way to the encoder its gradient is reversed. Of a network in
    evaluation mode, which gives no logits, it is the loss of projections, by which the best weights are chosen.

    Args:
        loss: Loss of projections (2N, D) and metadata, such as `pretext.YAwareInfoNCE`.
        columns: Names of the metadata, `site` among them, which is not handed on to a loss whose kernel has no `site`.
        sites: Number of sites, the width of the logits.
        projection_size: D.
        site_weight: w.

    Shape:
        output (2N, D + sites) or (2N, D), all first views, then all second views; metadata (N, M), NaN = unknown;
        output ().

    Raises:
        ValueError: when no column is the site, or a network gives another width.

    Attributes:
        columns: The columns by which `loss` compares, and the site; None where it takes any.
    """

    def __init__(
        self, loss: nn.Module, columns: Sequence[str], sites: int, projection_size: int = 128, site_weight: float = 1.0
    ) -> None:
        super().__init__()
        if SITE not in columns:
            raise ValueError(f"The adversary reads a column `{SITE}` of the metadata, but they are {list(columns)}.")
        kernel, own = getattr(loss, "kernel", None), columns_of(loss)
        within = own is not None and SITE in own
        self.loss, self.sites, self.size, self.site_weight = loss, sites, projection_size, float(site_weight)
        self.column = list(columns).index(SITE)
        self.kept = [place for place, name in enumerate(columns) if within or name != SITE]
        self.columns = own if own is None or within else [*own[: self.column], SITE, *own[self.column :]]
        if kernel is not None:
            self.kernel = _OfColumns(kernel, self.kept)

    def forward(self, output: Tensor, metadata: Tensor) -> Tensor:
        """Loss of what the network gives (2N, …) and metadata (N, M)."""
        own = metadata[:, self.kept]
        if output.shape[1] == self.size:
            return self.loss(output, own)
        if output.shape[1] != self.size + self.sites:
            raise ValueError(
                f"The loss takes {self.size} numbers of a projection and {self.sites} of sites, but the network gives "
                f"{output.shape[1]}; train `bundle.adaptation.AdversarialNetwork` with the same `projection_size`."
            )
        projections, logits = output.split([self.size, self.sites], dim=1)
        return self.loss(projections, own) + self.site_weight * site_entropy(logits, metadata[:, self.column])

    def extra_repr(self) -> str:
        """Show what the loss was made with."""
        return f"sites={self.sites}, site_weight={self.site_weight}"


def site_entropy(logits: Tensor, sites: Tensor) -> Tensor:
    """Mean cross-entropy of the sites of scans; those of unknown site are left out, and it is 0 where all are.

    Args:
        logits: Logits of all first views, then of all second views; or of each scan once.
        sites: Number of each subject's site; NaN = unknown.

    Shape:
        logits (2N, S) or (N, S), sites (N,), output () float32 (float64 for float64 logits).
    """
    places = sites.to(logits.device).repeat(len(logits) // len(sites))
    known = ~places.isnan()
    target = torch.where(known, places.nan_to_num(nan=0.0).long(), -100)  # which PyTorch leaves out
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(wide, target, reduction="sum") / known.sum().clamp(min=1)


def number_of_sites(records: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> int:
    """How many logits an adversary needs: one more than the largest number of a training site.

    Args:
        records: Records of the training, with `metadata` (M,), NaN = unknown.
        columns: Names of the metadata, `site` among them.

    Raises:
        ValueError: when there are fewer than two known sites.
    """
    if SITE not in columns:
        raise ValueError(f"The adversary reads a column `{SITE}` of the metadata, but they are {list(columns)}.")
    places = np.array([float(record["metadata"][list(columns).index(SITE)]) for record in records])
    known = np.unique(places[np.isfinite(places)])
    if len(known) < 2:
        raise ValueError(
            f"An adversary that reads the site needs two sites, but the {len(records)} training scans are of "
            f"{len(known)} known site(s): there is nothing to hide. Leave --config configs/adaptation_adversarial.yaml "
            "out, or fill in the column `site`."
        )
    return int(known.max()) + 1


class Reversing(Protocol):
    """Whatever reverses a gradient.

    Attributes:
        strength: λ, by whose negative the gradient is multiplied.
    """

    strength: Tensor


class AdversaryRamp:
    """Sets the strength of the reversed gradient before each step; attach to the trainer.

    It depends on the number of the step alone, so that a resumed training goes on with the same.

    Args:
        network: Network whose adversary it is, or an adversary of its own.
        steepness: γ; see `ramp`.
    """

    def __init__(self, network: Reversing, steepness: float = STEEPNESS) -> None:
        self.network, self.steepness = network, steepness

    def attach(self, engine: Engine) -> None:
        """Set the strength before each step."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Set the strength of one step."""
        steps = (engine.state.max_epochs or 1) * (engine.state.epoch_length or 1)
        self.network.strength.fill_(ramp((engine.state.iteration - 1) / steps, self.steepness))


class _OfColumns(nn.Module):
    """A kernel that is given all metadata and looks at its own."""

    def __init__(self, kernel: nn.Module, kept: Sequence[int]) -> None:
        super().__init__()
        self.kernel, self.kept = kernel, list(kept)

    def forward(self, metadata: Tensor) -> Tensor:
        return self.kernel(metadata[:, self.kept])

    def __repr__(self) -> str:
        return repr(self.kernel)
