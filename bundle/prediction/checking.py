"""Scans that the contract looks at before a network sees them, and what is found of each."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.data import Dataset, MetaTensor
from monai.transforms import Compose
from monai.utils import convert_to_tensor
from numpy.typing import NDArray
from torch import Tensor

from bundle.cohort.overlap import voxel_digest
from bundle.files import write_text
from bundle.prediction.incoming import SEVERAL, described, needs_preparation, preparation_check
from bundle.prediction.judgement import Scale, distance_check
from bundle.prediction.table import Model, own_reasons, require_shape, with_reasons
from bundle.scans.contract import REFUSE, Check, Contract, Examination
from bundle.scans.modality import GREY_MATTER
from bundle.scans.regions import REGIONS, region_weights, regional_values

RAW = "This is a scan as the scanner gives it, expected a {words}; "
MAKE = {
    True: "make one with `prepare`, or give the scan to `predict`, which prepares it.",
    False: "make one with the software that made those of the training.",
}
PLACED = 2  # steps of a preprocessing that load a file and place it on the grid, which the contract has done


class CheckedDataset(Dataset):
    """Scans that the contract has looked at, ready for a network; none is left out.

    A refused scan becomes an empty volume, so that it keeps its place in a batch; its verdict says so.

    Args:
        data: Records of `list_scans`.
        contract: Examines each scan and brings it onto the model's grid.
        transform: Preprocessing of the model; its first two steps load a file and place it, which the contract does.
        stated: What the card says is done to a volume on the grid, in place of `transform`; None: nothing.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        contract: Contract,
        transform: Compose,
        stated: Compose | None = None,
    ) -> None:
        super().__init__(data, transform)
        require_channels(data, contract)
        if contract.channels and stated is None:
            raise ValueError(
                f"The model reads {contract.modality.plural}, and its card does not say how they are preprocessed; "
                "train it again with the overlay of that modality: then its card says it."
            )
        self.contract, self.stated = contract, stated
        region_weights(
            contract.grid, contract.modality.tissue
        )  # with the templates: loaded before the workers are forked

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]
        """One scan: `image`, `index`, `verdict`, `reasons`, `checks` (JSON), `digest` of its voxels, `volumes`."""
        seen = self.examine(self.data[index])
        checks = json.dumps([asdict(check) for check in seen.checks])
        digest = "" if seen.scan is None else voxel_digest(seen.scan.volume)
        found = {"verdict": seen.verdict, "reasons": " | ".join(seen.reasons), "checks": checks, "digest": digest}
        return {"image": self.preprocess(seen), "index": index, **found, "volumes": self._volumes(seen)}

    def _volumes(self, seen: Examination) -> NDArray[np.float64]:
        """What is said of each region; NaN where a scan cannot be read."""
        if seen.volume is None:
            return np.full(len(REGIONS), np.nan)
        return regional_values(seen.volume, self.contract.grid, self.contract.modality)

    def examine(self, record: Mapping[str, Any]) -> Examination:
        """What the contract finds of a scan, and its preparation before it."""
        own = preparation_check(record)
        return Examination((own,)) if own is not None and own.verdict == REFUSE else _examined(record, self.contract)

    def preprocess(self, seen: Examination) -> Tensor:
        """What the network sees of a scan, (C, D, H, W); nothing of a refused one, or of a channel without a file."""
        grid = self.contract.grid
        accepted = seen.volume is not None and seen.verdict != REFUSE
        found = [seen.volume, *seen.others] if accepted else [None] * len(self.contract.modality.each)
        volumes = [np.zeros(grid.shape, np.float32) if volume is None else volume for volume in found]
        # A copy: MONAI normalises in place where it looks at some voxels alone, and pages show the map as it came.
        image = MetaTensor(torch.tensor(np.stack(volumes)), affine=torch.as_tensor(grid.matrix))
        stated = self.stated
        ready = self.transform({"image": image}, start=PLACED) if stated is None else stated({"image": image})
        return convert_to_tensor(ready["image"], track_meta=False)


