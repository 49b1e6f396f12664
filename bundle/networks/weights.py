"""Weights of networks, with their card: loaded with a report, or refused with a reason."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bundle.hub import located
from bundle.networks.architecture import as_densenet, as_options, described, made_encoder
from bundle.networks.cards import CARD_FORMAT, classifier_card, read_card
from bundle.networks.classifiers import Classifier, EncoderClassifier, freeze
from bundle.networks.encoders import Encoder, encoder_of
from bundle.networks.formats import read_state_dict, refuse_not_finite, write_weights
from bundle.networks.lineage import lineage, refuse_ensemble
from bundle.networks.names import HEAD, SCRATCH, listed, prefix_of, refuse_mismatch, split
from bundle.networks.preprocessing import Steps, require_preprocessing

STORAGES = {"float32": torch.float32, "float16": torch.float16}
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadReport:
    """What a load did.

    Attributes:
        encoder: Encoder that now has the weights.
        path: Path of the file.
        loaded: Names of the encoder's tensors, all of which were loaded.
        ignored: Names of tensors in the file that belong to no encoder, such as a projector's.
        prefix: What stands before the encoder's names in the file, such as `encoder.`.
    """

    encoder: nn.Module
    path: Path
    loaded: tuple[str, ...]
    ignored: tuple[str, ...]
    prefix: str = ""

    def __str__(self) -> str:
        """One sentence for the log."""
        ignored = f"; ignored: {listed(self.ignored)}" if self.ignored else ""
        before = "" if self.prefix in ("", "encoder.") else f", whose names begin with `{self.prefix}`"
        count = f"{len(self.loaded)} of {len(self.encoder.state_dict())}"
        return f"{self.path}: {count} encoder tensors loaded{before}{ignored}."


def save_weights(path: Path, module: nn.Module, card: Mapping[str, Any], storage: str = "float32") -> None:
    """Write a module's state dict with a card that has its sha256 (see `formats.weights_digest`).

    Args:
        path: The `.pt` file, whose card gets the same name with `.json`; or a `.safetensors` file, whose header has it.
        module: Module on any device; a DataParallel wrapper is unwrapped.
        card: What a user needs to know of the weights; `format` and `sha256` are added.
        storage: Storage type of floating-point tensors, `float32` or `float16`; networks load either.

    Raises:
        ValueError: for another storage, or values that are not finite, of which nothing is written.
    """
    if storage not in STORAGES:
        raise ValueError(f"Weights are stored as {' or '.join(STORAGES)}, but '{storage}' was given.")
    module = getattr(module, "module", module)
    state = {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}
    stored = {n: t.to(STORAGES[storage]) if t.is_floating_point() else t for n, t in state.items()}
    refuse_not_finite(path, stored, "were to be written as " + storage)
    write_weights(path, stored, {"format": CARD_FORMAT, **card})


def load_encoder(path: str | Path, encoder: nn.Module | None = None) -> LoadReport:
    """Load an encoder from pretrained weights: every one of its tensors, or none.

    Accepts an encoder's weights (`features.…`), those of a whole network (`encoder.features.…`, the projector is
    ignored) or of a classifier (its final norm and output are ignored), each with or without `module.` of a parallel
    wrapper, and the layouts of the paper's released file and of AnatCL's ResNet-18. An encoder may also stand under
    another name (`backbone.features.…`, `model.…`), which is said.

    Args:
        path: File written by pretraining, or released by the paper's authors; a published folder, or an address on the
            Hugging Face Hub (see `hub.located`).
        encoder: Any module, filled in place; None makes one of the architecture that the weights, or else their card,
            show.

    Returns:
        The encoder and what matched, which is also logged.

    Raises:
        ValueError: when the weights match the encoder in part or not at all; names the tensors.

    Example:
        >>> encoder = load_encoder("models/pretrained.pt").encoder  # doctest: +SKIP
    """
    path = located(path)
    content = read_state_dict(path)
    if encoder is None:
        encoder = _new_encoder(path, content)
    expected = encoder.state_dict()
    found, others = split(path, content, expected)
    refuse_mismatch(path, expected, found)
    encoder.load_state_dict(found)
    report = LoadReport(encoder, path, tuple(found), tuple(others), prefix_of(path, content, expected))
    logger.info(str(report))
    _warn_of(path)
    return report


def encoder_like(weights: str | Path) -> Encoder:
    """An encoder as initialised, of the architecture that a file of weights shows; nothing is loaded into it.

    Args:
        weights: Weights; see `load_encoder`.

    Raises:
        ValueError: when they are of no known encoder.
    """
    path = located(weights)
    return _new_encoder(path, read_state_dict(path))


def architecture_of(weights: str | Path) -> dict[str, Any]:
    """The architecture that a file of weights shows, as options of `train.json`.

    Args:
        weights: Weights; see `load_encoder`.

    Returns:
        Options of MONAI's DenseNet where that has the encoder's layers; else `network_def`, a classifier on an encoder.

    Raises:
        ValueError: when the weights are of no known encoder.
    """
    path = located(weights)
    with torch.device("meta"):
        stated = described(_new_encoder(path, read_state_dict(path)))
    arguments = stated["arguments"]
    if (stated["encoder"], arguments.get("norm")) == ("DenseNetEncoder", "batch"):
        return as_densenet(arguments)
    return as_options(path, stated)


def method_of(weights: str | Path, name: str | None = None) -> str:
    """How tables and figures call an encoder.

    Args:
        weights: Weights whose card says so; an encoder that a classifier has is called after the question.
        name: Name that is used instead; None: what the card says.
    """
    card = read_card(weights)
    stated = f"classifier of {card.get('task', 'something')}" if card.get("kind") == "classifier" else "y-Aware"
    return name or str(card.get("method") or stated)


def refuse_other_preprocessing(weights: str | Path, recipe: Steps | None) -> None:
    """Refuse to use weights on volumes that are preprocessed in another way than the card of the weights states.

    Args:
        weights: An encoder or a classifier, or `scratch`.
        recipe: Steps of this run, as of `steps_of`.

    Raises:
        ValueError: see `preprocessing.require_preprocessing`.
    """
    if str(weights) != SCRATCH:
        require_preprocessing(read_card(weights).get("preprocessing_steps"), recipe, weights)


def _new_encoder(path: Path, content: Mapping[str, Tensor]) -> Encoder:
    """A new encoder as the card states it, or, where it says nothing, as names and shapes show a DenseNet or ResNet."""
    refuse_ensemble(path)
    stated = read_card(path).get("network", {})
    if "encoder" in stated:
        make = functools.partial(made_encoder, path, stated)
    else:
        make = functools.partial(encoder_of, split(path, content)[0] or content)
    expected = _shown(path, make).state_dict()
    refuse_mismatch(path, expected, split(path, content, expected)[0])
    return make()


def _shown(path: Path, make: Callable[[], Encoder]) -> Encoder:
    """An encoder without memory for its weights: a file, or a card, may show any number."""
    try:
        with torch.device("meta"):
            return make()
    except ValueError:
        raise
    except Exception as error:  # of MONAI's and torch's layers
        raise ValueError(f"{path} shows an encoder that cannot be built ({type(error).__name__}: {error}).") from error


def start_from(network: nn.Module, weights: str | Path, freeze_trunk: bool = False) -> None:
    """Start a classifier from a pretrained encoder: every tensor of its trunk is loaded, or none.

    Args:
        network: MONAI's DenseNet, or an `EncoderClassifier`; final norm and classifier stay as initialised.
        weights: Weights of an encoder, or of a classifier of another question, whose head is left out (see
            `load_encoder`); or `scratch`: the whole network stays as initialised.
        freeze_trunk: Train the head alone; see `networks.encoders.freeze`.

    Raises:
        ValueError: when the weights match the trunk in part or not at all, or are an ensemble; random weights are to
            be frozen; or the network is no classifier whose embedding is known.
    """
    Classifier(network)  # refuses before training what nothing could be predicted with after it
    if str(weights) == SCRATCH:
        if freeze_trunk:
            raise ValueError("Freezing a trunk of random weights trains nothing; give pretrained weights.")
        logger.info("From scratch: the network starts from random weights.")
        return
    path = located(weights)
    refuse_ensemble(path)
    if isinstance(network, EncoderClassifier):
        load_encoder(path, network.encoder)
        logger.info(f"{HEAD[0]} starts from random weights.")
    else:
        found, _ = split(path, read_state_dict(path))
        trunk = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(HEAD)}
        refuse_mismatch(path, trunk, found)
        network.load_state_dict(found, strict=False)
        logger.info(f"{path}: {len(found)} tensors of the trunk loaded; {', '.join(HEAD)} start from random weights.")
        _warn_of(path)
    if said := lineage(path):
        logger.info(f"Started from: {said}.")
    if freeze_trunk:
        freeze(network, HEAD)


def start_encoder(encoder: nn.Module, weights: str | Path) -> None:
    """Start the pretraining of an encoder from weights: every one of its tensors is loaded, or none.

    Args:
        encoder: Encoder, filled in place; a projector on top of it stays as initialised.
        weights: Weights of an encoder (see `load_encoder`), or `scratch`: the encoder stays as initialised.

    Raises:
        ValueError: when the weights match the encoder in part or not at all; names the tensors.
    """
    if str(weights) != SCRATCH:
        load_encoder(weights, encoder)


def load_network(path: str | Path, network: nn.Module) -> None:
    """Load a whole network from its own weights: every tensor, or none.

    Raises:
        ValueError: when the weights do not match; names the tensors.
    """
    path = located(path)
    content = read_state_dict(path)
    refuse_mismatch(path, network.state_dict(), content)
    network.load_state_dict(content)
    logger.info(f"{path}: all {len(content)} tensors loaded.")
    _warn_of(path)


def _warn_of(path: Path) -> None:
    """Say what a card warns of, such as that the weights know only a phantom."""
    if warning := read_card(path).get("warning"):
        logger.warning(f"{path} was trained on this: {warning}")


def network_of(model: str | Path) -> dict[str, Any]:
    """What a card says of its network, as options of a config.

    Raises:
        ValueError: for an encoder that is not ours.
    """
    return as_options(Path(model), classifier_card(model).get("network", {}))
