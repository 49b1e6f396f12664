"""Which pipeline made a map: what the JSON beside it says, or else its header."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from bundle.files import read_json
from bundle.scans.names import stem_of
from bundle.scans.nifti import PHANTOM, description

UNKNOWN, EMBEDDED = "unknown", "phantom"
LARGEST = 1 << 20  # bytes of a JSON file that is read
# What pipelines write into the header of a modulated map, and whose words these are.
WORDINGS = {
    r"tissue map *\(Jac\. sc\. warped": "CAT12",  # CAT26 writes the same
    r"Jac\. sc\. warped tissue class": "SPM12",
}
_ODD = re.compile(r"[^A-Za-z0-9._+() -]")


def pipeline_of(path: str | Path) -> str:
    """Which pipeline made a map; of the map the header alone is read.

    Args:
        path: Of the map. A file of the same name that ends in `.json` and has a key `pipeline` with `name` and
            `version`, as `prepare` writes it, comes first; the description in the NIfTI header comes second.

    Returns:
        Name and version, such as `ants 1.0`; the name alone where no version is known; `phantom` for the embedded
        cohort; `unknown` where neither file nor header says it.
    """
    file = Path(path)
    return _stated(file.with_name(f"{stem_of(file.name)}.json")) or _worded(description(file)) or UNKNOWN


def _stated(beside: Path) -> str:
    """What the JSON file says; empty where it says nothing."""
    try:
        if not beside.is_file() or beside.stat().st_size > LARGEST:
            return ""
        content = read_json(beside)
    except (OSError, ValueError):
        return ""
    pipeline = content.get("pipeline") if isinstance(content, Mapping) else None
    if not isinstance(pipeline, Mapping) or not isinstance(pipeline.get("name"), str):
        return ""
    said = f"{pipeline['name']} {pipeline.get('version') or ''}"
    return _ODD.sub("", said).strip()[:60]


def _worded(said: str) -> str:
    """Whose words stand in a header; empty where nobody's are known."""
    if said == PHANTOM.decode():
        return EMBEDDED
    return next((name for wording, name in WORDINGS.items() if re.search(wording, said)), "")
