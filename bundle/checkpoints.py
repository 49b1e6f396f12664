"""Weights on disk: a plain state dict with a card beside it, loaded with a report or refused with a reason."""

from __future__ import annotations

import hashlib
import logging
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bundle.files import replacing, write_json
from bundle.networks import Encoder, encoder_of

CARD_FORMAT = 1
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


def save_weights(path: Path, module: nn.Module, card: Mapping[str, Any]) -> None:
    """Write a module's state dict and, beside it, a JSON card with the file's sha256.

    Args:
        path: the `.pt` file; the card gets the same name with `.json`.
        module: on any device; a DataParallel wrapper is unwrapped.
        card: what a user needs to know of the weights; `format` and `sha256` are added.
    """
    module = getattr(module, "module", module)
    with replacing(path) as temporary:
        torch.save({name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}, temporary)
    write_json(path.with_suffix(".json"), {"format": CARD_FORMAT, "sha256": sha256(path), **card})


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict without running any code from the file.

    Raises:
        ValueError: when the file is missing, is damaged, holds pickled objects, or is no dict of tensors.
    """
    if not path.is_file():
        raise ValueError(f"There is no weights file {path}; pretrain first, or give the path of your weights.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} is no readable file of plain weights ({type(error).__name__}). Expected a state dict "
            "written by torch.save; files that hold pickled objects are refused because opening them runs their code."
        ) from error
    state_dict = content.get("model") if isinstance(content, dict) and "model" in content else content
    if not isinstance(state_dict, dict) or not all(isinstance(v, Tensor) for v in state_dict.values()):
        raise ValueError(f"{path} holds no state dict (name → tensor); give the weights alone, such as pretrained.pt.")
    return state_dict


def load_encoder(path: str | Path, encoder: Encoder | None = None) -> LoadReport:
    """Load an encoder from pretrained weights: every one of its tensors, or none.

    Accepts an encoder's weights (`features.…`), those of a whole network (`encoder.features.…`, the projector is
    ignored), each with or without the `module.` of a parallel wrapper, and the layout of the paper's released file.

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
    found = {name: tensor for name, tensor in content.items() if name.startswith("features.")}
    encoder = encoder_of(found or content) if encoder is None else encoder
    _refuse_mismatch(path, encoder.state_dict(), found)
    encoder.load_state_dict(found)
    report = LoadReport(encoder, path, tuple(found), tuple(name for name in content if name not in found))
    logger.info(str(report))
    return report


def to_released(network_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A contrastive network's state dict in the layout of the paper's released file, to be stored under "model".

    Args:
        network_state: of `networks.ContrastiveNetwork` with a DenseNet encoder.

    Source:
        Key names of DenseNet121_BHB-10K_yAwareContrastive.pth, whose authors publish no licence: it is not shipped.
    """
    return {f"module.{_released_name(name)}": tensor for name, tensor in network_state.items()}


def from_released(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_released`: a state dict for `networks.ContrastiveNetwork`.

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
    return {_our_name(name): tensor for name, tensor in plain.items()}


def _refuse_mismatch(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    problems = {
        "missing in the file": [name for name in expected if name not in found],
        "unknown to the encoder": [name for name in found if name not in expected],
        "of another shape": shapes,
    }
    if any(problems.values()):
        matching = len(set(expected) & set(found)) - len(shapes)
        reasons = "; ".join(f"{len(names)} {what} ({_listed(names)})" for what, names in problems.items() if names)
        raise ValueError(
            f"{path} does not fit this encoder: {matching} of its {len(expected)} tensors match, {reasons}. "
            "Nothing was loaded; use the encoder settings that the weights were trained with."
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
