"""An adversary of a classifier: it reads the site from the embedding while the classifier learns the diagnosis."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.metrics import Loss
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from monai.optimizers import generate_param_groups
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn

from bundle.adaptation.adversary import SITE, STEEPNESS, AdversaryRamp, reversed_gradient, site_entropy
from bundle.hints import quoted
from bundle.metrics.associations import cramers_v
from bundle.people import person_of

OVERLAY = "configs/adaptation_adversarial_classifier.yaml"
NUMBER = "site_number"  # of a record: the place of its site among those of the training; NaN = unknown
ENTROPY, KNOWN = "site_entropy", "known_sites"  # of a step: cross-entropy of the sites, and of how many scans
NOTABLE_P = 0.01  # of site and diagnosis that are independent
logger = logging.getLogger(__name__)


class ClassifierAdversary:
    """A linear layer that reads the site from a classifier's embedding, and whose reversed gradient teaches the trunk.

    The loss of a step is L = loss(diagnosis) + w · site_entropy(A·embedding + b, site). On its way to the trunk, the
    gradient of the second part is multiplied by −λ; the classifier's output layer does not get it. The network is left
    as it is: it has neither this layer nor other outputs, so that validation and weights are those of the diagnosis
    alone, and so are `loss` and all other outputs of a step once its gradients are there. Attach it to the trainer.

    Args:
        network: Classifier that is trained; see `output_layer`.
        records: Records of the training, as of `with_site_numbers`; a batch has their `site_number` (N,).
        site_weight: w.
        steepness: γ of the ramp of λ; see `ramp`.
        seed: Seed of A and b, which are drawn from a generator of their own: the classifier starts as without them.
        device: Device that trains the network.

    Attributes:
        head: A and b, the linear layer.
        strength: λ of the reversed gradient; `AdversaryRamp` sets it.
        chance: Cross-entropy of an adversary that knows how frequent the sites are, and nothing of the scan.

    Raises:
        ValueError: for a network whose embedding is not known, or a negative weight.

    Source:
        Ganin & Lempitsky, ICML 2015.
    """

    def __init__(
        self,
        network: nn.Module,
        records: Sequence[Mapping[str, Any]],
        site_weight: float = 1.0,
        steepness: float = STEEPNESS,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        if not (math.isfinite(site_weight) and site_weight >= 0):
            raise ValueError(
                f"`site_weight` of the adversary is {site_weight}, but a number of at least 0 is expected."
            )
        self.site_weight, self.steepness = float(site_weight), steepness
        self.strength = torch.zeros((), device=device)
        numbers = np.array([record[NUMBER] for record in records], dtype=np.float64)
        counts = np.bincount(numbers[np.isfinite(numbers)].astype(int))
        shares = counts[counts > 0] / counts.sum()
        self.chance = float(-(shares * np.log(shares)).sum())
        self._layer = output_layer(network)
        self.head = _drawn(self._layer.in_features, len(counts), seed).to(device)
        self._embedding: Tensor | None = None
        self._diagnosis: Tensor | None = None

    def attach(self, engine: Trainer) -> None:
        """Take part in each step, and say what cross-entropy an adversary has that sees nothing."""
        logger.info(
            f"Cross-entropy of the sites by chance: {self.chance:.3f} (`train_site_entropy` of an epoch beside it)."
        )
        self._layer.register_forward_pre_hook(self._keep)
        AdversaryRamp(self, self.steepness).attach(engine)
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self.add)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.leave_the_diagnosis)

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if layer.training:
            self._embedding = inputs[0]

    def add(self, engine: Any) -> None:
        """Add the cross-entropy of the sites to the loss whose gradients are about to be computed."""
        embedding, self._embedding = self._embedding, None
        assert embedding is not None  # the trainer's network is the one whose layer was found
        sites, output = engine.state.batch[NUMBER], engine.state.output
        entropy = site_entropy(self.head(reversed_gradient(embedding, self.strength)), sites)
        output[ENTROPY], output[KNOWN] = entropy.detach(), (~sites.isnan()).sum()
        self._diagnosis = output[Keys.LOSS]
        output[Keys.LOSS] = self._diagnosis + self.site_weight * entropy

    def leave_the_diagnosis(self, engine: Any) -> None:
        """Once the gradients are there, leave the loss of the diagnosis alone to whoever measures it."""
        assert self._diagnosis is not None
        engine.state.output[Keys.LOSS], self._diagnosis = self._diagnosis.detach(), None

    def state_dict(self) -> dict[str, Tensor]:
        """The linear layer, for a checkpoint; λ follows from the step."""
        return self.head.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on with the linear layer of a checkpoint."""
        self.head.load_state_dict(state)


def output_layer(network: nn.Module) -> nn.Linear:
    """The layer that makes a classifier's logits of its embedding.

    Args:
        network: MONAI's DenseNet, or an `EncoderClassifier`.

    Raises:
        ValueError: for another network.
    """
    head = getattr(network, "class_layers", None)
    last = head[-1] if isinstance(head, nn.Sequential) else head
    if not isinstance(last, nn.Linear):
        raise ValueError(
            f"The network {type(network).__name__} has no linear layer `class_layers` on top of its embedding, as "
            "MONAI's DenseNet and bundle.networks.EncoderClassifier have; set network_def to one of them."
        )
    return last


