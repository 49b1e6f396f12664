"""Names that pipelines give to grey-matter maps, and to what they write beside them."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import PurePath

from bundle.scans.names import BIDS_ID, stem_of

_NIFTI = (".nii", ".nii.gz")
# What T1Prep calls a modulated map in its BIDS naming; fMRIPrep's `label-GM_probseg` is not modulated.
_T1PREP = re.compile(r"^(?P<scan>.+)_space-[A-Za-z0-9]+-nonlinear-modulated(?:_desc-[A-Za-z0-9]+)?_label-GM_probseg$")
# What `prepare` calls its maps as BIDS derivatives.
_OURS = re.compile(r"^(?P<scan>.+?)_space-[A-Za-z0-9]+_label-GM_desc-modulated_probseg$")
_DEEPMRIPREP = re.compile(r"^(?P<scan>sub-[A-Za-z0-9]+(?:_[A-Za-z0-9-]+)*)_mwp1$")
# What CAT12, CAT26, T1Prep and deepmriprep put before the name of a scan.
_PREFIX = re.compile(r"^(s\d+)?(m0?w|w|r)?(p\d|m|mi|a0|j_|y_|iy_|wj_)$")
NOT_MODULATED = re.compile(r"_label-GM(?:_desc-[A-Za-z0-9]+)?_probseg$")


def scan_of(inside: PurePath) -> str:
    """Name of the scan that a modulated grey-matter map was made from; empty where the name is of no such map.

    Args:
        inside: Name of the file with its folders.

    Example:
        >>> scan_of(PurePath("mri/mwp1sub-01_T1w.nii"))
        'sub-01_T1w'
        >>> scan_of(PurePath("mri/wm01.nii"))
        ''
    """
    stem = stem_of(inside.name)
    if not inside.name.lower().endswith(_NIFTI):
        return ""
    if stem.startswith("mwp1") and len(stem) > len("mwp1"):
        return stem.removeprefix("mwp1").lstrip("_")
    if inside.parent.name == "mwp1":  # one of deepmriprep's orders of folders
        return stem
    found = _T1PREP.match(stem) or _OURS.match(stem) or _DEEPMRIPREP.match(stem)
    return found["scan"] if found else ""


def named_after(path: PurePath) -> str:
    """The pipeline that alone gives maps such a name; empty where several do.

    Args:
        path: Path of the map.

    Example:
        >>> named_after(PurePath("mwp1/sub-01.nii.gz")), named_after(PurePath("mri/mwp1sub-01.nii"))
        ('deepmriprep', '')
    """
    stem = stem_of(path.name)
    if _T1PREP.match(stem):
        return "T1Prep"
    is_own = _DEEPMRIPREP.match(stem) or (path.parent.name == "mwp1" and not stem.startswith("mwp1"))
    return "deepmriprep" if is_own and path.name.lower().endswith(_NIFTI) else ""


def is_beside_map(inside: PurePath, scans: Collection[tuple[PurePath, str]]) -> bool:
    """Whether an image is another output of the pipeline that made a map in the same folder.

    Args:
        inside: Name of the file with its folders.
        scans: Folder and name of the scan of each map.
    """
    stem, folder = stem_of(inside.name), inside.parent
    return not scan_of(inside) and any(
        place == folder and stem != scan and stem.endswith(scan) and _PREFIX.match(stem.removesuffix(scan))
        for place, scan in scans
    )


def sources_of(images: Collection[PurePath], maps: Collection[PurePath]) -> dict[PurePath, PurePath]:
    """Which images are the scans that maps were made from, by their names.

    A scan lies in the folder of its map or one above it, or its name says the participant and is there once.

    Args:
        images: Images that may be scans, of one place.
        maps: Names of modulated maps.

    Returns:
        Scan → map; of several maps of a scan the first.

    Example:
        >>> found = sources_of([PurePath("a/T1.nii"), PurePath("b/T1.nii")], [PurePath("a/mri/mwp1T1.nii")])
        >>> {str(scan): str(map_) for scan, map_ in found.items()}
        {'a/T1.nii': 'a/mri/mwp1T1.nii'}
    """
    scans: dict[str, list[PurePath]] = {}
    for map_ in maps:
        scans.setdefault(scan_of(map_), []).append(map_)
    alike: dict[str, list[PurePath]] = {}
    for image in images:
        if not scan_of(image):
            stem = stem_of(image.name)  # deepmriprep leaves the suffix out
            wanted = stem if stem in scans else stem.removesuffix("_T1w")
            alike.setdefault(wanted, []).append(image)
    found = {}
    for stem in scans.keys() & alike.keys():
        for image in alike[stem]:
            near = [map_ for map_ in scans[stem] if image.parent in _folders(map_)]
            certain = len(alike[stem]) == len(scans[stem]) == 1 and BIDS_ID.match(stem) is not None
            if near or certain:
                found[image] = (near or scans[stem])[0]
    return found


def _folders(map_: PurePath) -> tuple[PurePath, ...]:
    """Where the scan of a map lies: beside it, or above a folder that pipelines make for their maps."""
    own = map_.parent
    made = own.name in ("mri", "mwp1") or own.name == scan_of(map_)
    return (own, own.parent) if made else (own,)
