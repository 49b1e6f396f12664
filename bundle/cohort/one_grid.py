"""The images of a table on one grid: those that lie elsewhere are refused, or moved."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bundle.cohort.participants import Faults
from bundle.scans.grid import KNOWN_GRIDS, Grid
from bundle.scans.placement import difference, grids_of, grouped, in_words, is_only_moved, write_regridded

logger = logging.getLogger(__name__)


def usual_grid(grids: Sequence[Grid | None], shape: Sequence[int] | None = None) -> Grid | None:
    """The grid that a cohort is to lie on: of most images, or of most that have the expected shape.

    Args:
        grids: Grids of `grids_of`.
        shape: Expected voxels along each axis; a known grid of this shape is taken where no image has it.
    """
    wanted = None if shape is None else tuple(shape)
    groups = [grid for grid in grouped(grids) if wanted is None or grid.shape == wanted]
    return next(iter([*groups, *(grid for grid in KNOWN_GRIDS if grid.shape == wanted)]), None)


def on_one_grid(
    paths: Mapping[int, str], shape: Sequence[int] | None, folder: Path | None, workers: int
) -> tuple[dict[int, str], Faults]:
    """Images of a table on one grid: those elsewhere are refused, or moved into a folder.

    Args:
        paths: Row → image that can be read.
        shape: Expected voxels along each axis.
        folder: Receives images that were moved; None: images elsewhere are faults.
        workers: Threads.

    Returns:
        Row → image on the grid, and what is wrong with the others.
    """
    rows, images = list(paths), [{"image": path} for path in paths.values()]
    grids = dict(zip(rows, grids_of(images, workers), strict=True))
    usual = usual_grid(list(grids.values()), shape)
    _say_assumed(paths, grids)
    if usual is None:
        return dict(paths), []
    away = {row: grid for row, grid in grids.items() if grid and not usual.is_same(grid.shape, grid.matrix)}
    fixed = [row for row, grid in away.items() if folder is None or not is_only_moved(grid, usual)]
    faults = [(row, grid_fault(away[row], usual)) for row in fixed]
    moved = {row: _target(Path(paths[row]), folder) for row in away if folder is not None and row not in fixed}
    with ThreadPoolExecutor(max(1, workers)) as pool:
        list(pool.map(lambda row: write_regridded(paths[row], usual, moved[row]), moved))
    if moved:
        logger.warning(f"{len(moved)} image(s) were brought onto {in_words(usual)}, and lie in {folder}.")
    return {**paths, **{row: str(path) for row, path in moved.items()}}, faults


def _say_assumed(paths: Mapping[int, str], grids: Mapping[int, Grid | None]) -> None:
    """Say where arrays are taken to lie, which have no affine."""
    arrays = [grids[row] for row, path in paths.items() if path.endswith(".npy")]
    for grid, rows in grouped(arrays).items():
        logger.info(f"{len(rows)} array(s) (.npy) have no affine and are taken to be {in_words(grid)}.")
    if unplaced := arrays.count(None):
        logger.info(f"{unplaced} array(s) (.npy) have no affine: where they lie, and what is left there, is not known.")


def grid_fault(grid: Grid, usual: Grid) -> str:
    """What is wrong with an image that lies elsewhere, and what to do.

    Args:
        grid: Grid of the image.
        usual: Grid of most.
    """
    advice = (
        "bring it there with --regrid FOLDER"
        if is_only_moved(grid, usual)
        else "its voxels have another size or are turned, so preprocess it as the others"
    )
    return f"the image lies on another grid than most: {difference(grid, usual)}; {advice}"


def _target(path: Path, folder: Path) -> Path:
    digest = hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:8]
    return folder / f"{path.name.split('.')[0]}_{digest}.nii.gz"
