"""What is measured of a training cohort, for the card of its model, and whether a card's profile is sound."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.scans.grid import REFERENCE, Array, Grid
from bundle.scans.made_by import pipeline_of
from bundle.scans.measures import CELLS, MEAN, SIDES, measure, own_likeness, pattern, sides
from bundle.scans.modality import GREY_MATTER, Modality, modality_of
from bundle.scans.scan import ScanError, read_scan

LEVELS = (0.0, 0.5, 2.5, 10.0, 25.0, 50.0, 75.0, 90.0, 97.5, 99.5, 100.0)  # percentiles that a card keeps
PROFILED = 500  # training scans that are measured for a card
LEFT_RIGHT = "left and right"


def profile(records: Sequence[Mapping[str, Any]], seed: int = 0, modality: Any = None) -> dict[str, Any]:
    """Measure a training cohort for the card of its model.

    Args:
        records: Records of a datalist; beyond 500, as many are drawn.
        seed: Seed of the draw.
        modality: Modality of the maps, or what a datalist states of it; None: grey matter.

    Returns:
        `grid` of the scans, percentiles of every measure (`levels`, `measures`), `sides` (how left and right differ on
        average), of other modalities than grey matter `pattern` (the mean map in coarse cells) and `modality`,
        `pipelines` that made them, with numbers, and `scans`, the number measured. Of a modality with several channels
        all this is of the first; `channels` has the same of each other, and how many scans have no file of it
        (`missing`).

    Raises:
        ValueError: when a scan cannot be read, or lies on another grid than the first.
    """
    kind = modality_of(modality, "the cohort")
    if kind.channels:
        return _of_channels(records, seed, kind)
    drawn = sorted(np.random.default_rng(seed).permutation(len(records))[:PROFILED])
    grid: Grid | None = None
    rows, differences, patterns = [], [], []
    for index in drawn:
        volume, grid = _on_one_grid(Path(records[index]["image"]), grid)
        rows.append(measure(volume, grid, kind))
        differences.append(sides(volume, grid))
        patterns.append(pattern(volume, grid))
    assert grid is not None
    likenesses = {LEFT_RIGHT: own_likeness(np.stack(differences))}
    more: dict[str, Any] = {}
    if kind != GREY_MATTER:
        likenesses[MEAN] = own_likeness(np.stack(patterns))
        more = {"modality": kind.card, "pattern": np.mean(patterns, axis=0).round(3).tolist()}
    columns = {name: [row[name] for row in rows] for name in rows[0]} | likenesses
    levels = {name: np.percentile(values, LEVELS).round(5).tolist() for name, values in columns.items()}
    average = np.mean(differences, axis=0).round(5).tolist()
    made_by = Counter(pipeline_of(records[index]["image"]) for index in drawn)
    measured = {"levels": list(LEVELS), "measures": levels, "sides": average, **more}
    return {"grid": grid.card, "scans": len(rows), "pipelines": dict(made_by.most_common()), **measured}


def _of_channels(records: Sequence[Mapping[str, Any]], seed: int, kind: Modality) -> dict[str, Any]:
    """The profile of the first channel, with those of the others."""
    first = profile([{"image": record["image"]} for record in records], seed, kind.first)
    others = []
    for place, channel in enumerate(kind.each[1:]):
        files = [record["channels"][place] for record in records]
        there = [{"image": file} for file in files if file]
        own = profile(there, seed, channel) if there else {"grid": first["grid"]}
        others.append({**own, "modality": channel.card, "missing": len(files) - len(there)})
    return {**first, "modality": kind.card, "channels": others}


def of_each_channel(profile: Mapping[str, Any], kind: Modality) -> list[dict[str, Any]]:
    """The profile of each channel of a modality; empty ones where there is none.

    Args:
        profile: Profile, as a card holds it.
        kind: Modality with several channels.
    """
    if not profile:
        return [{} for _ in kind.each]
    first = {name: value for name, value in profile.items() if name != "channels"}
    return [{**first, "modality": kind.first.card}, *(dict(own) for own in profile.get("channels", ()))]


def _on_one_grid(path: Path, grid: Grid | None) -> tuple[Array, Grid]:
    """A training scan and its grid, which has to be that of those before."""
    try:
        scan = read_scan(path, grid or REFERENCE)
    except ScanError as error:
        raise ValueError(f"{path}: {error}") from error
    own = Grid.of(scan.volume.shape, scan.affine)
    if grid is not None and not grid.is_same(own.shape, own.matrix):
        raise ValueError(f"{path} has {own}, but other training scans have {grid}; bring all onto one grid.")
    return scan.volume, grid or own


def check_profile(profile: Mapping[str, Any]) -> None:
    """Refuse a damaged profile.

    Args:
        profile: Profile, as a card holds it.

    Raises:
        ValueError: names the entries that are damaged.
    """
    measures, differences = profile.get("measures", {}), profile.get("sides")
    if not isinstance(measures, Mapping):
        raise ValueError("The card's profile of the training scans holds no measures; restore the card.")
    wrong = [str(name) for name, row in measures.items() if not _are_numbers(row, len(LEVELS))]
    pipelines = profile.get("pipelines", {})
    if not isinstance(pipelines, Mapping) or not all(type(count) is int for count in pipelines.values()):
        wrong.append("pipelines")
    if differences and not (LEFT_RIGHT in measures and _are_numbers(differences, math.prod(SIDES) // 2)):
        wrong.append("sides")
    if (cells := profile.get("pattern")) and not (
        MEAN in measures and isinstance(cells, list) and _are_numbers(cells, min(len(cells), math.prod(CELLS)))
    ):
        wrong.append("pattern")
    wrong += _wrong_channels(profile)
    if wrong:
        raise ValueError(f"The card's profile of the training scans is damaged ({', '.join(wrong)}); restore the card.")


def _wrong_channels(profile: Mapping[str, Any]) -> list[str]:
    """`channels`, where a profile has others than its modality says."""
    wanted = [channel.card for channel in modality_of_profile(profile).each[1:]] if profile else []
    held = profile.get("channels", [])
    fits = isinstance(held, list) and [own.get("modality") if isinstance(own, dict) else own for own in held] == wanted
    counted = fits and all(type(own.get("missing")) is int for own in held)
    return [] if counted else ["channels"]


def modality_of_profile(profile: Mapping[str, Any]) -> Modality:
    """The modality of the maps that a profile was measured on."""
    return modality_of(profile.get("modality"), "The card")


def _are_numbers(row: Any, count: int) -> bool:
    plain = isinstance(row, list) and all(type(value) in (int, float) for value in row)
    return plain and len(row) == count and all(abs(value) < 1e30 for value in row)  # also no NaN
