"""The preprocessing that weights were trained with, as a card states it: steps of known transforms, and no code.

A config is code, a card is data. What a card states becomes part of a config again, so that only transforms that
compute are taken, with plain values; the two expressions that our own configs use are taken literally.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Steps = list[dict[str, Any]]
CHANNELS = "bundle.scans.LoadChannelsd"
LOADERS = ("LoadImaged", CHANNELS)  # what reads the files of a record
TRANSFORMS = frozenset(
    [
        *(CHANNELS, "LoadImaged", "EnsureChannelFirstd", "SqueezeDimd", "EnsureTyped", "CastToTyped", "Lambdad"),
        *("Orientationd", "Spacingd", "SpatialResampled", "Resized", "ResizeWithPadOrCropd"),
        *("SpatialCropd", "CenterSpatialCropd", "SpatialPadd", "BorderPadd", "DivisiblePadd"),
        *("NormalizeIntensityd", "ScaleIntensityd", "ScaleIntensityRanged", "ScaleIntensityRangePercentilesd"),
    ]
)
_FUNCTIONS: tuple[Any, ...] = (
    {"_target_": "bundle.scans.within_limits", "_mode_": "callable"},
    {"_target_": "bundle.scans.relative_to_cerebellum", "_mode_": "callable"},
    "$lambda volume: volume.squeeze()[None]",
)
_TYPES = ("$torch.float32", "$torch.float16", "$torch.float64")
_LOADING = {"_target_", "keys", "image_only", "ensure_channel_first"}  # a reader by name might unpickle
logger = logging.getLogger(__name__)


def are_steps(value: Any) -> bool:
    """Whether a value is a list of steps that may become part of a config.

    Args:
        value: Value of a card.
    """
    return isinstance(value, list) and 0 < len(value) <= 50 and all(_is_step(step) for step in value)


def steps_of(preprocessing: Any) -> Steps | None:
    """The steps of a config's `preprocessing`, or None where it does more than a card can state, which is logged.

    Args:
        preprocessing: Preprocessing, as written in a config: MONAI's `Compose` of transforms.
    """
    steps = preprocessing.get("transforms") if isinstance(preprocessing, Mapping) else None
    if isinstance(steps, list) and are_steps(steps) and set(preprocessing) == {"_target_", "transforms"}:
        return [dict(step) for step in steps]
    logger.warning(
        "The preprocessing is made of more than known transforms and plain values, so that the card cannot state it; "
        "give its overlay again wherever the weights are used."
    )
    return None


def as_config(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The entry `preprocessing` of a config that has these steps."""
    return {"_target_": "Compose", "transforms": [dict(step) for step in steps]}


def require_preprocessing(stated: Steps | None, recipe: Steps | None, weights: str | Path) -> None:
    """Refuse to use weights on volumes that are preprocessed in another way than those they were trained on.

    Args:
        stated: Steps that the card of the weights states; None: it states none, and nothing is refused.
        recipe: Steps of this run; None where they cannot be known.
        weights: Path of the weights, for the message.

    Raises:
        ValueError: names the first step that differs.
    """
    if stated is None or recipe is None or stated == recipe:
        return
    pairs = [*zip(stated, recipe, strict=False), (None, None)]
    first = next(number for number, (one, other) in enumerate(pairs) if one != other or one is None)
    there, here = (steps[first]["_target_"] if first < len(steps) else "nothing more" for steps in (stated, recipe))
    raise ValueError(
        f"{weights} was trained on volumes that were preprocessed in another way: step {first + 1} was {there} "
        f"{_arguments(stated, first)}, and is {here} {_arguments(recipe, first)} now. Leave overlays of the "
        "preprocessing out (`python -m bundle` reads it from the card), or give those of the training."
    )


def _arguments(steps: Steps, place: int) -> str:
    step = steps[place] if place < len(steps) else {}
    return ", ".join(f"{name}={value}" for name, value in step.items() if name not in ("_target_", "keys"))


def _is_step(step: Any) -> bool:
    target = step.get("_target_") if isinstance(step, Mapping) else None
    if not isinstance(target, str) or target not in TRANSFORMS:
        return False
    if target == "LoadImaged" and not set(step) <= _LOADING:
        return False
    return all(_is_argument(target, str(name), value) for name, value in step.items() if name != "_target_")


def _is_argument(transform: str, name: str, value: Any) -> bool:
    if name == "func" or (transform == "Lambdad" and name not in ("keys",)):
        return transform == "Lambdad" and value in _FUNCTIONS
    if name == "dtype" and value in _TYPES:
        return True
    return not name.startswith(("_", "$", "@", "%", "+")) and _is_plain(value)


def _is_plain(value: Any, depth: int = 0) -> bool:
    if isinstance(value, list):
        return depth < 3 and len(value) <= 100 and all(_is_plain(item, depth + 1) for item in value)
    if isinstance(value, str):
        return len(value) <= 100 and not value.startswith(("$", "@", "%"))
    return value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value))
