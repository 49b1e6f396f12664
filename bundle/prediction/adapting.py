"""A classifier whose batch norm is adapted to a new site by unlabelled scans, and how its answers say so."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from monai.data import DataLoader
from monai.transforms import Compose

from bundle.adaptation import LEAST, batch_norms, estimate_statistics, even_batches
from bundle.cohort.overlap import id_digest
from bundle.hints import quoted
from bundle.prediction.checking import CheckedDataset
from bundle.prediction.incoming import described, needs_preparation
from bundle.prediction.listing import list_scans
from bundle.prediction.table import Model, require_shape
from bundle.scans.contract import REFUSE, Contract
from bundle.scans.modality import Modality

DIGEST_BYTES = 8
logger = logging.getLogger(__name__)


def adapted(
    model: Model,
    adapt_to: str | Path | None,
    contract: Contract,
    transform: Compose,
    stated: Compose | None = None,
    num_workers: int = 0,
) -> Model:
    """A classifier whose batch-norm statistics are those of unlabelled scans; its weights stay as they are.

    Args:
        model: Classifier, whose network is changed in place.
        adapt_to: Scans of the new site: a folder, a datalist or a table, as of `list_scans`. None: nothing is done.
        contract: Examines each scan; see `CheckedDataset`.
        transform: Preprocessing; see `CheckedDataset`.
        stated: Preprocessing that the card says; see `CheckedDataset`.
        num_workers: Processes that read images.

    Returns:
        The model; the card of an adapted one has `adaptation`: the method, the scans and a digest of them.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: when the network has no batch norm that could be adapted, or the scans are too few, were in its
            training, or are none that it can read.
    """
    if adapt_to is None:
        return model
    _require_batch_norm(model)
    records = _listed(Path(adapt_to), contract.modality)
    dataset = CheckedDataset(records, contract, transform, stated)
    digests = _estimated(model, dataset, num_workers, str(adapt_to))
    digest = hashlib.blake2b("".join(sorted(digests)).encode(), digest_size=DIGEST_BYTES).hexdigest()
    said = {"method": "adaptive batch norm", "scans": len(digests), "digest": digest}
    logger.info(f"Batch norm is adapted to {len(digests)} scans of {adapt_to}; their digest is {digest}.")
    return replace(model, card={**model.card, "adaptation": said})


def _require_batch_norm(model: Model) -> None:
    found = [] if not any(True for _ in model.classifier.parameters()) else batch_norms(model.classifier)
    if found:
        return
    onnx = not any(True for _ in model.classifier.parameters())
    reason = (
        "is computed by onnxruntime, which keeps the statistics of the training; use --backend torch"
        if onnx
        else "has no batch norm, whose statistics could be those of another site; leave --adapt_to out"
    )
    raise ValueError(f"{model.path} {reason}.")


def _listed(source: Path, modality: Modality) -> list[dict[str, Any]]:
    """Maps of enough people."""
    if not source.exists():
        raise FileNotFoundError(f"--adapt_to {source} does not exist; give a folder of scans of the new site.")
    records = [described(record) for record in list_scans(source)]
    _require_enough(len({id_digest(record) for record in records}), source)
    if raw := [record["name"] for record in records if needs_preparation(record["image"], modality)]:
        raise ValueError(
            f"--adapt_to {source} holds {len(raw)} scans that are no {modality.plural} ({quoted(raw)}); make maps of "
            "them (of grey matter: `prepare SCANS --output DIR`), and give their folder."
        )
    return records


def _require_enough(people: int, source: str | Path) -> None:
    if people < LEAST:
        raise ValueError(
            f"--adapt_to {source} holds scans of {people} people, but statistics of a site need at least {LEAST}: of "
            "fewer they are chance. Collect more scans there, or leave --adapt_to out."
        )


def _estimated(model: Model, dataset: CheckedDataset, num_workers: int, source: str) -> list[str]:
    """Adapt the network to the scans of a dataset, each image once; gives their digests."""
    device = next(model.classifier.parameters()).device
    seen = list(DataLoader(dataset, batch_size=1, collate_fn=_itself, num_workers=num_workers))
    _refuse_scans(dataset.data, seen, source)
    _refuse_overlap(model, dataset.data, [item["digest"] for item in seen], source)
    first = {item["digest"]: row for row, item in reversed(list(enumerate(seen)))}
    _require_enough(len(first), source)
    volumes = [torch.as_tensor(seen[row]["image"]) for row in sorted(first.values())]
    require_shape(model, tuple(volumes[0].shape))
    rows = even_batches(len(volumes))
    estimate_statistics(model.classifier, (torch.stack([volumes[i] for i in part]).to(device) for part in rows))
    return list(first)


def _itself(items: list[dict[str, Any]]) -> dict[str, Any]:
    return items[0]


def _refuse_scans(records: Sequence[Mapping[str, Any]], seen: Sequence[Mapping[str, Any]], source: str) -> None:
    refused = [
        f"{record['image']}: {item['reasons']}"
        for record, item in zip(records, seen, strict=True)
        if item["verdict"] == REFUSE
    ]
    if refused:
        more = f" And {len(refused) - 3} more." if len(refused) > 3 else ""
        raise ValueError(
            f"{len(refused)} of {len(seen)} scans of --adapt_to {source} are none that the model can read. "
            f"{' '.join(refused[:3])}{more} Leave them out of the folder, or correct them."
        )


def _refuse_overlap(model: Model, records: Sequence[Mapping[str, Any]], digests: Sequence[str], source: str) -> None:
    """Refuse people of the training, by their ids or by their images."""
    known = model.card.get("fingerprints")
    if known is None:
        logger.warning(f"The card of {model.path} does not say on whom it was trained: overlap cannot be seen.")
        return
    people, images = (set(known.get(kind, ())) for kind in ("participants", "images"))
    shared = [
        str(record["participant_id"] or record["name"])
        for record, digest in zip(records, digests, strict=True)
        if digest in images or id_digest(record) in people
    ]
    if shared:
        raise ValueError(
            f"{len(shared)} scan(s) of --adapt_to {source} are of people of the model's training ({quoted(shared)}): "
            "they do not show what is new at a site. Leave them out of the folder; if only ids coincide and these are "
            "other people, give them other ids."
        )
