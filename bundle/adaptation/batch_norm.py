"""Adaptive batch norm: a network's batch-norm statistics, estimated on unlabelled volumes of another site."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

LEAST = 20  # scans of a site, whose statistics are no chance; and of a batch


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """The batch-norm layers of a network that keep statistics of what they have seen."""
    return [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


def share_of_initial(network: nn.Module) -> float:
    """Share of batch-norm statistics that training has left as initialised, 0 and 1: the largest of all layers.

    After n batches with momentum m it is (1 − m)ⁿ. Layers that have counted no batch, such as those of converted
    weights, are judged by their statistics.

    Args:
        network: Network, as training left it; not one whose statistics were estimated anew.
    """
    return max((_left(norm) for norm in batch_norms(network)), default=0.0)


def _left(norm: Any) -> float:
    if count := int(norm.num_batches_tracked):
        return 0.0 if norm.momentum is None else float((1 - norm.momentum) ** count)
    return float(bool((norm.running_mean == 0).all() and (norm.running_var == 1).all()))


@torch.no_grad()
def estimate_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the statistics of all batch-norm layers by those of volumes; no weight is changed, nothing is learned.

    Each layer gets the mean over batches of the means and variances that it sees, while the layers before it normalise
    by the batch itself. A network without batch norm stays as it is.

    Args:
        network: Changed in place, and put in evaluation mode.
        batches: Volumes (N, C, D, H, W), as the network expects them, on its device.

    Source:
        Li, Wang, Shi, Liu & Hou, arXiv 1603.04779 (2016): adaptive batch normalisation.
    """
    network.eval()  # dropout stays off
    norms = batch_norms(network)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()  # type: ignore[operator]
        norm.momentum = None  # type: ignore[assignment]  # a cumulative average over all batches
        norm.train()
    for volumes in batches:
        network(volumes)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def even_batches(count: int, least: int = LEAST) -> Iterator[range]:
    """Rows of as many batches as there can be of at least so many volumes, of sizes that differ by one at most.

    Args:
        count: Number of volumes.
        least: Fewest of a batch.

    Example:
        >>> [len(rows) for rows in even_batches(45)]
        [22, 23]
    """
    bounds = np.linspace(0, count, max(1, count // least) + 1).astype(int)
    yield from (range(first, last) for first, last in pairwise(bounds.tolist()))
