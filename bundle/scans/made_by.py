"""Which pipeline made a map: what the files beside it say, or else its header or its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from bundle.files import read_json
from bundle.scans.map_names import named_after, scan_of
from bundle.scans.names import stem_of
from bundle.scans.nifti import PHANTOM, description
from bundle.scans.reports import ReportError, report_of

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
        path: Path of the map. A file of the same name that ends in `.json` and has a key `pipeline` with `name` and
            `version`, as `prepare` writes it, comes first; then the report that CAT12, CAT26, T1Prep or deepmriprep
            write of a scan; then the description in the NIfTI header, and names that one pipeline alone gives.

    Returns:
        Name and version, such as `ants 1.0`; the name alone where no version is known; `phantom` for the embedded
        cohort; `unknown` where neither file nor header says it.
    """
    file = Path(path)
    stated = _stated(file.with_name(f"{stem_of(file.name)}.json")) or _reported(file)
    return stated or _worded(description(file)) or named_after(file) or UNKNOWN


def is_same_pipeline(first: str, second: str) -> bool:
    """Whether two answers of `pipeline_of` mean one pipeline: the same name and, where both say it, the same version.

    Of a version its first two numbers count: later ones, and revisions, mend errors.

    Args:
        first: Name, or name and version.
        second: Likewise.

    Example:
        >>> is_same_pipeline("CAT12 12.9 2577", "CAT12"), is_same_pipeline("CAT12 12.8.2", "CAT12 12.9")
        (True, False)
    """
    (name, version), (other, others) = (_parts(text) for text in (first, second))
    return name == other and (not version or not others or version == others)


def _parts(text: str) -> tuple[str, str]:
    """Name, and the first two numbers of the version."""
    name, _, version = text.partition(" ")
    return name, ".".join(re.findall(r"\d+", version.partition(" ")[0])[:2])


def _reported(path: Path) -> str:
    """What the report of a map says; empty where there is none, or none that can be read."""
    scan = scan_of(path)
    try:
        report = report_of(path, scan) if scan else None
    except ReportError:
        return ""
    return f"{report.pipeline} {report.version}".strip() if report else ""


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
