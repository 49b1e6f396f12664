"""How the configs of a comparison read volumes that `python -m bundle cache` has preprocessed, in place of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bundle.cohort.datalist import read_object
from bundle.former_names import renewed

SETTINGS = "cache.json"  # which every cache has
_TRUE = {  # options that are set to true
    "pretrain": ("train#dataset#data#cached", "validate#dataset#data#cached"),
    "train": (
        *("sections#training#cached", "sections#validation#cached"),
        "validate#card#contract#_disabled_",  # it measures scans, and a cache has preprocessed volumes
    ),
    "evaluate": ("sections#training#cached", "sections#validation#cached", "validate#dataset#data#cached"),
    "probe": (),  # a comparison reads the people of a probe itself
}


def stored_in(folder: Path) -> Path | None:
    """The folder itself where its datalists are those of a cache, else None.

    Args:
        folder: Folder of datalists.
    """
    return folder if (folder / SETTINGS).is_file() else None


def refuse_other_recipe(cache: Path, overlay: str, preprocessing: Any) -> None:
    """Refuse an overlay whose preprocessing is another one than that which filled the cache.

    Args:
        cache: Folder of the cache.
        overlay: Path of the overlay, for the message.
        preprocessing: What the overlay says of it.

    Raises:
        ValueError: the two differ.
    """
    filled_by = renewed(read_object(cache / SETTINGS).get("preprocessing")).get("preprocessing")
    if preprocessing != filled_by:
        raise ValueError(
            f"{overlay} states another preprocessing than that which filled the cache {cache}; leave it out: a "
            "comparison reads the cached volumes as they are. Or fill a cache with it, or give the datalists of images."
        )


def reading(command: str, cache: Path | None) -> dict[str, Any]:
    """Options with which a config reads the volumes of a cache; none where there is no cache.

    Args:
        command: Pretrain, probe, train or evaluate.
        cache: Folder of the cache, or None.
    """
    if cache is None:
        return {}
    return {
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "bundle.cohort.ReadStoredd", "keys": "image", "restore": True}],
        },
        "recipe": {"_target_": "bundle.cohort.recipe_of_cache", "folder": str(cache)},
        "cache_rate": 0.0,  # the operating system keeps what was read
        **dict.fromkeys(_TRUE[command], True),
    }
