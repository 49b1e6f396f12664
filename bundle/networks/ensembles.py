"""Several classifiers of one architecture as one network, whose probability is the mean of theirs."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from bundle.networks.cards import MEMBERS
from bundle.networks.classifiers import Classifier, both_of, require_classifier


class Ensemble(nn.Module):
    """K classifiers; the probability of a class is the mean of the members' probabilities.

    What the forward pass gives are the logarithms of these means: their softmax is the mean itself, so that whatever
    reads logits of a classifier reads an ensemble. The embedding is the mean of the members' embeddings. Names of the
    tensors are `members.0.…`, `members.1.…`, with those of the member's network.

    Args:
        network: Network of one member: MONAI's DenseNet, or an `EncoderClassifier`; copied for each.
        members: K.

    Shape:
        volumes (N, C, D, H, W), output (N, classes).

    Raises:
        ValueError: for another network, or another number than 2 to 32.

    Source:
        Lakshminarayanan et al., NeurIPS 2017 (deep ensembles).
    """

    def __init__(self, network: nn.Module, members: int) -> None:
        super().__init__()
        require_classifier(network)
        if type(members) is not int or not 2 <= members <= MEMBERS:
            raise ValueError(f"An ensemble has 2 to {MEMBERS} members, but {members!r} was given.")
        self.members = nn.ModuleList(copy.deepcopy(network) for _ in range(members))

    def each(self, volumes: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the members' probabilities (K, N, classes), and their embeddings (K, N, E)."""
        found = [both_of(member, volumes) for member in self.members]
        logits, embeddings = (torch.stack(parts) for parts in zip(*found, strict=True))
        return logits.log_softmax(2), embeddings

    def both(self, volumes: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the mean probabilities (N, classes), and the mean embedding (N, E)."""
        return combined(*self.each(volumes))

    def forward(self, volumes: Tensor) -> Tensor:
        """Logarithms of the mean probabilities alone."""
        return self.both(volumes)[0]


def combined(logarithms: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """What an ensemble says, from what its members say.

    Shape:
        logarithms (K, N, classes), embeddings (K, N, E); output (N, classes), (N, E).
    """
    return logarithms.logsumexp(0) - math.log(len(logarithms)), embeddings.mean(0)


def ensemble_in(network: nn.Module) -> Ensemble | None:
    """The ensemble that a classifier is, or has inside; None where it is of one member.

    Args:
        network: An ensemble, or a `Classifier` of one.
    """
    inner = network.network if type(network) is Classifier else network
    return inner if isinstance(inner, Ensemble) else None


def with_spread(network: nn.Module, volumes: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Logits and embedding of a classifier, and, of an ensemble, how far its members are apart; from one forward pass.

    Args:
        network: A `Classifier`, or what gives both logits and embedding.
        volumes: Preprocessed volumes.

    Shape:
        volumes (N, C, D, H, W), output (N, classes), (N, E), and (N,): the standard deviation, with divisor K, of the
        members' probabilities of class 1, in percentage points; None where there are no members.
    """
    ensemble = ensemble_in(network)
    if ensemble is None:
        return *both_of(network, volumes), None
    logarithms, embeddings = ensemble.each(volumes)
    spread = 100 * logarithms[:, :, 1].double().exp().std(0, correction=0)
    return *combined(logarithms, embeddings), spread
