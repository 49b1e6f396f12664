"""Whether a test set holds people whom the encoder was pretrained on: by their ids, and by what their images hold."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bundle.networks.cards import read_card
from bundle.networks.lineage import stages
from bundle.networks.names import SCRATCH
from bundle.people import person_of
from bundle.scans.volumes import VolumeError, checked_volume, read_volume

DIGEST_BYTES = 8  # 10⁵ scans collide with a probability of 3 · 10⁻¹⁰
KINDS = {"participants": "participant id", "images": "image"}  # in a card: in a sentence
logger = logging.getLogger(__name__)


def fingerprints(
    records: Sequence[Mapping[str, Any]], workers: int = 4, inherited: str | Path | Sequence[str | Path] | None = None
) -> dict[str, list[str]]:
    """Digests of the participants and images of a cohort, for the card of what is trained on it.

    A card is published and a list of participants must not be: digests can be compared and are not the ids. They are
    no secret, though, since anyone who guesses an id can check it.

    Args:
        records: Records of a datalist (participant_id, image, and image_digest where it was cached).
        workers: Threads that read images; every image is read once.
        inherited: Weights that training starts from, one file or several; who is known to their cards is known to the
            new one.

    Returns:
        `participants` and `images`, sorted and each once.
    """
    with ThreadPoolExecutor(max(1, workers)) as pool:
        images = set(pool.map(_image_digest, records))
    starts = [inherited] if isinstance(inherited, (str, Path)) else inherited or ()
    known = [read_card(start).get("fingerprints", {}) for start in starts]
    new = {"participants": {id_digest(r) for r in records}, "images": images}
    return {kind: sorted(digests.union(*(card.get(kind, ()) for card in known))) for kind, digests in new.items()}


def refuse_overlap(
    weights: str | Path, records: Sequence[Mapping[str, Any]], what: str, allow: bool = False, workers: int = 4
) -> None:
    """Refuse to test weights on participants they were trained on, in pretraining or since.

    Args:
        weights: Their card, the `.json` beside them, has the `fingerprints` of the training; `scratch`: of nobody.
        records: Records to be tested on.
        what: Name of the test set, for the message.
        allow: Only warn.
        workers: Threads that read images.

    Raises:
        ValueError: lists the participants found in the training, unless `allow`.
    """
    if str(weights) == SCRATCH or not records:
        return
    known = read_card(weights).get("fingerprints")
    if known is None:
        logger.warning(f"{weights} has no card that says on whom it was trained: overlap with {what} cannot be seen.")
        return
    if any(stage.get("people_known") is False for stage in stages(weights)):
        logger.warning(
            f"{weights} started from weights whose card does not say who trained them: overlap of {what} with those "
            "people cannot be seen."
        )
    with ThreadPoolExecutor(max(1, workers)) as pool:
        images = list(pool.map(_image_digest, records))
    digests = {"participants": [id_digest(r) for r in records], "images": images}
    found = {kind: _shared(records, digests[kind], known.get(kind, ())) for kind in KINDS}
    if any(found.values()):
        _say_overlap(weights, what, found, allow)


def say_seen(weights: str | Path, sections: Mapping[str, Sequence[Mapping[str, Any]]], task: str) -> None:
    """Say how many of those who are to train and validate a classifier were in an earlier training of its weights.

    Another question may be asked of the same people. Where it is the same question, an earlier stage has learned their
    labels, and the validation is too good.

    Args:
        weights: Weights that training starts from, with a card; or `scratch`.
        sections: `training` and `validation`, by participant id.
        task: The question.
    """
    if str(weights) == SCRATCH:
        return
    known = set(read_card(weights).get("fingerprints", {}).get("participants", ()))
    people = {name: {id_digest(record) for record in records} for name, records in sections.items()}
    counts = [f"{len(ids & known)} of {len(ids)} of the {name}" for name, ids in people.items() if ids]
    if not any(ids & known for ids in people.values()):
        return
    fact = f"Participants that an earlier training of {weights} had: {', '.join(counts)}."
    if any(stage.get("kind") == "classifier" and stage.get("task") == task for stage in stages(weights)):
        logger.warning(
            f"{fact} It was a classifier of the same task, {task}, which has learned their labels: this goes on with "
            "it, and the ROC-AUC of the validation is too good where its participants were trained on. Give --weights "
            "scratch, or an encoder, to begin anew."
        )
    else:
        logger.info(fact)


def voxel_digest(volume: np.ndarray) -> str:
    """Digest of the voxels as float32: the same under another name, header, compression or file format."""
    return _hex(np.ascontiguousarray(volume, dtype="<f4").tobytes())


def image_digests(records: Sequence[Mapping[str, Any]], workers: int = 4) -> tuple[list[str], list[str]]:
    """Digest of each image, with a progress bar; of one that cannot be used an empty string, and why.

    Args:
        records: Records of a datalist; a cached one states the digest, and is not read.
        workers: Threads that read images.

    Returns:
        Digests, and sentences, empty where nothing is wrong.
    """
    with ThreadPoolExecutor(max(1, workers)) as pool:
        found = pool.map(_digest_or_fault, records)
        answers = list(tqdm(found, "Reading images", len(records), unit="image", disable=None))
    return [digest for digest, _ in answers], [fault for _, fault in answers]


def id_digest(record: Mapping[str, Any]) -> str:
    """Digest of the person that a participant id names, with or without its BIDS prefix."""
    return _hex(person_of(record["participant_id"]).encode())


def _digest_or_fault(record: Mapping[str, Any]) -> tuple[str, str]:
    if record.get("image_digest"):
        return record["image_digest"], ""
    try:
        return voxel_digest(checked_volume(Path(record["image"]))), ""
    except VolumeError as error:
        return "", str(error)


def _say_overlap(weights: str | Path, what: str, found: Mapping[str, list[str]], allow: bool) -> None:
    parts = [f"{len(names)} by {KINDS[kind]} ({', '.join(names)})" for kind, names in found.items() if names]
    fact = f"Participants of {what} were in the training of {weights}: {'; '.join(parts)}."
    if allow:
        logger.warning(f"{fact} Going on because overlap was allowed.")
        return
    raise ValueError(
        f"{fact} Results on them would be too good: leave them out of one of the two. If only ids coincide and these "
        "are other people, go on with --allow-overlap."
    )


def _shared(records: Sequence[Mapping[str, Any]], digests: Sequence[str], known: Sequence[str]) -> list[str]:
    """Participants whose digest is among the known ones."""
    there = set(known)
    return sorted({str(r["participant_id"]) for r, digest in zip(records, digests, strict=True) if digest in there})


def _image_digest(record: Mapping[str, Any]) -> str:
    """Of the image itself; a cached record states that of the image it was made from."""
    if digest := record.get("image_digest"):
        return str(digest)
    try:
        return voxel_digest(read_volume(Path(record["image"])))
    except VolumeError as error:
        raise VolumeError(f"{record['image']} {error}") from error


def _hex(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest()
