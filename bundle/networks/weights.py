"""Weights on disk: a plain state dict with a card beside it, loaded with a report or refused with a reason."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets import DenseNet
from torch import Tensor, nn

from bundle.files import read_json, replacing, sha256, without_nan, write_json
from bundle.networks.cards import CARD_FORMAT, NETWORK, check_card
from bundle.networks.encoders import Encoder, densenet_options, encoder_of, freeze
from bundle.networks.names import HEAD, listed, prefix_of, refuse_mismatch, split
from bundle.networks.preprocessing import Steps, require_preprocessing

STORAGES = {"float32": torch.float32, "float16": torch.float16}
SCRATCH = "scratch"  # in place of a file: start from random weights
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadReport:
    """What a load did.

    Attributes:
        encoder: that now has the weights.
        path: of the file.
        loaded: names of the encoder's tensors, all of which were loaded.
        ignored: names of tensors in the file that belong to no encoder, such as a projector's.
        prefix: what stands before the encoder's names in the file, such as `encoder.`.
    """

    encoder: Encoder
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
    """Write a module's state dict and, beside it, a JSON card with the file's sha256.

    Args:
        path: the `.pt` file; the card gets the same name with `.json`.
        module: on any device; a DataParallel wrapper is unwrapped.
        card: what a user needs to know of the weights; `format` and `sha256` are added.
        storage: of floating-point tensors, `float32` or `float16`; networks load either.

    Raises:
        ValueError: for another storage, or values that are not finite, of which nothing is written.
    """
    if storage not in STORAGES:
        raise ValueError(f"Weights are stored as {' or '.join(STORAGES)}, but '{storage}' was given.")
    module = getattr(module, "module", module)
    state = {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}
    stored = {n: t.to(STORAGES[storage]) if t.is_floating_point() else t for n, t in state.items()}
    refuse_not_finite(path, stored, "were to be written as " + storage)
    with replacing(path) as temporary, temporary.open("wb") as stream:  # to a path torch hides why writing failed
        torch.save(stored, stream)
    first = {"warning": card["warning"]} if card.get("warning") else {}  # nobody should overlook it
    write_json(path.with_suffix(".json"), {**first, "format": CARD_FORMAT, "sha256": sha256(path), **card})


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict, alone or under `model` or `state_dict`, without running any code from the file.

    Raises:
        ValueError: when the file is missing, is damaged, holds pickled objects, is no dict of tensors, or values are
            not finite.
    """
    if not path.is_file():
        raise ValueError(f"There is no weights file {path}; pretrain first, or give the path of your weights.")
    try:
        _refuse_packed(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # as many kinds as ways to damage a file
        raise ValueError(
            f"{path} is no readable file of plain weights ({type(error).__name__}). Expected a state dict "
            "written by torch.save; files that hold pickled objects are refused because opening them runs their code."
        ) from error
    inside = [
        key for key in ("model", "state_dict") if isinstance(content, dict) and isinstance(content.get(key), dict)
    ]
    state_dict = content[inside[0]] if inside else content
    if not isinstance(state_dict, dict) or not all(isinstance(v, Tensor) for v in state_dict.values()):
        raise ValueError(f"{path} holds no state dict (name → tensor); give the weights alone, such as pretrained.pt.")
    odd = [str(name) for name, tensor in state_dict.items() if not isinstance(name, str) or not _is_plain(tensor)]
    if odd:
        raise ValueError(f"{path} holds what no network saves: {listed(odd)}. Expected dense tensors of real numbers.")
    refuse_not_finite(path, state_dict, "lie in it")
    return state_dict


def refuse_not_finite(path: Path, content: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights with a NaN or an infinity: whatever is computed from them would be none, or no answer.

    Args:
        path: of the file.
        content: name → tensor.
        where: they are, to end the sentence "3 values are not finite that …".

    Raises:
        ValueError: names the tensors and the number of values.
    """
    counts = {name: int((~tensor.isfinite()).sum()) for name, tensor in content.items() if tensor.is_floating_point()}
    if names := [name for name, count in counts.items() if count]:
        raise ValueError(
            f"{path}: {sum(counts.values())} values are not finite that {where} ({listed(names)}). Training has "
            "diverged, a number is too large for float16, or the file is damaged; take weights of an earlier epoch, or "
            "float32."
        )


def _refuse_packed(path: Path) -> None:
    """torch.save compresses nothing; an archive that unpacks to more than it holds is made to fill the memory."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
                raise ValueError("a compressed archive")


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is dense and holds its elements; a view may claim any number of them."""
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.is_complex():
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def load_encoder(path: str | Path, encoder: Encoder | None = None) -> LoadReport:
    """Load an encoder from pretrained weights: every one of its tensors, or none.

    Accepts an encoder's weights (`features.…`), those of a whole network (`encoder.features.…`, the projector is
    ignored) or of a classifier (its final norm and output are ignored), each with or without `module.` of a parallel
    wrapper, and the layouts of the paper's released file and of AnatCL's ResNet-18. An encoder may also stand under
    another name (`backbone.features.…`, `model.…`), which is said.

    Args:
        path: file written by pretraining, or released by the paper's authors.
        encoder: filled in place; None makes one of the architecture that the weights show.

    Returns:
        The encoder and what matched, which is also logged.

    Raises:
        ValueError: when the weights match the encoder in part or not at all; names the tensors.

    Example:
        >>> encoder = load_encoder("models/pretrained.pt").encoder  # doctest: +SKIP
    """
    path = Path(path)
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
        weights: see `load_encoder`.

    Raises:
        ValueError: when they are of no known encoder.
    """
    return _new_encoder(Path(weights), read_state_dict(Path(weights)))


def architecture_of(weights: str | Path) -> dict[str, Any]:
    """The architecture of a DenseNet that a file of weights shows, as options of `train.json`; of another one none.

    Args:
        weights: see `load_encoder`.
    """
    options = densenet_options(split(Path(weights), read_state_dict(Path(weights)))[0])
    return {name: options[name] for name in NETWORK if name in options}


def method_of(weights: str | Path, name: str | None = None) -> str:
    """How tables and figures call an encoder.

    Args:
        weights: whose card says so.
        name: to be used in its place.
    """
    return name or str(read_card(weights).get("method") or "y-Aware")


def refuse_other_preprocessing(weights: str | Path, recipe: Steps | None) -> None:
    """Refuse to use weights on volumes that are preprocessed in another way than the card of the weights states.

    Args:
        weights: an encoder or a classifier, or `scratch`.
        recipe: steps of this run, as of `steps_of`.

    Raises:
        ValueError: see `preprocessing.require_preprocessing`.
    """
    if str(weights) != SCRATCH:
        require_preprocessing(read_card(weights).get("preprocessing_steps"), recipe, weights)


def _new_encoder(path: Path, content: Mapping[str, Tensor]) -> Encoder:
    found, _ = split(path, content)
    refuse_mismatch(path, _shown(path, found or content).state_dict(), found)
    return encoder_of(found)


def _shown(path: Path, content: Mapping[str, Tensor]) -> Encoder:
    """The encoder that names and shapes show, without memory for its weights: they may show any number."""
    try:
        with torch.device("meta"):
            return encoder_of(content)
    except ValueError:
        raise
    except Exception as error:  # of MONAI's and torch's layers
        raise ValueError(f"{path} shows an encoder that cannot be built ({type(error).__name__}: {error}).") from error


def start_from(network: nn.Module, weights: str | Path, freeze_trunk: bool = False) -> None:
    """Start a classifier from a pretrained encoder: every tensor of its trunk is loaded, or none.

    Args:
        network: MONAI's DenseNet; final norm and classifier stay as initialised.
        weights: of an encoder (see `load_encoder`), or `scratch`: the whole network stays as initialised.
        freeze_trunk: train the head alone; see `networks.encoders.freeze`.

    Raises:
        ValueError: when the weights match the trunk in part or not at all, or random weights are to be frozen.
    """
    if str(weights) == SCRATCH:
        if freeze_trunk:
            raise ValueError("Freezing a trunk of random weights trains nothing; give pretrained weights.")
        logger.info("From scratch: the network starts from random weights.")
        return
    path = Path(weights)
    found, _ = split(path, read_state_dict(path))
    trunk = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(HEAD)}
    refuse_mismatch(path, trunk, found)
    network.load_state_dict(found, strict=False)
    logger.info(f"{path}: {len(found)} tensors of the trunk loaded; {', '.join(HEAD)} start from random weights.")
    _warn_of(path)
    if freeze_trunk:
        freeze(network, HEAD)


