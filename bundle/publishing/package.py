"""The bundle as one zip file in the Model Zoo's layout."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path

from bundle.files import read_json, replacing

NAME = "brain_mri_yaware_classification"
PARTS = ("LICENSE", "bundle", "configs", "docs", "models", "requirements.txt", "constraints.txt")
LEFT_OUT = {"__pycache__", "made", "tutorials", "site", "_static", "conf.py"}  # by imports, and of the site of the docs
LARGEST = 25 * 2**20  # bytes of a file that the zoo takes
logger = logging.getLogger(__name__)


def package(root: Path, output: Path) -> Path:
    """Write `NAME_v<version>.zip`: what runs, its documentation and its weights, without tests and what runs wrote.

    Args:
        root: Root folder of the bundle.
        output: Folder of the file.

    Returns:
        The file.

    Raises:
        ValueError: when a part or the classifier is missing, or a file is larger than the zoo takes.
    """
    version = read_json(root / "configs" / "metadata.json")["version"]
    require_parts(root, "models/model.pt")
    files = sorted(path for part in PARTS for path in files_of(root / part))
    large = [f"{path} ({path.stat().st_size / 2**20:.0f} MiB)" for path in files if path.stat().st_size > LARGEST]
    if large:
        raise ValueError(
            f"The zoo takes files of at most 25 MiB; too large: {', '.join(large)}. `train --storage float16` halves "
            "the weights; `publish --no-zip` leaves the zoo's file out."
        )
    target = output / f"{NAME}_v{version}.zip"
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, Path(NAME) / path.relative_to(root))
    logger.info(f"{len(files)} files, {target.stat().st_size / 2**20:.0f} MiB: {target}")
    return target


def require_parts(root: Path, *more: str) -> None:
    """Refuse a folder that lacks a part of the bundle.

    Args:
        root: Root folder of the bundle.
        more: Files that are wanted beside `PARTS`.

    Raises:
        ValueError: names what is missing.
    """
    missing = [part for part in (*PARTS, *more) if not (root / part).exists()]
    if missing:
        raise ValueError(f"{root} has no {', '.join(missing)}; run `make weights`, and package from the bundle's root.")


def files_of(part: Path) -> list[Path]:
    """The files of a part that are uploaded: none that a run or Python wrote there.

    Args:
        part: A file or a folder of the bundle.
    """
    if part.is_file():
        return [part]
    kept = (path for path in part.rglob("*") if path.is_file() and not LEFT_OUT & set(path.relative_to(part).parts))
    return [path for path in kept if not path.name.startswith((".", "phantom_", "sg_"))]
