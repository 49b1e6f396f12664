"""Which image belongs to which row of a table, and what is wrong with an image file."""

from __future__ import annotations

import glob
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bundle.arrays import open_array
from bundle.images import MOST_VOXELS, VolumeError, open_image, refusing, require_limits

# BIDS writes these before an id in file names and, optionally, in tables.
BIDS_PREFIXES = {"participant_id": "sub-", "session_id": "ses-"}
_FIELD = re.compile(r"\{([^{}]*)\}")
_GLOB_TOKEN = re.compile(r"\*\*/|\*+|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)
Opened = tuple[tuple[int, ...], np.dtype, Callable[[], np.ndarray]]  # shape, type and what reads the values


def without_prefix(name: str, value: str) -> str:
    """Return an id without its BIDS prefix (`sub-`, `ses-`).

    Args:
        name: the field, `participant_id` or `session_id`; other fields have no prefix.
        value: the id as written.

    Example:
        >>> without_prefix("participant_id", "sub-02")
        '02'
    """
    return value.removeprefix(BIDS_PREFIXES.get(name, ""))


def pattern_fields(pattern: str) -> list[str]:
    """Return the names in braces of an image pattern, in order.

    Args:
        pattern: such as `"sub-{participant_id}/**/*gm*.npy"`.

    Example:
        >>> pattern_fields("sub-{participant_id}/ses-{session_id}/*.nii.gz")
        ['participant_id', 'session_id']
    """
    return _FIELD.findall(pattern)


def expand_pattern(pattern: str, row: Mapping[str, str]) -> str:
    """Write a row's values into the pattern, for people to read; no path is built from it.

    Args:
        pattern: the image pattern.
        row: value of every field of the pattern.

    Example:
        >>> expand_pattern("sub-{participant_id}_*.nii", {"participant_id": "sub-02"})
        'sub-02_*.nii'
    """

    def value(match: re.Match[str]) -> str:
        prefix = BIDS_PREFIXES.get(match[1], "")
        written = prefix and pattern[: match.start()].endswith(prefix)
        return without_prefix(match[1], row[match[1]]) if written else row[match[1]]

    return _FIELD.sub(value, pattern)


def find_images(
    pattern: str, root: Path, rows: Sequence[Mapping[str, str] | None]
) -> tuple[list[list[Path]], list[Path]]:
    """Assign the files below a folder to the rows whose ids stand in their paths.

    The folder is listed once, with a wildcard in place of every field, and each file found is then
    compared with the rows. Hence no path is ever built from an id, and an id cannot leave the
    folder. An id matches with and without its BIDS prefix. Beside a wildcard it must be whole:
    with `*{participant_id}*`, participant 1 does not get the scan of participant 11.

    Args:
        pattern: relative to `root` or absolute, with at least one field in braces; `*`, `?`, `[…]` and `**`
            are wildcards.
        root: folder that a relative pattern starts from.
        rows: per row the values of the fields, or None for a row that is not to be matched.

    Returns:
        The files of every row, and the files that belong to no row; sorted.
    """
    fields = pattern_fields(pattern)
    key = "participant_id" if "participant_id" in fields else fields[0]
    matchers = [None if row is None else re.compile(_row_regex(pattern, row)) for row in rows]
    index: defaultdict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        if row is not None:
            index[without_prefix(key, row[key])].append(number)
    found: list[list[Path]] = [[] for _ in rows]
    orphans = []
    lengths = {len(core) for core in index}
    for name in _listing(pattern, root):
        near = [n for core in _substrings(name, lengths) & index.keys() for n in index[core]]
        owners = [n for n in near if (regex := matchers[n]) and regex.fullmatch(name)]
        for number in owners:
            found[number].append(root / name)
        if not owners:
            orphans.append(root / name)
    return found, orphans


def _listing(pattern: str, root: Path) -> list[str]:
    # "?*" and not "*": a field beside a wildcard must not become the recursive "**".
    wild = _FIELD.sub("?*", pattern)
    # glob rather than Path.glob: it leaves out hidden files (macOS writes "._sub-01.nii").
    names = glob.iglob(wild, root_dir=root, recursive=True)  # noqa: PTH207
    return sorted({name for name in names if (root / name).is_file()})


def _substrings(name: str, lengths: Iterable[int]) -> set[str]:
    return {name[i : i + n] for n in lengths for i in range(len(name) - n + 1)}


def _row_regex(pattern: str, row: Mapping[str, str]) -> str:
    parts = _FIELD.split(pattern)  # literal, field, literal, field, …, literal
    regex = [_translate(parts[0])]
    for before, name, after in zip(parts[0::2], parts[1::2], parts[2::2], strict=False):
        core = without_prefix(name, row[name])
        prefix = f"(?:{BIDS_PREFIXES[name]})?" if name in BIDS_PREFIXES else ""
        if before.endswith(("*", "?", "]")) and core[:1].isalnum():
            prefix += f"(?<!{_kind(core, core[0])})"
        regex += [prefix, re.escape(core)]
        if after.startswith(("*", "?", "[")) and core[-1:].isalnum():
            regex.append(f"(?!{_kind(core, core[-1])})")
        regex.append(_translate(after))
    return "".join(regex)


def _kind(core: str, end: str) -> str:
    """Characters that would continue an id: mwp1 holds no participant 1, but mwp1ann holds ann."""
    if core.isdigit():
        return r"[^\W_]"
    return r"\d" if end.isdigit() else r"[^\W\d_]"


def _translate(literal: str) -> str:
    wild = {"**/": r"(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}

    def token(match: re.Match[str]) -> str:
        text = match[0]
        if len(text) > 1 and text[0] == "[":
            return "[" + text[1:-1].replace("\\", r"\\").replace("!", "^", text[1] == "!") + "]"
        return wild.get(text) or re.escape(text)

    return _GLOB_TOKEN.sub(token, literal)


def read_volume(path: Path, expected_shape: Sequence[int] | None = None) -> np.ndarray:
    """Read one 3D volume from a NIfTI or .npy file, with its scaling applied.

    Args:
        path: a `.nii`, `.nii.gz` or `.npy` file.
        expected_shape: voxels along each axis; None accepts every 3D shape.

    Shape:
        (D, H, W); stored axes of length one, as in OpenBHB's (1, 1, 121, 145, 121), are squeezed.

    Raises:
        VolumeError: the file is missing or damaged, or holds no 3D volume of the expected shape.
    """
    with refusing():
        return _values((_open_npy if path.suffix == ".npy" else _open_nifti)(path), expected_shape)


def values_of(image: Any) -> np.ndarray:
    """The values of an opened image, as of `read_volume`."""
    with refusing():
        return _values(_opened(image), None)


def _values(opened: Opened, expected_shape: Sequence[int] | None) -> np.ndarray:
    shape, dtype, read = opened
    squeezed = _squeezed(shape)
    _require_shape(shape, squeezed, expected_shape)
    if not np.issubdtype(dtype, np.integer) and not np.issubdtype(dtype, np.floating):
        raise VolumeError(f"holds values of type {dtype}, expected real numbers; convert it")
    return read().reshape(squeezed)


def within_limits(path: str) -> str:
    """Give a path back, unless its file announces more voxels than a brain has or than it can hold.

    For preprocessing, before MONAI's readers make room for what a header announces; only the header is read. Files
    that are neither NIfTI nor `.npy` are left to their readers.

    Args:
        path: the image file.

    Raises:
        VolumeError: with the path and what was found.
    """
    file = Path(path)
    try:
        with refusing():
            if file.name.endswith(".npy"):
                _require_shape(shape := open_array(file).shape, _squeezed(shape), None)
            elif file.name.endswith((".nii", ".nii.gz")):
                require_limits(file)
    except VolumeError as error:
        raise VolumeError(f"{path} {error}") from error
    return path


def volume_fault(path: Path, expected_shape: Sequence[int] | None = None) -> str | None:
    """Say in a sentence why a volume cannot be used, or None when it can.

    Args:
        path: the image file.
        expected_shape: voxels along each axis; None accepts every 3D shape.

    Example:
        >>> volume_fault(Path("nowhere.npy"))
        'the image file does not exist'
    """
    try:
        checked_volume(path, expected_shape)
    except VolumeError as error:
        return str(error)
    return None


def checked_volume(path: Path, expected_shape: Sequence[int] | None = None) -> np.ndarray:
    """Read one 3D volume that can be used.

    Args:
        path: the image file.
        expected_shape: voxels along each axis; None accepts every 3D shape.

    Shape:
        (D, H, W), as of `read_volume`.

    Raises:
        VolumeError: with the sentence of `volume_fault`.
    """
    if not path.is_file():
        raise VolumeError("the image file does not exist")
    try:
        volume = read_volume(path, expected_shape)
    except VolumeError as error:
        raise VolumeError(f"the image {error}") from error
    if fault := _content_fault(volume):
        raise VolumeError(fault)
    return volume


def volume_faults(
    paths: Sequence[Path], expected_shape: Sequence[int] | None = None, workers: int = 2
) -> list[str | None]:
    """Check many volumes in parallel, with a progress bar; one answer per path.

    Args:
        paths: the image files.
        expected_shape: voxels along each axis; None accepts every 3D shape.
        workers: number of threads (reading and decompression run outside Python's lock).
    """

    def check(path: Path) -> str | None:
        return volume_fault(path, expected_shape)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        bar = tqdm(pool.map(check, paths), "Checking images", len(paths), unit="image", disable=None)
        return list(bar)


def _open_npy(path: Path) -> Opened:
    array = open_array(path)
    return array.shape, array.dtype, lambda: np.asarray(array)


def _open_nifti(path: Path) -> Opened:
    if not path.name.endswith((".nii", ".nii.gz")):
        raise VolumeError(f"ends in '{path.suffix}', expected .nii, .nii.gz or .npy; convert it")
    return _opened(open_image(path))


def _opened(image: Any) -> Opened:
    return image.shape, image.get_data_dtype(), lambda: np.asarray(image.dataobj)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1) if len(shape) > 3 else shape


def _require_shape(stored: tuple[int, ...], squeezed: tuple[int, ...], expected: Sequence[int] | None) -> None:
    if len(squeezed) > 3:
        raise VolumeError(f"holds several volumes (shape {_size(stored)}); give one 3D map a scan")
    if len(squeezed) < 3 or math.prod(squeezed) == 0:
        raise VolumeError(f"has shape {_size(stored)}, expected a 3D map")
    if math.prod(squeezed) > MOST_VOXELS:
        raise VolumeError(f"has {_size(squeezed)} voxels, expected at most {MOST_VOXELS:,}")
    if expected is not None and squeezed != tuple(expected):
        raise VolumeError(
            f"has {_size(squeezed)} voxels, expected {_size(expected)}; resample it onto that grid "
            "by its affine (never pad or crop blindly) or change expected_shape"
        )


def _size(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _content_fault(volume: np.ndarray) -> str | None:
    bad = volume.size - int(np.count_nonzero(np.isfinite(volume)))
    if bad:
        return f"the image has {bad} NaN or infinite voxels of {volume.size}; preprocess it again"
    low = volume.min()
    if low == volume.max():
        return f"the image is constant (every voxel is {low:g}); preprocess it again"
    return None
