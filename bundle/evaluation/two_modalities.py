"""The probe of two encoders of two modalities: each alone, both side by side, and what the second one adds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from bundle.cohort.datalist import load_section, phantom_of
from bundle.cohort.joined import SECOND, of_modality
from bundle.cohort.modality import require_modality
from bundle.cohort.overlap import refuse_overlap
from bundle.cohort.regrid import require_grid
from bundle.evaluation import probing
from bundle.evaluation.features import Images, voxels
from bundle.evaluation.plan import CALIBRATED, RANDOM, VOXELS
from bundle.evaluation.side_by_side import OF_BOTH, OF_SECOND, OfSecond, SideBySide
from bundle.evaluation.study import Pretrained, ProbeStudy
from bundle.files import write_text
from bundle.networks.weights import load_encoder

TABLE = "modalities.csv"


class TwoModalityStudy(ProbeStudy):
    """Probes two encoders on the same people: each on the maps of its modality, and both embeddings side by side.

    Only people with both maps take part. Besides what `ProbeStudy` writes, `modalities.csv` has the paired difference
    in ROC-AUC of both modalities from each alone, for the encoders, for their random initialisations and for voxels.
    Reference lines of no encoder but voxels read the first modality.

    Args:
        second: The encoder of the second modality.
        second_images: How its maps become features.
        kwargs: Those of `ProbeStudy`, with subjects of both modalities.

    Raises:
        ValueError: when blocks before the last are asked for, or batch norm that is adapted to sites.
    """

    def __init__(self, second: Pretrained, second_images: Images, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.second, self.second_images = second, second_images
        if self.pretrained.blocks:
            raise ValueError("`layers` is of one encoder; with two modalities the last block is probed: leave it out.")
        if self.probe.adapting:
            raise ValueError("`adapt` is of one encoder; with two modalities use `adapt: none`, or probe each alone.")
        load_encoder(second.weights, second.encoder)

    def check(self) -> None:
        """Refuse subjects who cannot be probed, or whom either encoder was pretrained on."""
        super().check()
        require_modality(self.subjects.every_second_datalist, self.second.weights)
        for pool in self.pools:
            maps = of_modality(pool.records, SECOND)
            require_grid(maps, f"the second modality in the task {pool.task}", self.second.weights)
            tested = of_modality(pool.tested, SECOND)
            refuse_overlap(self.second.weights, tested, f"{pool.task}, second modality", self.second.allow_overlap)
        aged = [record for part in self.subjects.of_age() for record in of_modality(part, SECOND)]
        require_grid(aged, "the second modality in the age probe", self.second.weights)

    def _encoders(self, networks: Mapping[str, nn.Module]) -> dict[str, Any]:
        first = super()._encoders(networks)
        given, images = self.second, self.second_images
        second = {self.pretrained.method: given.encoder, RANDOM: given.random_encoder}
        if CALIBRATED in first:
            healthy = load_section(Path(self.subjects.second_healthy), "training")
            second[CALIBRATED] = images.calibrate(self._initialised(given), healthy)
        return _with_both(first, {name: images.encoder(encoder) for name, encoder in second.items()}, images)

    def _references(self) -> dict[str, Any]:
        return self._with_voxels(super()._references())

    def _age_references(self) -> dict[str, Any]:
        return self._with_voxels(super()._age_references())

    def _with_voxels(self, sources: Mapping[str, Any]) -> dict[str, Any]:
        if VOXELS not in sources:
            return dict(sources)
        both = _with_both({VOXELS: sources[VOXELS]}, {VOXELS: voxels}, self.second_images)
        return {**both, **{name: source for name, source in sources.items() if name != VOXELS}}

    def _further(self, scores: pd.DataFrame, ages: pd.DataFrame) -> str:  # noqa: ARG002
        """Write what both modalities give beyond each alone, and give it as text."""
        people = sum(len(pool.records) for pool in self.pools)
        table = differences(scores, self.subjects.seed)
        write_text(self.output_dir / TABLE, table.to_csv(index=False))
        shown = [f"{r.difference:+.3f} ({r.low:+.2f} to {r.high:+.2f})" for r in table.itertuples()]
        cells = table[["task", "n", "features", "than"]].assign(**{"difference in ROC-AUC": shown})
        head = (
            f"Both modalities less each alone: paired difference in ROC-AUC (95 % interval), on the {people} people of "
            "all tasks who have both maps"
        )
        parts = [head, cells.to_markdown(index=False, disable_numparse=True)]
        if phantom_of(self.subjects.datalists).get("best_auc"):
            parts.append(
                "The best achievable ROC-AUC is of the first modality's causes; the second has more of its own."
            )
        return "\n\n".join(parts) + "\n"


def _with_both(first: Mapping[str, Any], second: Mapping[str, Any], images: Images) -> dict[str, Any]:
    """Lines of each modality alone, then of both side by side."""
    others = {f"{name}{OF_SECOND}": OfSecond(images, extractor) for name, extractor in second.items()}
    both = {f"{name}{OF_BOTH}": SideBySide((name, f"{name}{OF_SECOND}")) for name in second}
    return {**first, **others, **both}


def differences(scores: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """ROC-AUC of both modalities less that of each alone, over the same people and draws.

    Args:
        scores: Rows of `probing.probe_diagnosis` with a column task.
        seed: Seed of the bootstrap; see `probing.paired_tests`.

    Returns:
        Columns task, n, features, than (first or second modality), difference, low, high (95 %).
    """
    rows = []
    methods = [name.removesuffix(OF_BOTH) for name in scores["method"].unique() if name.endswith(OF_BOTH)]
    for (task, size), group in probing.by_participant(scores).groupby(["task", "n"], sort=False):
        resamples = {m: probing.bootstrap(g, seed) for m, g in group.groupby("method", sort=False)}
        aucs = probing.draw_aucs(group).groupby("method", sort=False)["auc"].mean()
        for name in methods:
            for than, other in (("first alone", name), ("second alone", f"{name}{OF_SECOND}")):
                low, high = probing.interval((resamples[f"{name}{OF_BOTH}"] - resamples[other]).samples)
                rows.append((task, size, name, than, aucs[f"{name}{OF_BOTH}"] - aucs[other], low, high))
    return pd.DataFrame(rows, columns=["task", "n", "features", "than", "difference", "low", "high"])
