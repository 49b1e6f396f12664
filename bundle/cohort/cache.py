"""A cohort's preprocessed volumes, made once and kept compactly; `storage` says how one is kept and read."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import RandomizableTrait
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from bundle.cohort.channels import require_same_channels
from bundle.cohort.datalist import CACHE_FORMAT, load_section, read_object
from bundle.cohort.modality import require_modality
from bundle.cohort.overlap import voxel_digest
from bundle.cohort.packing import STORAGES, ReadStoredd, pack
from bundle.cohort.participants import CohortError, Problem
from bundle.cohort.regrid import preprocessed, targets_of
from bundle.files import SECTIONS, relative_to, replacing, write_json, write_text
from bundle.former_names import renewed
from bundle.hints import nearest
from bundle.networks.preprocessing import steps_of
from bundle.scans.grid import Grid
from bundle.scans.volumes import VolumeError, checked_volume

VOLUMES, LEDGER, SETTINGS, PHANTOM = "volumes", "volumes.jsonl", "cache.json", "phantom.json"
_ADVICE = "The other volumes are kept. Correct these images, or make a datalist without them, and run it again."
Entry = dict[str, Any]  # of the ledger: name, source, intensity, image_digest, shape, bytes
logger = logging.getLogger(__name__)


def fill_cache(
    datalist: Path,
    output: Path,
    preprocessing: Callable[[dict], Mapping[str, Any]],
    recipe: Mapping[str, Any],
    *,
    storage: str = "float16",
    workers: int | None = None,
) -> Path:
    """Preprocess every image of a datalist once; what is there from the same file in the same way is kept.

    Volumes and files are replaced whole, and the datalist is written last: a run killed at any instant loses the
    scans it was at. One command at a time may fill a folder.

    Args:
        datalist: The JSON file; all its sections are cached.
        output: The cache; it may hold several datalists of one recipe and storage.
        preprocessing: Record → record whose `image` is (C, D, H, W), without randomness.
        recipe: The preprocessing as text, by which another one is told.
        storage: `float16` or `uint8`; see `pack`.
        workers: Processes; None is one per core, 0 none beside this one.

    Returns:
        The datalist of the cached volumes.

    Raises:
        CohortError: lists the scans that cannot be cached; the others are kept.
        ValueError: the folder holds something else, or the disk is too small.
    """
    _refuse_unsuitable(preprocessing, storage)
    require_modality(datalist, preprocessing=preprocessing)
    target = output / datalist.name
    _refuse_other_datalist(target, datalist)
    settings = _claim(output, datalist, recipe, storage)
    scans = _scans(datalist, output, settings)
    entries = _entries(output)
    _write_ledger(output, entries.values())
    missing = [scan for scan in scans.values() if scan.name not in entries]
    logger.info(f"{len(scans) - len(missing)} of {len(scans)} volumes are in {output} already.")
    results = _results(missing, preprocessing, storage, output, os.cpu_count() or 1 if workers is None else workers)
    problems = _record(results, len(scans), len(missing), output, entries) or _odd_shapes(scans, entries)
    if problems:
        raise CohortError(problems, _ADVICE)
    _write_datalist(target, datalist, scans, entries)
    _tidy(output, settings, scans, entries)
    logger.info(f"Wrote {target}: {len(scans)} volumes as {storage}.")
    return target


def recipe_of_cache(folder: str | Path) -> list[dict[str, Any]] | None:
    """The steps of the preprocessing that filled a cache, for a card; see `networks.steps_of`.

    Args:
        folder: Folder of the cache.
    """
    return steps_of(renewed(read_object(Path(folder) / SETTINGS)["preprocessing"]).get("preprocessing"))


# What is refused before any work


def _refuse_unsuitable(preprocessing: Callable, storage: str) -> None:
    if storage not in STORAGES:
        raise ValueError(f"Volumes are not stored as '{storage}'{nearest(storage, STORAGES)}")
    for step in getattr(preprocessing, "transforms", [preprocessing]):
        if isinstance(step, ReadStoredd):
            raise ValueError("The preprocessing reads a cache; leave configs/cached.yaml out when one is made.")
        if isinstance(step, RandomizableTrait):
            raise ValueError(
                f"The preprocessing draws at random ({type(step).__name__}), which a cache would freeze; "
                "leave it out, and draw views in training."
            )


def _refuse_other_datalist(target: Path, datalist: Path) -> None:
    """A cache's datalist takes the place of no other file."""
    if not target.exists():
        return
    held, wanted = read_object(target).get("cached_from"), relative_to(datalist, target.parent)
    if held != wanted:
        what = f"was cached from {held}" if held else "is no datalist of a cache"
        raise ValueError(f"{target} {what}, and {wanted} would replace it; give another --output, or delete it.")


