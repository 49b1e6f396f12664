"""The bundle as one zip file in the Model Zoo's layout."""

from __future__ import annotations

import json
import logging
import zipfile
from pathlib import Path

from bundle.files import replacing

NAME = "brain_mri_yaware_classification"
PARTS = ("LICENSE", "bundle", "configs", "docs", "models", "requirements.txt", "constraints.txt")
LARGEST = 25 * 2**20  # bytes of a file that the zoo takes
logger = logging.getLogger(__name__)


def package(root: Path, output: Path) -> Path:
    """Write `NAME_v<version>.zip`: what runs, its documentation and its weights, without tests and what runs wrote.

    Args:
        root: of the bundle.
        output: folder of the file.

    Returns:
        The file.

    Raises:
        ValueError: when a part or the classifier is missing, or a file is larger than the zoo takes.
    """
    version = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"]
    missing = [part for part in (*PARTS, "models/model.pt") if not (root / part).exists()]
    if missing:
        raise ValueError(f"{root} has no {', '.join(missing)}; run `make weights`, and package from the bundle's root.")
    files = sorted(path for part in PARTS for path in _files(root / part))
    large = [f"{path} ({path.stat().st_size / 2**20:.0f} MiB)" for path in files if path.stat().st_size > LARGEST]
    if large:
        raise ValueError(f"The zoo takes files of at most 25 MiB; too large: {', '.join(large)}.")
    target = output / f"{NAME}_v{version}.zip"
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, Path(NAME) / path.relative_to(root))
    logger.info(f"{len(files)} files, {target.stat().st_size / 2**20:.0f} MiB: {target}")
    return target


def _files(part: Path) -> list[Path]:
    if part.is_file():
        return [part]
    kept = (path for path in part.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return [path for path in kept if not path.name.startswith((".", "phantom_"))]
