"""How weights lie on disk: read without running anything that a file says, and written with their card."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bundle.files import replacing, sha256, without_nan, write_json
from bundle.networks.names import listed
from bundle.networks.safetensors_file import SUFFIX, is_safetensors, read_tensors, tensors_digest, write_tensors

REAL = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8),
    *(torch.int64, torch.int32, torch.int16, torch.int8),
)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict without running any code from the file.

    A `.safetensors` file holds one; in a file of torch it may stand alone, or under `model` or `state_dict`.

    Raises:
        ValueError: when the file is missing, is damaged, holds pickled objects, is no dict of tensors, or values are
            not finite.
    """
    if not path.is_file():
        raise ValueError(f"There is no weights file {path}; pretrain first, or give the path of your weights.")
    content = read_tensors(path) if is_safetensors(path) else _read_torch(path)
    odd = [str(name) for name, tensor in content.items() if not isinstance(name, str) or not _is_plain(tensor)]
    if odd:
        raise ValueError(f"{path} holds what no network saves: {listed(odd)}. Expected dense tensors of real numbers.")
    refuse_not_finite(path, content, "lie in it")
    return content


def _read_torch(path: Path) -> dict[str, Tensor]:
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
    return state_dict


def write_weights(path: Path, content: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write a state dict with its card, which goes into the header of a `.safetensors` file, or beside another one.

    Args:
        path: Path of the file; one that ends in `.safetensors` is of that format, any other of torch.
        content: Name → tensor, on the CPU, all finite.
        card: What a user needs to know of the weights, with its `format`; the `sha256` is of what is written.
    """
    card = without_nan(card)
    if is_safetensors(path):
        with replacing(path) as temporary:
            write_tensors(temporary, content, _with_digest(card, tensors_digest(content)))
        return
    with replacing(path) as temporary, temporary.open("wb") as stream:  # to a path torch hides why writing failed
        torch.save(dict(content), stream)
    write_json(path.with_suffix(".json"), _with_digest(card, sha256(path)))


def _with_digest(card: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """A card that begins with what nobody should overlook."""
    first = {name: card[name] for name in ("warning", "format") if card.get(name)}
    return {
        **first,
        "sha256": digest,
        **{name: value for name, value in card.items() if name not in (*first, "sha256")},
    }


def weights_digest(path: Path) -> str:
    """What a card calls `sha256`: of a `.safetensors` file that of its tensors, of another that of the file.

    Raises:
        ValueError: when a `.safetensors` file is damaged.
    """
    return tensors_digest(read_tensors(path)) if is_safetensors(path) else sha256(path)


def refuse_twin(path: Path) -> None:
    """Refuse to write new weights beside others of the same name: both would share a card or a record.

    Args:
        path: Path that is to be written.

    Raises:
        ValueError: names the other file.
    """
    endings = (".pt", ".pth") if is_safetensors(path) else (SUFFIX,)
    if found := [other for ending in endings if (other := path.with_suffix(ending)).is_file()]:
        raise ValueError(
            f"{path} is to be written, and {found[0]} lies there: what belongs to a model goes by its name, so that "
            "one of the two would be taken for the other. Give another name, or move the other file away."
        )


def refuse_not_finite(path: Path, content: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights with a NaN or an infinity: whatever is computed from them would be none, or no answer.

    Args:
        path: Path of the file.
        content: Name → tensor.
        where: They are, to end the sentence "3 values are not finite that …".

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
    if tensor.layout != torch.strided or tensor.is_meta or tensor.dtype not in REAL:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
