"""How weights lie on disk, and how they are read without running anything that a file says."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from bundle.networks.names import listed


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
