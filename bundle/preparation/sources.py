"""Every scan in what the user gives: files, folders, archives, BIDS datasets, DICOM; nothing is dropped in silence."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from bundle.preparation.archives import MOST_FILES, OTHER_ARCHIVES, ArchiveError, Item, is_archive, unpacked
from bundle.preparation.dicom_conversion import convert
from bundle.preparation.dicom_headers import ENDINGS as DICOM_ENDINGS
from bundle.preparation.dicom_headers import is_dicom
from bundle.preparation.dicom_heads import DicomFiles, dicom_of, whole_series
from bundle.preparation.drafts import Draft
from bundle.preparation.images import Images, images_of, is_image
from bundle.preparation.outcome import Head, Refusal
from bundle.preparation.privacy import mentions
from bundle.scans.names import safe_names, stem_of

SKIPPED = ("derivatives", "sourcedata", "code")  # folders of a BIDS dataset that hold no raw scans
_EXPECTED = "expected a T1w scan as NIfTI, MGH or DICOM, or a folder or an archive (.zip, .tar, .tar.gz) of these"
_HIDDEN = "The name of its folder or file holds the patient's name, an id or a date, so it is called {} here."


@dataclass
class _Found:
    """What one source holds, by kind."""

    images: list[Item] = field(default_factory=list)
    dicom: list[Item] = field(default_factory=list)
    others: list[PurePosixPath] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)  # refusals of whole files, such as archives
    remarks: list[str] = field(default_factory=list)


def find_heads(
    sources: Sequence[Path], work: Path, series: int | None = None, known: Collection[Path] = (), again: bool = False
) -> tuple[list[Head], list[Refusal]]:
    """Find the T1w scans in files, folders and archives, and maps that other pipelines have made of them.

    Args:
        sources: NIfTI, MGH or DICOM files, archives (`.zip`, `.tar`, `.tar.gz`, `.tgz`), BIDS datasets, or folders of
            any of these, searched to any depth.
        work: Folder for what is unpacked or converted; no name of a patient is in the names there.
        series: Number of the DICOM series to take where the rules leave a question; None leaves it to the rules.
        known: Files that are left out, such as maps that need no preparation.
        again: Take a scan whose map is there in place of the map.

    Returns:
        Heads, and what cannot be prepared, each with the reason.
    """
    drafts: list[Draft] = []
    seen = {path.resolve() for path in known}
    for number, source in enumerate(sources, start=1):
        found = _search(source, work, number)
        scans = [*found.images, *found.dicom]
        new = {item.path for item in _unseen(scans, seen)}
        old = {item.path for item in scans} - new
        found.dicom = [item for item in found.dicom if item.path in new]
        if new or not scans or found.drafts:
            drafts += _drafts(found, source, series, old, again)
    heads, refusals = [], []
    for name, draft in zip(_names(drafts), drafts, strict=True):
        finished = _finished(draft, name, work)
        if isinstance(finished, Head):
            heads.append(finished)
        else:
            refusals.append(finished)
    return heads, refusals


def _search(source: Path, work: Path, number: int) -> _Found:
    """Sort the files of one source by kind, unpacking its archives."""
    found = _Found()
    if not source.exists():
        found.drafts.append(Draft(stem_of(source.name), str(source), source, "It does not exist; check the path."))
    elif source.is_dir():
        items, found.remarks = _walked(source, work)
        if len(items) > MOST_FILES:
            reason = f"It holds more than {MOST_FILES:,} files; give a smaller folder."
            found.drafts.append(Draft(source.resolve().name, str(source), source, reason))
        else:
            _sort(items, found, source, work / "archives" / f"{number:03d}")
    elif not is_image(PurePosixPath(source.name)) and not is_archive(source.name) and is_dicom(source):
        found.dicom = whole_series(source)
        if len(found.dicom) > 1:
            found.remarks.append(f"One file was given; all {len(found.dicom)} files of its series were read.")
    else:
        item = Item(source, PurePosixPath(source.resolve().parent.name, source.name))
        _sort([item], found, source, work / "archives" / f"{number:03d}")
    return found


def _walked(folder: Path, work: Path) -> tuple[list[Item], list[str]]:
    """Files below a folder in the order of their names, without hidden ones, and remarks on what was not entered."""
    top, own = PurePosixPath(folder.resolve().name), work.resolve()
    is_bids = (folder / "dataset_description.json").exists() or any(folder.glob("sub-*/"))
    items: list[Item] = []
    left: Counter[str] = Counter()
    for place, folders, files in os.walk(folder):
        here = Path(place)
        skipped = [name for name in folders if is_bids and here == folder and name in SKIPPED]
        links = [name for name in folders if (here / name).is_symlink()]
        left.update([f"The folder {name}/ of the BIDS dataset was not searched." for name in skipped])
        left.update(["A link to a folder was not followed." for _ in links])
        entered = [name for name in sorted(folders) if name not in (*skipped, *links) and not name.startswith(".")]
        folders[:] = [name for name in entered if (here / name).resolve() != own and name != "__MACOSX"]
        inside = top / PurePosixPath(here.relative_to(folder).as_posix())
        items += [Item(here / name, inside / name) for name in sorted(files) if not name.startswith(".")]
        if len(items) > MOST_FILES:
            break
    return items, list(left)


def _sort(items: Sequence[Item], found: _Found, source: Path, folder: Path, depth: int = 0) -> None:
    """Put files where they belong; archives are unpacked, and those inside of archives refused."""
    for number, item in enumerate(items, start=1):
        name = item.inside.name.lower()
        if is_archive(name):
            _open_archive(item, found, source, folder / f"{number:05d}", depth)
        elif is_image(item.inside):
            found.images.append(item)
        elif is_dicom(item.path):
            found.dicom.append(item)
        elif name.endswith(DICOM_ENDINGS):
            reason = "The file is no DICOM file, although its name says so; copy it again."
            found.drafts.append(Draft("", str(item.inside), source, reason))
        elif name.endswith(OTHER_ARCHIVES):
            reason = "The archive is of a kind that is not read; unpack it, and give the folder."
            found.drafts.append(Draft("", str(item.inside), source, reason))
        else:
            found.others.append(item.inside)


def _open_archive(item: Item, found: _Found, source: Path, folder: Path, depth: int) -> None:
    if depth:
        reason = "The archive lies inside another archive; unpack it first, and give the folder."
        found.drafts.append(Draft("", str(item.inside), source, reason))
        return
    shutil.rmtree(folder, ignore_errors=True)
    stem = re.sub(r"\.(zip|tar|tar\.gz|tgz)$", "", item.inside.name, flags=re.IGNORECASE)
    try:
        items = unpacked(item.path, item.inside.with_name(stem), folder)
    except (ArchiveError, OSError) as error:
        said = str(error) if isinstance(error, ArchiveError) else "cannot be opened or unpacked"
        found.drafts.append(Draft("", str(item.inside), source, f"The archive {said}."))
        shutil.rmtree(folder, ignore_errors=True)
        return
    _sort(items, found, source, folder, depth + 1)


def _unseen(items: Iterable[Item], seen: set[Path]) -> list[Item]:
    """Files that no earlier source had."""
    new = [item for item in items if item.path.resolve() not in seen]
    seen.update(item.path.resolve() for item in new)
    return new


def _drafts(found: _Found, source: Path, series: int | None, old: Collection[Path], again: bool) -> list[Draft]:
    """Heads and refusals of one source, in an order that does not change; `old` files are those known before."""
    dicom = dicom_of(found.dicom, source, series) if found.dicom else DicomFiles((), frozenset(), 0)
    images = images_of(found.images, source, old, again)
    drafts = [*dicom.drafts, *images.drafts, *found.drafts]
    rest = _rest(found, images, dicom)
    heads = [number for number, draft in enumerate(drafts) if not draft.reason]
    if heads:  # said once
        first = drafts[heads[0]]
        more = (f"Its source also holds {rest}, which are no scans to prepare.",) if rest else ()
        drafts[heads[0]] = replace(first, remarks=(*first.remarks, *found.remarks, *more))
    elif not old and (not drafts or found.remarks):
        reason = f"It holds no scan that can be prepared: {rest or 'no file at all'}; {_EXPECTED}."
        drafts.append(Draft(stem_of(source.resolve().name), str(source), source, " ".join((reason, *found.remarks))))
    elif rest and drafts:
        drafts[0] = replace(drafts[0], reason=f"{drafts[0].reason} Its source also holds {rest}.")
    return [_shielded(draft, dicom.secrets) for draft in drafts]


def _rest(found: _Found, images: Images, dicom: DicomFiles) -> str:
    """Files that are no scans, counted by kind."""
    parts = []
    if images.own:
        parts.append(f"{images.own} maps that `prepare` wrote before (give them to `predict`)")
    if images.others:
        parts.append(f"{len(images.others)} images that are no raw T1w scan by their names")
    if dicom.lists:
        parts.append(f"{dicom.lists} lists of files (DICOMDIR)")
    if found.others:
        endings = sorted({name.suffix.lower() for name in found.others if not mentions(name.suffix, dicom.secrets)})
        plain = [ending for ending in endings if re.fullmatch(r"\.[a-z0-9]{1,5}", ending)]
        more = ", …" if len(plain) > 6 else ""
        parts.append(
            f"{len(found.others)} files of other kinds" + (f" ({', '.join(plain[:6])}{more})" if plain else "")
        )
    return " and ".join(parts)


def _shielded(draft: Draft, secrets: frozenset[str]) -> Draft:
    """A draft without a name where the name would tell who the patient is."""
    if not mentions(f"{draft.wanted} {draft.participant_id} {draft.session_id}", secrets):
        return draft
    return replace(draft, wanted="", participant_id="", session_id="", remarks=(_HIDDEN, *draft.remarks))


def _names(drafts: Sequence[Draft]) -> list[str]:
    """A name for each; `scan-01` and so on where a name of its own could tell who the patient is."""
    taken = {draft.wanted.lower() for draft in drafts}
    free = (name for number in range(1, 2 * len(drafts) + 2) if (name := f"scan-{number:02d}") not in taken)
    return safe_names([draft.wanted or next(free) for draft in drafts], [draft.place for draft in drafts])


def _finished(draft: Draft, name: str, work: Path) -> Head | Refusal:
    """A draft with its name; a DICOM series is converted."""
    remarks = tuple(remark.replace("{}", name) for remark in draft.remarks)
    if draft.reason:
        hidden = [remark for remark in remarks if remark == _HIDDEN.format(name)]
        return Refusal(name, draft.source, " ".join((draft.reason, *hidden)))
    image, series = draft.image, None
    if draft.series is not None:
        try:
            image, series = convert(draft.series.slices, work / "heads" / name, draft.series.number)
        except ValueError as error:
            return Refusal(name, draft.source, f"The {draft.series.label} cannot be converted: {error}")
    if image is None:
        raise ValueError(f"{name} has neither an image nor a series.")
    made = None if draft.made is None else replace(draft.made, name=name)
    return Head(name, image, draft.source, draft.participant_id, draft.session_id, series, remarks, made)