def load_network(path: str | Path, network: nn.Module) -> None:
    """Load a whole network from its own weights: every tensor, or none.

    Raises:
        ValueError: when the weights do not match; names the tensors.
    """
    content = read_state_dict(Path(path))
    refuse_mismatch(Path(path), network.state_dict(), content)
    network.load_state_dict(content)
    logger.info(f"{path}: all {len(content)} tensors loaded.")
    _warn_of(Path(path))


def _warn_of(path: Path) -> None:
    """Say what a card warns of, such as that the weights know only a phantom."""
    if warning := read_card(path).get("warning"):
        logger.warning(f"{path} was trained on this: {warning}")


def read_card(weights: str | Path) -> dict[str, Any]:
    """The card beside a weights file; empty when there is none.

    Raises:
        ValueError: when the card is damaged, of an unknown format, or belongs to other weights.
    """
    path = Path(weights).with_suffix(".json")
    if not path.is_file():
        return {}
    card = check_card(without_nan(read_json(path, "The card ")), path)
    if Path(weights).is_file() and card.get("sha256") not in (None, sha256(Path(weights))):
        raise ValueError(f"The card {path} belongs to other weights than {weights}: their sha256 differs; restore it.")
    return card


def classifier_card(weights: str | Path) -> dict[str, Any]:
    """The card of a classifier, which knows its classes and its operating point.

    Raises:
        ValueError: when there is none, or it is another kind's.
    """
    card = read_card(weights)
    known = "class_names" in card and (card.get("validation") or {}).get("val_threshold") is not None
    if card.get("kind") != "classifier" or not known:
        kind = f"that of {card.get('kind', 'something else')}" if card else "missing"
        raise ValueError(
            f"{weights} needs the card of a classifier beside it, with its classes and operating point, but the card "
            f"is {kind}; train the classifier first, or keep the .json with the .pt."
        )
    return card


def network_of(model: str | Path) -> dict[str, Any]:
    """What a card says of its network, as options of a config."""
    return dict(classifier_card(model).get("network", {}))


def origin(weights: str | Path) -> dict[str, str] | str:
    """What a card says of the weights that training started from."""
    return SCRATCH if str(weights) == SCRATCH else {"path": str(weights), "sha256": sha256(Path(weights))}


def stated_network(card: Mapping[str, Any], network: nn.Module) -> nn.Module:
    """The network whose architecture a card states: the given one, or a new one on its device.

    Args:
        card: of a classifier.
        network: MONAI's DenseNet.
    """
    stated = card.get("network", {})
    shown = densenet_options(network.state_dict())
    if not shown or all(list(np.ravel(shown[name])) == list(np.ravel(value)) for name, value in stated.items()):
        return network
    options = {**{name: shown[name] for name in NETWORK}, **stated}
    made = DenseNet(spatial_dims=3, in_channels=shown["in_channels"], out_channels=2, **options)
    logger.info(f"The network is that of the card: {', '.join(f'{n} {v}' for n, v in options.items())}.")
    return made.to(next(network.parameters()).device)
