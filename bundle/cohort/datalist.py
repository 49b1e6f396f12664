"""From a table of participants and a folder of images to a checked datalist, and back."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.cohort.channels import require_channels
from bundle.cohort.folds import people_drawn
from bundle.cohort.participants import CohortError
from bundle.files import SECTIONS, check_format, read_json, relative_to, write_text
from bundle.hints import nearest, quoted
from bundle.scans.modality import modality_of

logger = logging.getLogger(__name__)

METADATA_COLUMNS = ("age", "sex", "site", "tiv")


def write_datalist(
    path: Path,
    sections: Mapping[str, list[dict]],
    *,
    description: str,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write MONAI's datalist: images relative to its folder, null = unknown.

    Args:
        path: The JSON file to write.
        sections: Records of `training`, `validation` and `test`; one left out is written empty.
        description: Sentence that says where the scans come from.
        extra: Further entries at the top, such as `{"licence": "CC0"}`.

    Raises:
        CohortError: a section is unknown, or a record has no image.
    """
    write_text(path, datalist_text(path, sections, description=description, extra=extra))


def datalist_text(
    path: Path,
    sections: Mapping[str, list[dict]],
    *,
    description: str,
    extra: Mapping[str, Any] | None = None,
) -> str:
    """What `write_datalist` writes.

    Args:
        path: The JSON file, from whose folder images are named.
        sections: Records, as of `write_datalist`.
        description: Sentence that says where the scans come from.
        extra: Further entries at the top.

    Raises:
        CohortError: a section is unknown, or a record has no image.
    """
    for name in sections:
        if name not in SECTIONS:
            raise CohortError(f"A datalist has no section '{name}'; use {quoted(SECTIONS)}.")
    content: dict[str, Any] = {"description": description, **(extra or {})}
    lists = {name: [_written(r, path) for r in sections.get(name, [])] for name in SECTIONS}
    content |= {f"num{name.capitalize()}": len(records) for name, records in lists.items()} | lists
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def load_section(
    datalist: Path,
    section: str,
    metadata_columns: Sequence[str] = (),
    cached: bool | None = False,
    size: int | None = None,
    seed: int = 0,
) -> list[dict]:
    """Read one section of a datalist, ready for a data loader.

    Images become absolute paths, and so do the files of further channels (`channels`, empty for a
    missing one). Unknown values become what a batch can hold: NaN for age and tiv, -1 for label, an
    empty string elsewhere. With `metadata_columns` every item gets `metadata`: age in years, tiv in
    mL, sex F = 0 and M = 1, site = its place in the sorted sites of the whole datalist, NaN = unknown.

    Args:
        datalist: The JSON file.
        section: `training`, `validation` or `test`.
        metadata_columns: Columns among `age`, `sex`, `site`, `tiv` to stack, in this order.
        cached: Whether the images are volumes of a cache, which other preprocessing cannot read; None: either.
        size: Participants drawn from the section; see `people_drawn`. None takes all.
        seed: Seed of that draw.

    Shape:
        `metadata` of an item: (M,), float32.

    Raises:
        CohortError: the file or section is missing, a value is not understood, an image is or is not `cached`, or
            records have other channels than the datalist's modality.
        ValueError: a metadata column is unknown, or `size` exceeds the participants.
    """
    for name in metadata_columns:
        if name not in METADATA_COLUMNS:
            raise ValueError(f"No metadata column '{name}'{nearest(name, METADATA_COLUMNS)}")
    datalist = Path(datalist)
    content = read_object(datalist)
    _require_section(content, datalist, section)
    stored = stored_records(content[section], section, datalist)
    if not stored:  # MONAI fails on an empty test section.
        return []
    from monai.data import load_decathlon_datalist

    loaded = load_decathlon_datalist(datalist, is_segmentation=False, data_list_key=section)
    # Only the image: MONAI makes a path of every string that happens to name one, such as "sub-01".
    paths = [new["image"] for new in loaded]
    items = [_placed(old, path, datalist.absolute().parent) for old, path in zip(stored, paths, strict=True)]
    require_channels(items, modality_of(content.get("modality"), f"The datalist {datalist}"), datalist)
    if cached is not None:
        _require_cached(items, datalist, cached)
    check_format(content.get("cache_format", CACHE_FORMAT), CACHE_FORMAT, datalist)
    if metadata_columns:
        add_metadata(items, metadata_columns, _sites(content))
    return people_drawn(items, size, seed)


def _placed(record: Mapping[str, Any], image: str, folder: Path) -> dict[str, Any]:
    """A record for a batch: absolute paths, and of a channel without a file an empty one."""
    placed = {name: value for name, value in record.items() if name != "channels"} | {"image": image}
    if record.get("channels"):
        placed["channels"] = [str(folder / file) if file else "" for file in record["channels"]]
    return collatable(placed)


def add_metadata(items: Sequence[dict], columns: Sequence[str], sites: Sequence[str]) -> None:
    """Give records their `metadata`, as `load_section` does.

    Args:
        items: Records, changed in place.
        columns: Columns to stack, in this order.
        sites: Sites, whose places are their numbers.
    """
    for item in items:
        item["metadata"] = np.asarray([_metadata(item, name, sites) for name in columns], dtype=np.float32)


def load_sections(datalist: Path, cached: bool | None = None) -> dict[str, list[dict]]:
    """Read all sections that a datalist has, of images or of cached volumes, as `load_section` does.

    Args:
        datalist: The JSON file.
        cached: Whether volumes of a cache are read; see `load_section`.

    Raises:
        CohortError: as of `load_section`; and none of the sections is there.
    """
    content = read_object(Path(datalist))
    names = [name for name in SECTIONS if isinstance(content.get(name), list)]
    if not names:
        raise CohortError(f"The datalist {datalist} has none of the sections {quoted(SECTIONS)}.")
    return {name: load_section(datalist, name, cached=cached) for name in names}


