"""Weights on disk: a plain state dict with a card beside it, loaded with a report or refused with a reason."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bundle.files import read_json, replacing, sha256, write_json
from bundle.networks.cards import CARD_FORMAT, NETWORK, check_card
from bundle.networks.encoders import Encoder, densenet_options, encoder_of, freeze
from bundle.networks.preprocessing import Steps, require_preprocessing

STORAGES = {"float32": torch.float32, "float16": torch.float16}
SCRATCH = "scratch"  # in place of a file: start from random weights
HEAD = ("class_layers.", "features.norm5.")  # of MONAI's DenseNet; no encoder has them
LISTED = 5  # names of tensors in a sentence
PROJECTOR = {"projector.hidden.": "hidden_representation.", "projector.output.": "head_projection."}  # ours: released
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadReport:
    """What a load did.

    Attributes:
        encoder: that now has the weights.
        path: of the file.
        loaded: names of the encoder's tensors, all of which were loaded.
        ignored: names of tensors in the file that belong to no encoder, such as a projector's.
    """

    encoder: Encoder
    path: Path
    loaded: tuple[str, ...]
    ignored: tuple[str, ...]

    def __str__(self) -> str:
        """One sentence for the log."""
        ignored = f"; ignored: {_listed(self.ignored)}" if self.ignored else ""
        return f"{self.path}: {len(self.loaded)} of {len(self.encoder.state_dict())} encoder tensors loaded{ignored}."


def save_weights(path: Path, module: nn.Module, card: Mapping[str, Any], storage: str = "float32") -> None:
    """Write a module's state dict and, beside it, a JSON card with the file's sha256.

    Args:
        path: the `.pt` file; the card gets the same name with `.json`.
        module: on any device; a DataParallel wrapper is unwrapped.
        card: what a user needs to know of the weights; `format` and `sha256` are added.
        storage: of floating-point tensors, `float32` or `float16`; networks load either.

    Raises:
        ValueError: for another storage.
    """
    if storage not in STORAGES:
        raise ValueError(f"Weights are stored as {' or '.join(STORAGES)}, but '{storage}' was given.")
    module = getattr(module, "module", module)
    state = {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}
    stored = {n: t.to(STORAGES[storage]) if t.is_floating_point() else t for n, t in state.items()}
    with replacing(path) as temporary, temporary.open("wb") as stream:  # to a path torch hides why writing failed
        torch.save(stored, stream)
    first = {"warning": card["warning"]} if card.get("warning") else {}  # nobody should overlook it
    write_json(path.with_suffix(".json"), {**first, "format": CARD_FORMAT, "sha256": sha256(path), **card})


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict without running any code from the file.

    Raises:
        ValueError: when the file is missing, is damaged, holds pickled objects, or is no dict of tensors.
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
    state_dict = content.get("model") if isinstance(content, dict) and "model" in content else content
    if not isinstance(state_dict, dict) or not all(isinstance(v, Tensor) for v in state_dict.values()):
        raise ValueError(f"{path} holds no state dict (name → tensor); give the weights alone, such as pretrained.pt.")
    odd = [str(name) for name, tensor in state_dict.items() if not isinstance(name, str) or not _is_plain(tensor)]
    if odd:
        raise ValueError(f"{path} holds what no network saves: {_listed(odd)}. Expected dense tensors of real numbers.")
    return state_dict


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
    wrapper, and the layouts of the paper's released file and of AnatCL's ResNet-18.

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
    content = _with_our_names(read_state_dict(path))
    found = _trunk(content)
    if encoder is None:
        encoder = _new_encoder(path, content, found)
    _refuse_mismatch(path, encoder.state_dict(), found)
    encoder.load_state_dict(found)
    report = LoadReport(encoder, path, tuple(found), tuple(name for name in content if name not in found))
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
    path = Path(weights)
    content = _with_our_names(read_state_dict(path))
    return _new_encoder(path, content, _trunk(content))


def architecture_of(weights: str | Path) -> dict[str, Any]:
    """The architecture of a DenseNet that a file of weights shows, as options of `train.json`; of another one none.

    Args:
        weights: see `load_encoder`.
    """
    options = densenet_options(_trunk(_with_our_names(read_state_dict(Path(weights)))))
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


def _new_encoder(path: Path, content: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Encoder:
    _refuse_mismatch(path, _shown(path, found or content).state_dict(), found)
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
    found = {n: t for n, t in _with_our_names(read_state_dict(path)).items() if _is_trunk(n)}
    _refuse_mismatch(path, {n: t for n, t in network.state_dict().items() if _is_trunk(n)}, found)
    network.load_state_dict(found, strict=False)
    logger.info(f"{path}: {len(found)} tensors of the trunk loaded; {', '.join(HEAD)} start from random weights.")
    _warn_of(path)
    if freeze_trunk:
        freeze(network, HEAD)


def _trunk(content: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in content.items() if _is_trunk(name)}


def _is_trunk(name: str) -> bool:
    return name.startswith("features.") and not name.startswith(HEAD)


def load_network(path: str | Path, network: nn.Module) -> None:
    """Load a whole network from its own weights: every tensor, or none.

    Raises:
        ValueError: when the weights do not match; names the tensors.
    """
    content = read_state_dict(Path(path))
    _refuse_mismatch(Path(path), network.state_dict(), content)
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
    card = check_card(read_json(path, "The card "), path)
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


def to_released(network_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A contrastive network's state dict in the layout of the paper's released file, to be stored under "model".

    Args:
        network_state: of `networks.encoders.ContrastiveNetwork` with a DenseNet encoder.

    Source:
        Key names of DenseNet121_BHB-10K_yAwareContrastive.pth, whose authors publish no licence: it is not shipped.
    """
    return {f"module.{_released_name(name)}": tensor for name, tensor in network_state.items()}


