"""`.safetensors` files: a header of plain JSON, read within limits, whose metadata hold the card; then the tensors."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

SUFFIX = ".safetensors"
LARGEST_HEADER = 32 * 2**20  # bytes; the card of a hundred thousand participants takes five million
_LENGTH = struct.Struct("<Q")  # of the header, which comes first
_METADATA = "__metadata__"  # entry of the header that is no tensor
_CARD = "card"  # entry of the metadata
_FORMAT = {"format": "pt"}  # by which other software knows that the tensors are PyTorch's


def is_safetensors(path: Path) -> bool:
    """Whether a file is read and written as safetensors, by the ending of its name."""
    return path.suffix.lower() == SUFFIX


def card_inside(path: Path) -> dict[str, Any]:
    """The card in the header of a file, unchecked; empty where there is none.

    Raises:
        ValueError: when the header is damaged, or its card is no JSON object.
    """
    metadata = _header(path).get(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _refusal(path, "its metadata are no texts by name")
    if _CARD not in metadata:
        return {}
    try:
        card = _parsed(metadata[_CARD])
    except (ValueError, RecursionError) as error:
        raise _refusal(path, f"the card in its header is not valid JSON: {error}") from error
    if not isinstance(card, dict):
        raise _refusal(path, "the card in its header is no JSON object")
    return card


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; nothing in it can be code.

    Raises:
        ValueError: when the file is damaged.
    """
    import safetensors.torch

    card_inside(path)
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # of Rust, and of dtypes that torch lacks
        raise _refusal(path, f"{type(error).__name__}: {str(error)[:200]}") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write tensors with a card in the header.

    Args:
        path: A temporary one; see `files.replacing`.
        tensors: Tensors on the CPU, by name.
        card: Plain values, all finite.
    """
    import safetensors.torch

    apart = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}  # none shares memory with another
    text = json.dumps(card, ensure_ascii=False, allow_nan=False)
    path.write_bytes(safetensors.torch.save(apart, {**_FORMAT, _CARD: text}))


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors: of each, in the order of their names, the line `name dtype [shape]`, and its bytes.

    A file cannot hold its own digest. This one stays the same whatever else the file says.

    Args:
        tensors: Dense, by name.

    Returns:
        Hexadecimal.
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        kind = str(tensor.dtype).removeprefix("torch.")
        digest.update(f"{name} {kind} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _header(path: Path) -> dict[str, Any]:
    """The header, within limits; of two entries of one name, nobody could say which is meant."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            first = stream.read(_LENGTH.size)
            if len(first) < _LENGTH.size:
                raise _refusal(path, "it is too short for a header")
            (length,) = _LENGTH.unpack(first)
            if length > min(LARGEST_HEADER, size - _LENGTH.size):
                raise _refusal(path, f"its header announces {length:,} bytes, more than the file or the limit")
            content = _parsed(stream.read(length).decode("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError, _TwiceError) as error:
        raise _refusal(path, f"its header is not valid JSON: {str(error)[:200]}") from error
    if not isinstance(content, dict):
        raise _refusal(path, "its header is no JSON object")
    return content


class _TwiceError(ValueError):
    """Two entries of one name."""


def _parsed(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(f"the entry {next(n for n in names if names.count(n) > 1)[:60]!r} stands in it twice")
    return content


def _refusal(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path} is no readable safetensors file: {reason}. Restore it, or convert the weights again.")
