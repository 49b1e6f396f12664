"""Many scans prepared side by side: what is there already is kept, and one that fails stops none of the others."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nibabel.spatialimages import SpatialImage
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from bundle.files import replacing, write_text
from bundle.locks import locked
from bundle.preparation.backends import backend_of, pipeline_of
from bundle.preparation.heads import open_head
from bundle.preparation.made import stated_of, take_made
from bundle.preparation.outcome import FAIL, Backend, Head, Outcome, Refusal
from bundle.preparation.output import INDEX, Folder, is_bids
from bundle.preparation.pages import index_page, scan_page, thumbnail
from bundle.preparation.record import Record
from bundle.preparation.workers import each_in_a_process
from bundle.scans.nifti import PHANTOM, is_phantom

LOCK_SECONDS = 2.0  # a preparation takes long: who comes second is told at once
NOTHING_READ, SOME_FAILED = 1, 3  # exit status
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """What became of the scans of one run.

    Attributes:
        output: Folder with the maps, the tables and `index.html`.
        records: Records of the scans, in the order in which they were given, and then of the refusals.
        kept: How many were there already.
    """

    output: Path
    records: tuple[Record, ...]
    kept: int

    @property
    def exit_status(self) -> int:
        """0 done, 1 nothing could be read, 3 some scans failed or were refused."""
        usable = [record.is_usable for record in self.records]
        if all(record.status == "refused" for record in self.records):
            return NOTHING_READ
        return 0 if all(usable) else SOME_FAILED


def prepare_scans(
    heads: Sequence[Head],
    refusals: Sequence[Refusal],
    output: Path,
    backend: str | Backend = "ants",
    workers: int = 1,
    threads: int = 1,
    bids: bool | None = None,
) -> Report:
    """Prepare scans, each in a process of its own, and write maps, records, pages and tables of all in the folder.

    Args:
        heads: Scans to prepare, and maps that are taken as they are.
        refusals: Inputs that cannot be prepared; they are listed.
        output: Folder that receives everything.
        backend: Name of a pipeline, one of `backends.NAMES`, or a function that can be pickled; what its attribute
            `pipeline` says decides whether an earlier map is of the same pipeline.
        workers: How many scans are prepared at a time.
        threads: How many each may use.
        bids: Write BIDS derivatives; None: when all scans lie in BIDS datasets.

    Raises:
        ValueError: A scan's name cannot be a file name, or the pipeline is not known.
        OSError: The folder cannot be written, or another process writes there.
    """
    folder = Folder(output, is_bids(heads) if bids is None else bids)
    folder.require_names(heads)
    ours = pipeline_of(backend) if any(head.made is None for head in heads) else {}
    stated = {head.name: ours if head.made is None else stated_of(head.made) for head in heads}
    with locked(output, LOCK_SECONDS), logging_redirect_tqdm():
        kept = {head.name: record for head in heads if (record := folder.kept(head, stated[head.name])) is not None}
        todo = [head for head in heads if head.name not in kept]
        if kept:
            logger.info("%d of %d scans are kept: they lie there from an earlier run.", len(kept), len(heads))
        refused = [Record.of_refusal(refusal) for refusal in refusals]
        if taken := sum(head.made is not None for head in todo):
            logger.info("%d of %d are maps that others have made: they are taken as they are.", taken, len(heads))
        if raw := len(todo) - taken:
            logger.info("%d of %d scans to prepare: one to two minutes of one core each.", raw, len(heads))
        work = partial(_prepared, folder=folder, backend=backend, threads=threads)
        try:
            records = {**kept, **dict(_with_progress(work, todo, folder, workers, threads))}
        finally:  # also of what was done before Ctrl-C
            _write_overview(folder, refused)
    return Report(output, (*(records[head.name] for head in heads), *refused), len(kept))


def _with_progress(
    work: Any, heads: Sequence[Head], folder: Folder, workers: int, threads: int
) -> Iterable[tuple[str, Record]]:
    """Name and record of each scan as it is done, behind a bar that says how much time is left."""
    with tqdm(total=len(heads), desc="Preparing", unit="scan", disable=None) as bar:
        for head, record, cause in each_in_a_process(work, heads, workers, threads):
            if cause:
                record = _failed(head, f"The preparation did not come to an end. {cause}", folder)
            logger.log(logging.INFO if record.is_usable else logging.WARNING, "%s: %s", head.name, record.status)
            bar.update()
            yield head.name, record


def _prepared(head: Head, folder: Folder, backend: str | Backend, threads: int) -> Record:
    """Prepare one scan, or take its map, and write all that is of it alone; whatever goes wrong is its record."""
    try:
        if head.made is not None:
            return _written(head, None, take_made(head.made), folder)
        image = open_head(head.image)
        outcome = backend_of(backend, threads)(image)
        return _written(head, image, outcome, folder)
    except (ValueError, OSError) as error:
        return _failed(head, without_places(str(error), head), folder)
    except Exception as error:
        logger.warning("%s", without_places(traceback.format_exc(), head))
        return _failed(head, without_places(f"{type(error).__name__}: {error}", head), folder)


def _written(head: Head, image: SpatialImage | None, outcome: Outcome, folder: Folder) -> Record:
    """Write map, page and picture of a scan, and its record last: where that is, the rest is whole."""
    record, failed = Record.of(head, outcome), outcome.status == FAIL
    folder.clear(head.name)
    if outcome.map is not None:
        by = f"{outcome.pipeline.get('name', '')} {outcome.pipeline.get('version', '')}".strip()
        said = PHANTOM.decode() if is_phantom(head.image) else f"{by} modulated GM"  # a phantom's map is a phantom's
        record = replace(record, map=folder.save_map(head.name, outcome.map, said, failed=failed))
    write_text(folder.page_of(head.name), scan_page(record, image, outcome))
    if picture := thumbnail(image, outcome):
        with replacing(folder.thumbnail_of(head.name)) as temporary:
            temporary.write_bytes(picture)
    record.write(folder.record_of(head.name, failed=failed))
    return record


def _failed(head: Head, sentence: str, folder: Folder) -> Record:
    """Write what is known of a scan whose preparation did not come to an end; earlier maps of it are removed."""
    record = Record.of_failure(head, sentence)
    folder.clear(head.name)
    write_text(folder.page_of(head.name), scan_page(record))
    record.write(folder.record_of(head.name, failed=True))
    return record


def _write_overview(folder: Folder, refused: Sequence[Record]) -> None:
    """Write the tables and the index of all scans in the folder, and of the inputs that this run refused."""
    records = [*folder.records(), *refused]
    folder.write_tables(records)
    folder.describe(next((dict(record.pipeline) for record in records if record.pipeline), {}))
    write_text(folder.path / INDEX, index_page(records, folder))


def without_places(text: str, head: Head) -> str:
    """A message without the paths of a scan, which may hold a patient's name.

    Args:
        text: What a library said.
        head: The scan that it is about.

    Example:
        >>> head = Head("scan-1", Path("/a/Doe/im.nii"), Path("/a/Doe"))
        >>> without_places("/a/Doe/im.nii is broken", head)
        'scan-1 is broken'
    """
    for path in (head.image, head.series, head.source):
        for written in (path and str(path.absolute()), path and str(path)):
            if written and written != ".":
                text = text.replace(written, head.name)
    return text
