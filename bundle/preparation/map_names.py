"""Names that pipelines give to grey-matter maps, and to what they write beside them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from bundle.scans.names import stem_of

_NIFTI = (".nii", ".nii.gz")
# What T1Prep calls a modulated map in its BIDS naming; fMRIPrep's `label-GM_probseg` is not modulated.
_T1PREP = re.compile(r"^(?P<scan>.+)_space-[A-Za-z0-9]+-nonlinear-modulated(?:_desc-[A-Za-z0-9]+)?_label-GM_probseg$")
# What `prepare` calls its maps as BIDS derivatives.
_OURS = re.compile(r"^(?P<scan>.+?)_space-[A-Za-z0-9]+_label-GM_desc-modulated_probseg$")
_DEEPMRIPREP = re.compile(r"^(?P<scan>sub-[A-Za-z0-9]+(?:_[A-Za-z0-9-]+)*)_mwp1$")
# What CAT12, CAT26, T1Prep and deepmriprep put before the name of a scan.
_PREFIX = re.compile(r"^(s\d+)?(m0?w|w|r)?(p\d|m|mi|a0|j_|y_|iy_|wj_)$")
NOT_MODULATED = re.compile(r"_label-GM(?:_desc-[A-Za-z0-9]+)?_probseg$")


def scan_of(inside: PurePosixPath) -> str:
    """Name of the scan that a modulated grey-matter map was made from; empty where the name is of no such map.

    Args:
        inside: Name of the file with its folders.

    Example:
        >>> scan_of(PurePosixPath("mri/mwp1sub-01_T1w.nii"))
        'sub-01_T1w'
        >>> scan_of(PurePosixPath("mri/wm01.nii"))
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


def is_beside_map(inside: PurePosixPath, scans: set[tuple[PurePosixPath, str]]) -> bool:
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