def _claim(output: Path, datalist: Path, recipe: Mapping[str, Any], storage: str) -> dict[str, Any]:
    """Settings of a cache, written before its first volume; a cache of others is refused."""
    phantom = datalist.absolute().parent / PHANTOM
    warning = phantom.read_text(encoding="utf-8") if phantom.is_file() else ""
    settings: dict[str, Any] = {
        "format": CACHE_FORMAT,
        "preprocessing": json.loads(json.dumps(recipe)),
        "storage": storage,
        "phantom": _digest(warning) if warning else None,
        "versions": [{name: version(name) for name in ("monai", "numpy", "torch")}],
    }
    path = output / SETTINGS
    if path.exists():
        held = read_object(path)
        if renewed(held.get("preprocessing")) == settings["preprocessing"]:
            settings["preprocessing"] = held["preprocessing"]  # as written: volumes are named after it
        settings["versions"] = _compare(path, held, settings)
    else:
        write_json(path, settings)
    if warning:
        write_text(output / PHANTOM, warning)
    return settings


def _compare(path: Path, found: Mapping[str, Any], settings: Mapping[str, Any]) -> list[dict[str, str]]:
    """All versions that made volumes of a cache; other settings are refused."""
    differing = [name for name in settings if name != "versions" and found.get(name) != settings[name]]
    if differing:
        raise ValueError(
            f"{path.parent} was made with another {' and another '.join(differing)}, as {path} says; "
            "give another --output, or delete it."
        )
    earlier, now = found.get("versions", []), settings["versions"]
    if now[0] not in earlier:
        logger.warning(f"{path.parent} was begun with {earlier}, and these are {now[0]}: volumes may differ slightly.")
    return [*earlier, *(v for v in now if v not in earlier)]


# Scans


@dataclass(frozen=True)
class _Scan:
    name: str  # of its volume: another file, another state of it or other settings have another name
    source: str  # from the cache's folder
    record: dict[str, Any]
    target: Grid | None = None  # onto which an image is brought that lies elsewhere than most

    def problem(self, reason: str) -> Problem:
        r = self.record
        return Problem(str(r["participant_id"]), str(r["session_id"]), str(r["image"]), reason)


def _scans(datalist: Path, output: Path, settings: Mapping[str, Any]) -> dict[str, _Scan]:
    """Every image of a datalist once, by its path."""
    sections = [name for name in SECTIONS if name in read_object(datalist)] or [SECTIONS[0]]
    records = [record for name in sections for record in load_section(datalist, name)]
    if not records:
        raise CohortError(f"The datalist {datalist} has no scans; there is nothing to cache.")
    require_same_channels(records, datalist)
    recipe = json.dumps({k: settings[k] for k in ("format", "preprocessing", "storage")}, sort_keys=True)
    scans = {}
    for record, target in zip(records, targets_of(records), strict=True):
        source = relative_to(Path(record["image"]), output)
        moved = f"\n{target.card}" if target else ""
        others = "".join(f"\n{file}{_state(Path(file))}" if file else "\n" for file in record.get("channels", ()))
        name = _digest(f"{source}\n{_state(Path(record['image']))}\n{recipe}{moved}{others}")
        scans[str(record["image"])] = _Scan(name, source, record, target)
    return scans


