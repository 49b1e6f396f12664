"""Several grids in a cohort: moved onto one after loading, reported by the audit, refused where left may be right."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged

from bundle.cohort.channels import require_same_grids
from bundle.cohort.finding import Finding
from bundle.cohort.one_grid import grid_fault, usual_grid
from bundle.metrics.associations import cramers_v
from bundle.networks.cards import read_card
from bundle.networks.names import SCRATCH
from bundle.scans.grid import Grid
from bundle.scans.placement import (
    difference,
    grids_of,
    grouped,
    in_words,
    is_only_moved,
    regridded,
    require_one_grid,
    told,
)

NOTABLE_P = 0.05
logger = logging.getLogger(__name__)


def preprocessed(record: Mapping[str, Any], preprocessing: Callable[..., Any], target: Grid | None) -> Any:
    """A record's preprocessed image, from its own grid or moved onto another one after it was loaded.

    Args:
        record: Record with the path `image`.
        preprocessing: Record → record.
        target: The grid; None: the image stays where it lies.

    Raises:
        ValueError: the preprocessing does not load the image in a step of its own.
    """
    if target is None:
        return preprocessing(dict(record))["image"]
    if record.get("channels"):
        raise ValueError("its channels lie on another grid than most scans; preprocess all scans onto one grid")
    steps = preprocessing.transforms if isinstance(preprocessing, Compose) else ()
    loaded = [number for number, step in enumerate(steps) if isinstance(step, LoadImaged)]
    if not loaded:
        raise ValueError("the image lies on another grid, and the preprocessing has no LoadImaged to take its place")
    image = MetaTensor(torch.as_tensor(regridded(record["image"], target)), affine=torch.as_tensor(target.matrix))
    return preprocessing({**record, "image": image}, start=loaded[-1] + 1)["image"]


def targets_of(records: Sequence[Mapping[str, Any]], workers: int = 8) -> list[Grid | None]:
    """Onto which grid each image has to be brought, so that all lie on that of most; None for those that do.

    Args:
        records: Records of a datalist.
        workers: Threads that read headers.

    Raises:
        ValueError: an image has voxels of another size than most, or is turned.
    """
    grids = grids_of(records, workers)
    usual = usual_grid(grids)
    targets: list[Grid | None] = []
    for record, grid in zip(records, grids, strict=True):
        away = grid is not None and usual is not None and not usual.is_same(grid.shape, grid.matrix)
        if grid is not None and usual is not None and away and not is_only_moved(grid, usual):
            raise ValueError(f"{record['image']}: {grid_fault(grid, usual)}.")
        targets.append(usual if away else None)
    if moved := sum(target is not None for target in targets):
        logger.warning(f"{moved} of {len(records)} image(s) lie elsewhere than most and are brought onto their grid.")
    return targets


def grid_findings(sections: Mapping[str, Sequence[Mapping[str, Any]]], workers: int) -> Iterator[Finding]:
    """Images that lie on several grids; an error where patients and controls do not lie on the same.

    Args:
        sections: Sections of `cohort.load_sections`.
        workers: Threads that read headers.
    """
    records = [record for found in sections.values() for record in found]
    groups = grouped(grids_of(records, workers))
    if len(groups) < 2:
        return
    what = f"Images lie on {len(groups)} grids, and a network can recognise the grid: {told(groups, records)}."
    advice = "Bring all onto one grid (`cohort --regrid FOLDER`, or `cache`), or preprocess them in one way."
    rows = [(number, row) for number, members in enumerate(groups.values()) for row in members]
    known = [(number, int(records[row]["label"])) for number, row in rows if records[row]["label"] in (0, 1)]
    codes, labels = [number for number, _ in known], [label for _, label in known]
    if len(set(labels)) == 2 and len(set(codes)) > 1 and _differ(codes, labels):
        fact = "Patients and controls do not lie on the same grids, so that the grid tells the diagnosis."
        yield Finding("error", "grids", f"{fact} {what} {advice}", p=cramers_v(codes, labels)[1])
        return
    yield Finding("warning", "grids", f"{what} {advice}")


def _differ(codes: Sequence[int], labels: Sequence[int]) -> bool:
    by_label = [{code for code, label in zip(codes, labels, strict=True) if label == wanted} for wanted in (0, 1)]
    return not (by_label[0] & by_label[1]) or cramers_v(codes, labels)[1] < NOTABLE_P


def grid_of_cohort(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The grid of a cohort for a card; None where its images are arrays, or those of a cache.

    Args:
        records: Records of a training, on one grid.
    """
    grids = grids_of(records[:1])
    return grids[0].card if grids and grids[0] is not None else None


def require_grid(records: Sequence[Mapping[str, Any]], what: str, weights: str | Path = SCRATCH) -> None:
    """Refuse images on several grids, or on another one than those that weights were trained on: left may be right.

    Headers alone are read.

    Args:
        records: Records that are to be used together.
        what: Words that say whose they are, for the message.
        weights: Weights whose card says the grid, if it does; `scratch`: of nobody.

    Raises:
        ValueError: describes the grids, and how to bring the images onto one.
    """
    require_one_grid(records, what)
    require_same_grids(records)
    card = {} if str(weights) == SCRATCH else read_card(weights)
    stated = card.get("grid") or card.get("contract", {}).get("grid")
    found = grids_of(records[:1])
    if not stated or not found or found[0] is None:
        return
    trained = Grid.from_card(stated)
    if not trained.is_same(found[0].shape, found[0].matrix):
        raise ValueError(
            f"The images of {what} lie on another grid than those that {weights} was trained on: "
            f"{difference(found[0], trained, 'the training images')}. Bring them onto {in_words(trained)} "
            "(`cohort --regrid FOLDER`)."
        )
