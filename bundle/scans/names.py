"""Names of files for scans: of safe characters, each different, and the same every time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

IMAGES = (".nii.gz", ".nii", ".mgz", ".mgh", ".img", ".hdr", ".npy")  # endings of images
BIDS_ID = re.compile(r"sub-[A-Za-z0-9]+(?:_ses-[A-Za-z0-9]+)?")
LONGEST = 60  # characters, without the digest


def safe_names(wanted: Sequence[str], places: Sequence[str]) -> list[str]:
    """A file name of safe characters for each scan; where two would be the same, a digest tells them apart.

    Args:
        wanted: How each scan would be called.
        places: Places where each lies, such as its path.

    Example:
        >>> safe_names(["sub-01", "sub-02"], ["a.nii", "b.nii"])
        ['sub-01', 'sub-02']
        >>> safe_names(["a b"], ["a b.nii"])
        ['a_b_582134c8']
    """
    names = [re.sub(r"[^A-Za-z0-9_-]", "_", name)[:LONGEST] or "scan" for name in wanted]
    lower = [name.lower() for name in names]
    given = []
    for number, (name, before, place) in enumerate(zip(names, wanted, places, strict=True)):
        digest = hashlib.sha256(f"{place} {number}".encode(errors="surrogateescape")).hexdigest()[:8]
        given.append(name if lower.count(name.lower()) == 1 and name == before else f"{name}_{digest}")
    return given


def stem_of(name: str) -> str:
    """The name of an image's file without its ending.

    Example:
        >>> stem_of("mwp1sub-01.v2.nii.gz")
        'mwp1sub-01.v2'
    """
    ending = next((ending for ending in IMAGES if name.lower().endswith(ending)), "")
    return name[: -len(ending)] if ending else name
