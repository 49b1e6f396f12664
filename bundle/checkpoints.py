"""Weights on disk: a plain state dict with a card beside it, loaded with a report or refused with a reason."""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bundle.files import replacing, write_json

CARD_FORMAT = 1
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadReport:
    """What a load did: names of tensors that were loaded, and of those in the file that were not asked for."""

    path: Path
    loaded: tuple[str, ...]
    ignored: tuple[str, ...]

    def __str__(self) -> str:
        """One sentence for the log."""
        ignored = (
            f"; {len(self.ignored)} others in the file (such as {self.ignored[0]}) ignored" if self.ignored else ""
        )
        return f"{self.path}: {len(self.loaded)} of {len(self.loaded)} encoder tensors loaded{ignored}."


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
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{path} holds no state dict (name → tensor); give the weights alone, such as pretrained.pt.")
    return content


def load_encoder(encoder: nn.Module, path: str | Path) -> LoadReport:
    """Load an encoder from pretrained weights: every one of its tensors, or none.

    Accepts a network's weights (`encoder.features.…`, the projector is ignored) or an encoder's own (`features.…`).

    Args:
        encoder: filled in place.
        path: file written by pretraining.

    Returns:
        A report, which is also logged.

    Raises:
        ValueError: when a tensor of the encoder is missing in the file or has another shape there; says which.
    """
    path = Path(path)
    content, expected = read_state_dict(path), encoder.state_dict()
    prefix = "encoder." if any(name.startswith("encoder.") for name in content) else ""
    found = {name: content[prefix + name] for name in expected if prefix + name in content}
    _refuse_mismatch(path, expected, found)
    encoder.load_state_dict(found)
    ignored = tuple(name for name in content if name.removeprefix(prefix) not in expected)
    report = LoadReport(path, tuple(found), ignored)
    logger.info(str(report))
    return report


def _refuse_mismatch(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    missing = [name for name in expected if name not in found]
    if missing:
        raise ValueError(
            f"{path} does not fit this encoder: {len(missing)} of its {len(expected)} tensors are not in the file "
            f"(first: {missing[0]}). Nothing was loaded; use the encoder settings that the weights were trained with."
        )
    for name, tensor in expected.items():
        if tensor.shape != found[name].shape:
            raise ValueError(
                f"{path} does not fit this encoder: {name} has shape {tuple(found[name].shape)} in the file and "
                f"{tuple(tensor.shape)} here. Nothing was loaded; use the encoder settings of the weights."
            )
