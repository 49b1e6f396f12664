"""Images that may be a T1w scan: by their names and headers alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from bundle.preparation.archives import Item
from bundle.preparation.drafts import Draft
from bundle.preparation.made import made_of, own_record
from bundle.preparation.outcome import Made
from bundle.scans.grid import KNOWN_GRIDS
from bundle.scans.made_by import EMBEDDED, UNKNOWN, pipeline_of
from bundle.scans.map_names import NOT_MODULATED, is_beside_map, scan_of, sources_of
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
        own: Maps that `prepare` wrote.
    """

    drafts: list[Draft] = field(default_factory=list)
    others: list[PurePosixPath] = field(default_factory=list)
    own: int = 0


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


def images_of(items: Sequence[Item], source: Path, known: Collection[Path] = (), again: bool = False) -> Images:
    """Sort the images of a source into heads, refusals and others.

    A scan whose map is there is left out, and its map taken.

    Args:
        items: Files that are images by their endings.
        source: Source, as the user gave it.
        known: Files that are left out.
        again: Leave the map out, and take the scan.
    """
    images, rest = Images(), []
    names = {item.inside for item in items}
    scans = {(name.parent, scan_of(name)) for name in names if scan_of(name)}
    folders = {name.parent for name in names if name.name == "orig.mgz"}
    pairs = {item.path.with_suffix("") for item in items if item.path.suffix.lower() == ".img"}
    for item in items:
        stem, inside = stem_of(item.inside.name), item.inside
        is_header = item.path.suffix.lower() == ".hdr" and item.path.with_suffix("") in pairs
        is_freesurfer = inside.parent in folders and inside.name != "orig.mgz"
        if is_header:
            continue
        if is_freesurfer or is_beside_map(inside, scans) or (_OTHER.search(stem) and not _is_map(inside)):
            images.others.append(inside)
        else:
            rest.append(item)
    _draw_up(rest, source, known, again, images)
    return images


def _draw_up(items: Sequence[Item], source: Path, known: Collection[Path], again: bool, images: Images) -> None:
    """Add what becomes of scans and of maps that are there."""
    own = {item.inside for item in items if scan_of(item.inside) and own_record(item.path)}
    maps = {item.inside for item in items if scan_of(item.inside) and not _is_unpacked(item)} - own
    sources = sources_of([item.inside for item in items], sorted(maps))
    left = {map_: scan for scan, map_ in sources.items()} if again else sources
    used = set(left.values())
    for item in items:
        inside = item.inside
        if item.path in known:
            continue
        if inside in own:
            images.own += 1
        elif inside not in left:
            is_map = inside in maps
            notes = (_of_two(is_map),) if inside in used else ()
            images.drafts.append(_draft(item, source, made_of(item.path) if is_map else None, notes))


def _is_unpacked(item: Item) -> bool:
    """Whether a file comes from an archive, where it has lost its name and the reports beside it."""
    return item.path.name != item.inside.name


def _of_two(is_map: bool) -> str:
    """What is said where a scan and its map are there."""
    if is_map:
        return "The T1w scan is there, too, and was not prepared again; `prepare --again` makes a map of it instead."
    return "A grey-matter map of this scan is there, too, and was not taken, because the scan was to be prepared again."


def _is_map(inside: PurePosixPath) -> bool:
    return bool(scan_of(inside) or NOT_MODULATED.search(stem_of(inside.name)))


def _draft(item: Item, source: Path, made: Made | None, notes: tuple[str, ...]) -> Draft:
    """The head that an image is, or why it is none."""
    scan = scan_of(item.inside)  # before whose name pipelines write `mwp1`
    participant, session = labels_of(str(item.inside.with_name(scan) if scan else item.inside))
    if made is not None:
        maker = "A pipeline that nothing names" if made.pipeline == UNKNOWN else made.by
        notes = (f"{maker} made this map; it was taken as it is, and no value was changed.", *notes, *made.remarks)
        return Draft(_plain(scan), str(item.inside), source, "", item.path, None, participant, session, notes, made)
    reason = _name_fault(item.inside)
    if not reason:
        try:
            notes = (*notes, *_checked(item.path))
        except VolumeError as error:
            text = str(error).replace(str(item.path), "it")  # libraries quote paths, which may name a patient
            reason = text if text.endswith(".") else f"The file {text}."
        except OSError:
            reason = "The file cannot be opened: it may be a link to a file that was not fetched. Fetch it, or copy it."
    return Draft(_wanted(item.inside), str(item.inside), source, reason, item.path, None, participant, session, notes)


def _wanted(inside: PurePosixPath) -> str:
    """The name of a head: BIDS entities without the suffix, the file's name, or of FreeSurfer the subject's folder."""
    if inside.name == "orig.mgz" and len(inside.parts) > 2:
        return inside.parts[-3]
    return _plain(stem_of(inside.name))


def _plain(stem: str) -> str:
    return stem.removesuffix("_T1w") if stem.startswith("sub-") else stem


def _name_fault(inside: PurePosixPath) -> str:
    """Why an image is no raw T1w scan, by its name alone."""
    stem = stem_of(inside.name)
    if scan_of(inside):
        return "It is a grey-matter map in an archive; unpack it, and give the folder, so that its report is found."
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