def check_scans(
    records: Sequence[Mapping[str, Any]],
    contract: Contract,
    output: Path | None = None,
    model: Model | None = None,
    dataset: CheckedDataset | None = None,
) -> int:
    """Examine scans and say what was found of each.

    Args:
        records: Records, as `list_scans` makes them.
        contract: What they are compared with.
        output: A table (.tsv) of every check; None writes none.
        model: Also say how far a scan is from its training subjects, as `predict` does; needs `dataset`.
        dataset: Preprocesses the scans for the model.

    Returns:
        How many were refused.
    """
    require_channels(records, contract)
    rows, refused = [], 0
    for record in map(described, records):
        seen = _as_it_comes(record, contract) or _examined(record, contract)
        verdict, reasons, checks = seen.verdict, seen.reasons, [asdict(check) for check in seen.checks]
        if model is not None and dataset is not None and verdict != REFUSE:
            verdict, reasons, check = _judged_by(model, record, seen, dataset.preprocess(seen))
            checks.append(check)
        refused += verdict == REFUSE
        sys.stdout.write("\n  ".join([f"{record['image']}: {verdict}", *reasons]) + "\n")
        rows += [{"participant_id": record["participant_id"], "file": record["image"], **check} for check in checks]
    if output is not None:
        write_text(output, pd.DataFrame(rows).to_csv(index=False, sep="\t"))
    return refused


def require_channels(records: Sequence[Mapping[str, Any]], contract: Contract) -> None:
    """Refuse scans of another number of files than a model reads.

    Args:
        records: Records, as `list_scans` makes them; those of a datalist may have `channels`.
        contract: Contract of the model.

    Raises:
        ValueError: says what to give.
    """
    kind, expected = contract.modality, len(contract.modality.each) - 1
    for record in records:
        if (held := len(record.get("channels", ()))) == expected:
            continue
        if kind.channels:
            raise ValueError(SEVERAL.format(source=record["image"], kind=kind, files=", ".join(kind.channels)))
        raise ValueError(
            f"{record['image']} has {1 + held} channels, but {kind.plural} have one file each. Give a model, or a "
            "--modality, of such scans."
        )


def _as_it_comes(record: Mapping[str, Any], contract: Contract) -> Examination | None:
    """A refusal of a scan as the scanner gives it; None where it may be a map."""
    if not needs_preparation(record["image"], contract.modality):
        return None
    reason = RAW.format(words=contract.modality.words) + MAKE[contract.modality == GREY_MATTER]
    return Examination((Check("file", "", "", "the file", REFUSE, reason),))


def _examined(record: Mapping[str, Any], contract: Contract) -> Examination:
    """What the contract finds of a map, and what is known of its preparation."""
    seen, own = contract.examine(record["image"], record.get("channels", ())), preparation_check(record)
    return seen if own is None else replace(seen, checks=(*seen.checks, own))


def _judged_by(
    model: Model, record: Mapping[str, Any], seen: Examination, volume: Tensor
) -> tuple[str, list[str], dict[str, str]]:
    """Verdict, reasons and the one check more that a model makes of a scan, as its table of predictions says them."""
    require_shape(model, tuple(volume.shape))
    network = model.classifier
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with torch.no_grad():
        embedding = network.both(volume[None].to(device))[1]  # type: ignore[operator]
    percentile = model.record.embeddings.compare(embedding.float().cpu().numpy(), [np.nan])["distance_percentile"]
    digest = "" if seen.scan is None else voxel_digest(seen.scan.volume)
    before = pd.DataFrame({"verdict": [seen.verdict], "reasons": [" | ".join(seen.reasons)], "digest": [digest]})
    scale = Scale.of(model.record, model.card["validation"])
    own = own_reasons([record], before, percentile, model, scale)
    after = {name: values[0] for name, values in with_reasons(before, own).items()}
    check = asdict(distance_check(float(percentile.iloc[0])))
    return after["verdict"], after["reasons"].split(" | ") if after["reasons"] else [], check