def _state(path: Path) -> str:
    """Size and time of change of a file."""
    try:
        found = path.stat()
    except OSError:
        return "missing"  # which reading it will say
    return f"{found.st_size} {found.st_mtime_ns}"


class _Preprocessed(Dataset):
    """Makes and writes a scan's volume; gives its entry, what is wrong with the scan, or why nothing was written."""

    def __init__(self, scans: Sequence[_Scan], preprocessing: Callable, storage: str, output: Path) -> None:
        self.scans, self.preprocessing, self.storage, self.output = scans, preprocessing, storage, output

    def __len__(self) -> int:
        return len(self.scans)

    def __getitem__(self, index: int) -> Entry | Problem | OSError:
        scan = self.scans[index]
        try:
            digest = voxel_digest(checked_volume(Path(scan.record["image"])))
            stored, intensity = pack(self._preprocess(scan), self.storage)
        except VolumeError as error:
            return scan.problem(str(error))
        try:
            size = _write_volume(_volume(self.output, scan.name), stored)
        except OSError as error:
            return error
        known = {"intensity": intensity, "image_digest": digest, "shape": list(stored.shape), "bytes": size}
        return {"name": scan.name, "source": scan.source, **known}

    def _preprocess(self, scan: _Scan) -> np.ndarray:
        try:
            volume = np.asarray(preprocessed(scan.record, self.preprocessing, scan.target), dtype=np.float32)
        except Exception as error:  # whatever a transform raises is about this scan
            cause = _root(error)
            reason = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
            raise VolumeError(
                f"the image cannot be preprocessed ({reason}); correct it or the preprocessing"
            ) from error
        if volume.ndim != 4:
            raise VolumeError(f"is preprocessed to the shape {volume.shape}, expected (channels, depth, height, width)")
        if not np.isfinite(volume).all():
            raise VolumeError("is preprocessed to NaN or infinite voxels; correct the preprocessing")
        return volume


def _write_volume(path: Path, stored: np.ndarray) -> int:
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, stored, allow_pickle=False)
    return path.stat().st_size


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


# Work


def _results(
    scans: Sequence[_Scan], preprocessing: Callable, storage: str, output: Path, workers: int
) -> Iterator[Entry | Problem | OSError]:
    """What became of every scan. The first good one is made here: its size says whether the disk holds all."""
    todo = list(scans)
    while todo:
        first = _Preprocessed([todo.pop(0)], preprocessing, storage, output)[0]
        yield first
        if isinstance(first, dict):
            _require_space(output, first["bytes"], len(todo), storage)
            break
    if todo:
        rest = _Preprocessed(todo, preprocessing, storage, output)
        yield from DataLoader(rest, batch_size=None, num_workers=min(workers, len(todo)), collate_fn=_unchanged)


def _unchanged(result: Any) -> Any:
    return result


def _require_space(output: Path, each: int, count: int, storage: str) -> None:
    needed, free = each * count, shutil.disk_usage(output).free
    if needed > free:
        smaller = "" if storage == "uint8" else "choose --storage uint8, which needs half, "
        raise ValueError(
            f"{count} more volumes need {needed / 2**30:.1f} GiB in {output}, and {free / 2**30:.1f} GiB are free; "
            f"free some, {smaller}or give --output on another disk."
        )


def _record(
    results: Iterator[Entry | Problem | OSError], total: int, missing: int, output: Path, entries: dict[str, Entry]
) -> list[Problem]:
    """Enter in the ledger what was made; the problems of the rest."""
    problems = []
    bar = tqdm(results, "Caching", total, initial=total - missing, unit="scan", disable=None)
    with (output / LEDGER).open("a", encoding="utf-8") as ledger:
        for result in bar:
            if isinstance(result, OSError):
                raise result
            if isinstance(result, Problem):
                problems.append(result)
                continue
            entries[result["name"]] = result
            ledger.write(json.dumps(result) + "\n")
            ledger.flush()
    return problems