def _drawn(size: int, sites: int, seed: int) -> nn.Linear:
    """A linear layer as PyTorch initialises it, without a draw from its common generator."""
    head, generator = torch.nn.utils.skip_init(nn.Linear, size, sites), torch.Generator().manual_seed(seed)
    for parameter in head.parameters():
        nn.init.uniform_(parameter, -(size**-0.5), size**-0.5, generator=generator)
    return head


def groups_with_adversary(
    adversary: ClassifierAdversary, adversary_learning_rate: float, **groups: Any
) -> list[dict[str, Any]]:
    """Parameter groups of a classifier's optimiser, and a last one of its adversary.

    Args:
        adversary: Adversary, whose linear layer is trained, too.
        adversary_learning_rate: Learning rate of it.
        groups: Arguments of `monai.optimizers.generate_param_groups`, which makes the others.
    """
    head = {"params": list(adversary.head.parameters()), "lr": adversary_learning_rate}
    return [*generate_param_groups(**groups), head]


def mean_site_entropy(device: str | torch.device = "cpu") -> Loss:
    """The adversary's cross-entropy, averaged over the scans of known site of an epoch; for the trainer.

    Args:
        device: Device that adds up.
    """
    return Loss(
        lambda mean, _: torch.as_tensor(mean),
        output_transform=lambda outputs: (outputs[0][ENTROPY], outputs[0][KNOWN]),
        batch_size=int,
        device=device,
    )


# Sites of the training subjects


def with_site_numbers(
    records: Sequence[Mapping[str, Any]], validation: Sequence[Mapping[str, Any]] = (), freeze: bool = False
) -> list[dict[str, Any]]:
    """Records of a training with `site_number`, which an adversary reads; NaN = unknown.

    Says how many sites there are, which sites only the validation has, and warns where the site tells the diagnosis.

    Args:
        records: Records of the training, with `site` (empty = unknown) and `label`.
        validation: Those of the validation, whose sites the adversary never sees.
        freeze: Whether the trunk is frozen.

    Raises:
        ValueError: fewer than two sites are known, nothing but the head is trained, or several processes train.
    """
    if freeze:
        raise ValueError(
            "`freeze` trains the head alone, but an adversary teaches the trunk to hide the site: it would change "
            f"nothing. Leave --freeze out, or leave --config {OVERLAY} out."
        )
    if idist.get_world_size() > 1:
        raise ValueError(
            f"{OVERLAY} trains on one device, but {idist.get_world_size()} processes train; its linear layer would "
            "become another one in each. Leave configs/multi_gpu_train.json out."
        )
    names = [str(record.get(SITE) or "") for record in records]
    known = sorted(set(names) - {""})
    if len(known) < 2:
        raise ValueError(
            f"An adversary that reads the site needs two sites, but the {len(records)} training scans are of "
            f"{len(known)} known site(s) ({names.count('')} of unknown site); the validation's do not count. There is "
            f"nothing to hide: leave --config {OVERLAY} out, or fill in the column `site`."
        )
    left = f"; {count} are of unknown site and take no part in it" if (count := names.count("")) else ""
    logger.info(f"The adversary reads {len(known)} sites of {len(records)} training scans{left}.")
    if unseen := sorted({str(record.get(SITE) or "") for record in validation} - {"", *known}):
        logger.info(f"It does not know {quoted(unseen)}, where nobody of the training was scanned.")
    _warn_of_confounding(records, names)
    places = {name: float(place) for place, name in enumerate(known)}
    return [{**record, NUMBER: places.get(name, math.nan)} for record, name in zip(records, names, strict=True)]


def _warn_of_confounding(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Warn where a site has one label only, or site and label depend on each other; each person counts once."""
    people = {
        (person_of(record.get("participant_id")), name): int(record["label"])
        for record, name in zip(records, names, strict=True)
        if name and record.get("label") in (0, 1)
    }
    sites, labels = [site for _, site in people], list(people.values())
    if len(set(labels)) < 2:
        return  # which training refuses for its own reasons
    of_site = {site: {label for other, label in zip(sites, labels, strict=True) if other == site} for site in sites}
    alone = sorted(site for site, found in of_site.items() if len(found) == 1)
    v, p = cramers_v(np.unique(sites, return_inverse=True)[1], labels)
    told = [f"one label only at {len(alone)} of {len(of_site)} sites ({quoted(alone)})"] if alone else []
    told += [f"Cramér's V of site and label is {v:.2f} (p = {p:.2g})"] if p < NOTABLE_P else []
    if told:
        logger.warning(
            f"The site tells the diagnosis of {len(people)} training subjects: {'; '.join(told)}. An adversary that "
            "hides the site hides the diagnosis, too. Collect both groups at each site, and compare with a training "
            "without the adversary."
        )
