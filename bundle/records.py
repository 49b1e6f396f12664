"""What one record of a datalist may say, and how it is made ready for a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.participants import CohortError

CACHE_FORMAT = 1  # of what cached records say of their volumes
RECORD_KEYS = ("image", "participant_id", "session_id", "site", "age", "sex", "tiv", "label")
_LARGEST_LABEL = 2**31  # that a batch can hold
# What stands for null in a batch, which cannot hold None; elsewhere it is an empty string.
_UNKNOWN: dict[str, float | int] = {"age": math.nan, "tiv": math.nan, "label": -1}


def stored_records(items: Sequence[Any], section: str, datalist: Path) -> list[dict[str, Any]]:
    """The items of a section as records of plain values.

    Raises:
        CohortError: an item has no image, or a list or an object where a text or a number belongs.
    """
    stored = [item if isinstance(item, dict) else {"image": item} for item in items]
    if any(not item.get("image") for item in stored):
        raise CohortError(f"{datalist}: section '{section}' has an item without an image.")
    for item in stored:
        _require_plain(item, datalist)
    return stored


def _require_plain(item: Mapping[str, Any], datalist: Path) -> None:
    """Refuse lists and objects where a text or a number belongs: MONAI would read a list of images as channels."""
    wrong = [name for name in RECORD_KEYS if not isinstance(item.get(name), (str, int, float, type(None)))]
    if wrong or not isinstance(item["image"], str) or "\0" in item["image"]:
        name = wrong[0] if wrong else "image"
        raise CohortError(f"{datalist}: an item has {name} {str(item.get(name))[:60]!r}, expected one text or number.")


def collatable(item: dict[str, Any]) -> dict[str, Any]:
    """A record without null, of the same keys as any other.

    Raises:
        CohortError: age, tiv or label is no number.
    """
    known = {name: item.get(name) for name in (*RECORD_KEYS, *item)}
    filled = {k: _UNKNOWN.get(k, "") if v is None else v for k, v in known.items()}
    try:
        kinds: dict[str, Callable] = {"age": float, "tiv": float, "label": int}
        values = {name: kind(filled[name]) for name, kind in kinds.items()}
        if any(math.isinf(values[name]) for name in ("age", "tiv")) or abs(values["label"]) > _LARGEST_LABEL:
            raise ValueError("it is infinite")
    except (TypeError, ValueError, OverflowError) as error:
        raise CohortError(
            f"{item['image']} has an age, tiv or label that is no number ({error}); correct the datalist."
        ) from error
    return {**filled, **values}