def _odd_shapes(scans: Mapping[str, _Scan], entries: Mapping[str, Entry]) -> list[Problem]:
    shapes = Counter(tuple(entries[scan.name]["shape"]) for scan in scans.values())
    usual = shapes.most_common(1)[0][0]
    odd = [scan for scan in scans.values() if tuple(entries[scan.name]["shape"]) != usual]
    return [
        scan.problem(f"is preprocessed to the shape {tuple(entries[scan.name]['shape'])}, expected {usual} as most are")
        for scan in odd
    ]


# Files


def _entries(output: Path) -> dict[str, Entry]:
    """The ledger's entries whose volumes are there, whole; what a killed run left unfinished is removed."""
    for leftover in (output / VOLUMES).glob(".part-*"):
        leftover.unlink(missing_ok=True)
    path = output / LEDGER
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    entries = [entry for line in lines if (entry := _parsed(line))]
    return {e["name"]: e for e in entries if _size(_volume(output, e["name"])) == e["bytes"]}


def _parsed(line: str) -> Entry | None:
    """A line of the ledger; the last one of a killed run may be cut."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and _is_whole(entry) else None


def _is_whole(entry: Entry) -> bool:
    """Whether an entry has all there must be; its name becomes that of a file, and must be one that `_scans` gives."""
    named = isinstance(entry.get("name"), str) and re.fullmatch("[0-9a-f]{32}", entry["name"]) is not None
    kinds = {"source": str, "image_digest": str, "intensity": list, "shape": list, "bytes": int}
    return named and all(isinstance(entry.get(name), kind) for name, kind in kinds.items())


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _write_ledger(output: Path, entries: Iterable[Entry]) -> None:
    write_text(output / LEDGER, "".join(json.dumps(e) + "\n" for e in sorted(entries, key=lambda e: e["name"])))


def _write_datalist(target: Path, datalist: Path, scans: Mapping[str, _Scan], entries: Mapping[str, Entry]) -> None:
    content = read_object(datalist)
    for section in [name for name in SECTIONS if name in content]:
        images = [str(record["image"]) for record in load_section(datalist, section)]
        items = [item if isinstance(item, dict) else {"image": item} for item in content[section]]
        items = [{name: value for name, value in item.items() if name != "channels"} for item in items]
        content[section] = [
            {**item, **_cached(entries[scans[image].name])} for item, image in zip(items, images, strict=True)
        ]
    write_json(target, {"cached_from": relative_to(datalist, target.parent), **content, "cache_format": CACHE_FORMAT})


def _cached(entry: Entry) -> dict[str, Any]:
    image = _volume(Path(), entry["name"]).as_posix()
    return {"image": image, "intensity": entry["intensity"], "image_digest": entry["image_digest"]}


def _tidy(output: Path, settings: Mapping[str, Any], scans: Mapping[str, _Scan], entries: dict[str, Entry]) -> None:
    """Remove volumes of former states of these images that no datalist names; count the rest."""
    names, sources = {s.name for s in scans.values()}, {s.source for s in scans.values()}
    former = {n for n, e in entries.items() if e["source"] in sources and n not in names}
    for name in former - (_named(output) if former else set()):
        _volume(output, name).unlink(missing_ok=True)
        del entries[name]
    _write_ledger(output, entries.values())
    size = sum(entry["bytes"] for entry in entries.values())
    write_json(output / SETTINGS, {**settings, "volumes": len(entries), "bytes": size})


def _named(output: Path) -> set[str]:
    """Volumes that the datalists of a cache name."""
    contents = [content for p in output.glob("*.json") if "cached_from" in (content := read_object(p))]
    items = [item for content in contents for s in SECTIONS if isinstance(content.get(s), list) for item in content[s]]
    return {Path(str(item["image"])).stem for item in items if isinstance(item, dict) and "image" in item}


def _volume(output: Path, name: str) -> Path:
    return output / VOLUMES / f"{name}.npy"


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()
