"""Images that may be a T1w scan: by their names and headers alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from bundle.preparation.archives import Item
from bundle.preparation.drafts import Draft
from bundle.preparation.map_names import NOT_MODULATED, is_beside_map, scan_of
from bundle.scans.grid import KNOWN_GRIDS
from bundle.scans.made_by import EMBEDDED, UNKNOWN, pipeline_of
from bundle.scans.names import stem_of
from bundle.scans.nifti import UnreadableError, VolumeError, read_header, stored_header
from bundle.scans.scan import require_sides

ENDINGS = (".nii", ".nii.gz", ".mgh", ".mgz", ".img", ".hdr")
_ENTITY = re.compile(r"(?<![A-Za-z0-9])(sub|ses)-([A-Za-z0-9]+)")
# Last words of names that say what a scan is, and that it is no T1w scan; those of BIDS, and what people write.
_OTHER = re.compile(
    r"(?:^|_)(t2w?|t2star|t2starw|pd|pdw|pdt2|inplanet[12]|flair|flash|megre|mese|mp2rage|unit1|t1map|t2map|r1map|angio|"
    r"bold|cbv|sbref|dwi|adc|fa|md|swi|phase|phase[12]|phasediff|magnitude[12]?|fieldmap|epi|asl|m0scan|asllabeling|"
    r"tb1.*|rb1.*|pet|ct|mask|brainmask|dseg|probseg|aseg|seg|label|labels|defacemask|meg|eeg)$",
    re.IGNORECASE,
)
_WARPED = re.compile(r"_space-(?!T1w|orig|native|scanner)[A-Za-z0-9]+", re.IGNORECASE)
_GIVE = "give it to `predict`"


@dataclass
class Images:
    """The images of one source.

    Attributes:
        drafts: Heads and refusals.
        others: Names of images that are no T1w scan by their names.
        made: Names of scans whose maps are there.
    """

    drafts: list[Draft] = field(default_factory=list)
    others: list[PurePosixPath] = field(default_factory=list)
    made: int = 0


def is_image(inside: PurePosixPath) -> bool:
    """Whether a file is an image, by its ending."""
    return inside.name.lower().endswith(ENDINGS)


def labels_of(text: str) -> tuple[str, str]:
    """Participant and session of a BIDS name, with `sub-` and `ses-`; empty where it has none.

    Example:
        >>> labels_of("sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz")
        ('sub-01', 'ses-2')
    """
    found = {kind: f"{kind}-{label}" for kind, label in _ENTITY.findall(text)}
    return found.get("sub", ""), found.get("ses", "")


def images_of(items: Sequence[Item], source: Path) -> Images:
    """Sort the images of a source into heads, refusals and others.

    Args:
        items: Files that are images by their endings.
        source: As the user gave it.
    """
    maps = {(item.inside.parent, scan) for item in items if (scan := scan_of(item.inside))}
    names = {scan for _, scan in maps}
    folders = {item.inside.parent for item in items if item.inside.name == "orig.mgz"}
    pairs = {item.path.with_suffix("") for item in items if item.path.suffix.lower() == ".img"}
    images = Images(made=len(maps))
    for item in items:
        stem = stem_of(item.inside.name)
        is_header = item.path.suffix.lower() == ".hdr" and item.path.with_suffix("") in pairs
        is_freesurfer = item.inside.parent in folders and item.inside.name != "orig.mgz"
        if is_header:
            continue
        if is_freesurfer or is_beside_map(item.inside, maps) or (_OTHER.search(stem) and not _is_map(item.inside)):
            images.others.append(item.inside)
        else:
            images.drafts.append(_draft(item, source, stem in names))
    return images


def _is_map(inside: PurePosixPath) -> bool:
    return bool(scan_of(inside) or NOT_MODULATED.search(stem_of(inside.name)))


def _draft(item: Item, source: Path, has_map: bool) -> Draft:
    """The head that an image is, or why it is none."""
    participant, session = labels_of(str(item.inside))
    reason = _name_fault(item.inside)
    notes: tuple[str, ...] = ()
    if not reason:
        try:
            notes = _checked(item.path)
        except VolumeError as error:
            text = str(error).replace(str(item.path), "it")  # libraries quote paths, which may name a patient
            reason = text if text.endswith(".") else f"The file {text}."
        except OSError:
            reason = "The file cannot be opened: it may be a link to a file that was not fetched. Fetch it, or copy it."
    if has_map:
        notes += ("A grey-matter map of this scan lies beside it: `predict` takes the map as it is.",)
    return Draft(_wanted(item.inside), str(item.inside), source, reason, item.path, None, participant, session, notes)


def _wanted(inside: PurePosixPath) -> str:
    """The name of a head: BIDS entities without the suffix, the file's name, or of FreeSurfer the subject's folder."""
    if inside.name == "orig.mgz" and len(inside.parts) > 2:
        return inside.parts[-3]
    stem = stem_of(inside.name)
    return re.sub(r"_T1w$", "", stem) if stem.startswith("sub-") else stem


def _name_fault(inside: PurePosixPath) -> str:
    """Why an image is no raw T1w scan, by its name alone."""
    stem = stem_of(inside.name)
    if scan_of(inside):
        return f"It is already a grey-matter map; {_GIVE}."
    if NOT_MODULATED.search(stem):
        return (
            "It is fMRIPrep's map of grey matter, which is not modulated: its values do not hold the volumes that "
            "models read. Give the T1w scan itself, or CAT12's mwp1 map."
        )
    if _WARPED.search(stem):
        return "It was resampled to a template, so that its volumes are lost; give the T1w scan in its own space."
    if "part-phase" in stem:
        return "It is a phase image, expected the magnitude of a T1w scan."
    return ""


def _checked(path: Path) -> tuple[str, ...]:
    """Remarks on an image whose header is that of a 3D scan with certain sides.

    Raises:
        VolumeError: It is not.
    """
    if path.suffix.lower() == ".hdr":
        raise UnreadableError("is the header of a pair, and its .img file is missing")
    path.open("rb").close()  # an error of its own, before readers quote the path
    shape, affine = read_header(path)
    volumes = int(np.prod(shape[3:]))
    if len(shape) < 3 or min(shape[:3]) < 2:
        raise VolumeError(f"has shape {'×'.join(map(str, shape))}, expected a 3D scan")
    if volumes > 1:
        raise VolumeError(f"holds {volumes} volumes (4D), expected one T1w scan; give one volume")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise VolumeError("has an affine that is not invertible, so that voxels have no size; mend the header")
    if any(grid.is_same(shape[:3], affine) for grid in KNOWN_GRIDS):
        raise VolumeError(f"lies on the grid of prepared maps, so it is no scan of its own; if it is a map, {_GIVE}")
    if (pipeline := pipeline_of(path)) not in (UNKNOWN, EMBEDDED):
        raise VolumeError(f"is a map that {pipeline} made; {_GIVE}")
    header = stored_header(path)
    return () if header is None else require_sides(header)