def from_released(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_released`: a state dict for `networks.encoders.ContrastiveNetwork`.

    Args:
        released: what the released file has under "model".
    """
    ours = (_our_name(name.removeprefix("module.")) for name in released)
    return {
        name if name.startswith("projector.") else f"encoder.{name}": tensor
        for name, tensor in zip(ours, released.values(), strict=True)
    }


def _released_name(name: str) -> str:
    name = name.removeprefix("encoder.")
    for ours, released in PROJECTOR.items():
        name = name.replace(ours, released)
    return re.sub(r"(\.denselayer\d+)\.layers\.", r"\1.", name)


def _our_name(name: str) -> str:
    for ours, released in PROJECTOR.items():
        name = name.replace(released, ours)
    return re.sub(r"(\.denselayer\d+)\.(?!layers\.)", r"\1.layers.", name)


def _with_our_names(content: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names as an encoder has them (`features.…`), whatever the weights were part of."""
    plain = {name.removeprefix("module.").removeprefix("encoder."): tensor for name, tensor in content.items()}
    if "conv1.weight" in plain:
        plain = _resnet_with_our_names(plain)
    return {_our_name(name): tensor for name, tensor in plain.items()}


def _resnet_with_our_names(plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A ResNet whose parts stand alone, as AnatCL's; its shortcuts have no bias, where MONAI's have one: zero."""
    ours = {f"features.{n}" if n.startswith(("conv1.", "bn1.", "layer")) else n: t for n, t in plain.items()}
    shortcuts = {n.removesuffix("weight"): t for n, t in ours.items() if n.endswith(".downsample.0.weight")}
    return {**{f"{name}bias": t.new_zeros(len(t)) for name, t in shortcuts.items()}, **ours}


def _refuse_mismatch(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    problems = {
        "missing in the file": [name for name in expected if name not in found],
        "unknown to the network": [name for name in found if name not in expected],
        "of another shape": shapes,
    }
    if any(problems.values()):
        matching = len(set(expected) & set(found)) - len(shapes)
        reasons = "; ".join(f"{len(names)} {what} ({_listed(names)})" for what, names in problems.items() if names)
        raise ValueError(
            f"{path} does not fit this network: {matching} of its {len(expected)} tensors match, {reasons}. "
            "Nothing was loaded; use the settings that the weights were trained with."
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