def load_test_section(datalist: Path) -> list[dict]:
    """The `test` section, of images or of cached volumes; empty where the datalist has none, or is not there.

    Other software gives training its own records and has no datalist; whoever trains on a datalist reads its other
    sections, which are refused when it is missing.

    Args:
        datalist: The JSON file.
    """
    if not Path(datalist).exists():
        return []
    return load_section(Path(datalist), "test", cached=None) if "test" in read_object(Path(datalist)) else []


def _written(record: Mapping[str, Any], path: Path) -> dict[str, Any]:
    if not record.get("image"):
        raise CohortError(f"The record of '{record.get('participant_id')}' names no image.")
    plain = {name: _plain(record.get(name)) for name in (*RECORD_KEYS, *record)}
    placed = {**plain, "image": relative_to(str(record["image"]), path.parent)}
    if channels := placed.pop("channels", None):
        placed["channels"] = [relative_to(str(file), path.parent) if file else None for file in channels]
    return placed


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and math.isnan(value) else value


def read_object(path: Path) -> dict[str, Any]:
    """Read a datalist, or another file that holds one JSON object.

    Args:
        path: The file.

    Raises:
        CohortError: the file is missing, cannot be read, or holds something else.
    """
    if not path.is_file():
        raise CohortError(f"The datalist {path} does not exist; make it first.")
    try:
        content = read_json(path, "The datalist ")
    except ValueError as error:
        raise CohortError(str(error)) from error
    if not isinstance(content, dict):
        raise CohortError(f"{path} holds a {type(content).__name__}, expected the object of a datalist.")
    return content


def _require_section(content: Mapping[str, Any], datalist: Path, section: str) -> None:
    lists = [name for name, value in content.items() if isinstance(value, list)]
    if section not in lists:
        raise CohortError(f"The datalist {datalist} has no section '{section}'{nearest(section, lists)}")
    kinds = {type(item) for item in content[section]}
    if kinds - {dict} and not (section == "test" and kinds == {str}):  # MONAI reads bare paths in `test` alone
        raise CohortError(
            f"{datalist}: section '{section}' has an item that is no record; write {{\"image\": …, "
            '"participant_id": …}.'
        )


def _require_cached(items: Sequence[Mapping[str, Any]], datalist: Path, cached: bool) -> None:
    wrong = next((item for item in items if ("intensity" in item) != cached), None)
    if wrong is None:
        return
    if cached:
        raise CohortError(
            f"{datalist} names {wrong['image']}, which is no volume of a cache; give --dataset_dir the folder that "
            f"`python -m bundle cache --datalist {datalist}` writes, or leave configs/cached.yaml out."
        )
    raise CohortError(
        f"{datalist} names {wrong['image']}, a volume of a cache; these are for `pretrain --config "
        "configs/cached.yaml` alone. Give the datalist it was cached from, or that overlay."
    )


def _sites(content: Mapping[str, Any]) -> list[str]:
    lists = [section for name in SECTIONS if isinstance(section := content.get(name), list)]
    items = [item for section in lists for item in section if isinstance(item, dict)]
    return sorted({str(item["site"]) for item in items if item.get("site") is not None})


def _metadata(item: Mapping[str, Any], name: str, sites: Sequence[str]) -> float:
    if name in ("age", "tiv"):
        return item[name]
    levels = ["F", "M"] if name == "sex" else list(sites)
    value = str(item[name])
    if not value:
        return math.nan
    if value not in levels:
        raise CohortError(f"{item['image']} has {name} '{value}', expected {quoted(levels)} or null.")
    return float(levels.index(value))


def phantom_of(datalists: Iterable[str]) -> dict[str, Any]:
    """The phantom's summary when the datalists are a phantom's, else nothing."""
    summaries = {Path(d).parent / "phantom.json" for d in datalists}
    found = [p for p in summaries if p.is_file()]
    summary = read_json(found[0]) if found else {}
    if not isinstance(summary, dict):
        raise ValueError(f"{found[0]} says nothing of a phantom; restore it, or delete it.")
    return summary


def warning_of(datalist: str | Path) -> str:
    """What must be said of anything made from a datalist: that it is a phantom's, or nothing."""
    return str(phantom_of([str(datalist)]).get("warning", ""))


# One record

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
    channels = item.get("channels", [])
    if channels is not None and not (isinstance(channels, list) and all(map(_is_file_name, channels))):
        raise CohortError(
            f"{datalist}: {item['image']} has channels {str(channels)[:60]!r}, expected a list of files, null for one "
            "that is missing."
        )


def _is_file_name(value: Any) -> bool:
    return value is None or (isinstance(value, str) and bool(value) and "\0" not in value)


def collatable(item: dict[str, Any]) -> dict[str, Any]:
    """A record without null, of the same keys as any other.

    Raises:
        CohortError: age, tiv or label is no number, or the label is a fraction.
    """
    known = {name: item.get(name) for name in (*RECORD_KEYS, *item)}
    filled = {k: _UNKNOWN.get(k, "") if v is None else v for k, v in known.items()}
    label = filled["label"]
    if isinstance(label, float) and math.isfinite(label) and not label.is_integer():
        raise CohortError(
            f"{item['image']} has the label {label}, a fraction; expected 0 (control), 1 (patient) or null. Decide "
            "which it is, and correct the datalist."
        )
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
