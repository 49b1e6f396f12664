"""The probe of several encoders, such as those of other seeds: each alone, and all side by side."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from bundle.cohort.modality import require_modality
from bundle.cohort.overlap import refuse_overlap
from bundle.cohort.regrid import require_grid
from bundle.evaluation import probing
from bundle.evaluation.plan import CALIBRATED, RANDOM
from bundle.evaluation.side_by_side import SideBySide
from bundle.evaluation.study import Pretrained, ProbeStudy
from bundle.files import sha256, write_text
from bundle.hub import located
from bundle.networks.preprocessing import Steps
from bundle.networks.weights import encoder_like, load_encoder, method_of, refuse_other_preprocessing

TABLE = "encoders.csv"
TOGETHER = ", side by side"  # ending of names in tables
DIFFERENT = "all encoders"  # what they are called together where their cards say different methods
AGE = "age"


class SeveralEncodersStudy(ProbeStudy):
    """Probes several encoders on the same people: each alone, and all embeddings side by side.

    As many random encoders, of the same architectures, are read in the same way, because more features alone may
    help. Besides what `ProbeStudy` writes, `encoders.csv` has the mean of the encoders alone, their standard deviation,
    and the paired difference of all side by side from that mean.

    Args:
        more_weights: Files of the other encoders.
        recipe: Steps of the preprocessing, as of `steps_of`, which the card of each has to say.
        kwargs: Those of `ProbeStudy`.

    Raises:
        ValueError: when there is no other encoder, or one is given twice; when blocks before the last are asked for,
            or batch norm that is adapted to sites.
    """

    def __init__(self, more_weights: Sequence[str | Path], recipe: Steps | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(more_weights, (str, Path)):
            more_weights = [more_weights]
        files = [located(one) for one in (self.pretrained.weights, *more_weights)]
        _refuse_repeats(files)
        if self.pretrained.blocks:
            raise ValueError("`layers` is of one encoder; of several the last block is probed: leave it out.")
        if self.probe.adapting:
            raise ValueError("`adapt` is of one encoder; of several use `adapt: none`, or probe each alone.")
        self.recipe, allow = recipe, self.pretrained.allow_overlap
        methods = [self.pretrained.method, *map(method_of, files[1:])]
        self.names = _named(methods)
        self.together = (methods[0] if len(set(methods)) == 1 else DIFFERENT) + TOGETHER
        self.more = [
            Pretrained(load_encoder(file).encoder, encoder_like(file), file, name, allow)
            for file, name in zip(files[1:], self.names[1:], strict=True)
        ]

    def check(self) -> None:
        """Refuse subjects who cannot be probed, or whom one of the encoders was pretrained on."""
        super().check()
        aged = [record for part in self.subjects.of_age() for record in part]
        for one in self.more:
            refuse_other_preprocessing(one.weights, self.recipe)
            require_modality(self.subjects.every_datalist, one.weights, self.modality, self.images.preprocessing)
            for pool in self.pools:
                require_grid(pool.records, f"the task {pool.task}", one.weights)
                refuse_overlap(one.weights, pool.tested, pool.task, one.allow_overlap)
            require_grid(aged, "the age probe", one.weights)

    @property
    def _random(self) -> list[str]:
        return _named([RANDOM] * len(self.names))

    def _networks(self) -> dict[str, nn.Module]:
        given = super()._networks()
        encoders = [self.pretrained.encoder, *(one.encoder for one in self.more)]
        random = [self.pretrained.random_encoder, *(one.random_encoder for one in self.more)]
        found = {**dict(zip(self.names, encoders, strict=True)), **dict(zip(self._random, random, strict=True))}
        return found | {name: network for name, network in given.items() if name == CALIBRATED}

    def _encoders(self, networks: Mapping[str, nn.Module]) -> dict[str, Any]:
        alone = super()._encoders(networks)
        both = {self.together: SideBySide(tuple(self.names)), f"{RANDOM}{TOGETHER}": SideBySide(tuple(self._random))}
        return {**alone, **both}

    def _further(self, scores: pd.DataFrame, ages: pd.DataFrame) -> str:
        """Write how far the encoders differ and what they are worth together, and give it as text."""
        groups = {self.together: self.names, f"{RANDOM}{TOGETHER}": self._random}
        table = spread(scores, ages, groups, self.subjects.seed)
        write_text(self.output_dir / TABLE, table.to_csv(index=False))
        shown = [_shown(row) for row in table.to_dict("records")]
        head = (
            f"{len(self.names)} encoders alone, with their standard deviation, and side by side (ROC-AUC, paired 95 % "
            "interval over subjects and draws; age: mean absolute error in years)"
        )
        return f"{head}\n\n{pd.DataFrame(shown).to_markdown(index=False, disable_numparse=True)}\n"


def _refuse_repeats(files: Sequence[Path]) -> None:
    """Refuse a single encoder, and one that is given twice."""
    if len(files) < 2:
        raise ValueError(
            f"`more_weights` names no encoder to set beside {files[0]}; name at least one, such as that of another "
            'seed: --more_weights "[B.pt]". To probe one encoder, leave configs/probe_several_encoders.yaml out.'
        )
    seen: dict[str, Path] = {}
    for file in files:
        if file.is_file() and (same := seen.setdefault(sha256(file), file)) is not file:
            raise ValueError(f"{same} and {file} are the same weights; name each encoder once.")


def _named(methods: Sequence[str]) -> list[str]:
    """The names of encoders in tables: what their cards say, with a number where it was there before."""
    return [f"{one}, {place}" if one in methods[: place - 1] else one for place, one in enumerate(methods, 1)]


def spread(
    scores: pd.DataFrame, ages: pd.DataFrame, groups: Mapping[str, Sequence[str]], seed: int = 0
) -> pd.DataFrame:
    """How far encoders differ, and what they are worth side by side.

    Args:
        scores: Rows of `probing.probe_diagnosis` with a column task.
        ages: Rows with columns method and mae.
        groups: Method that has encoders side by side → those it is made of.
        seed: Seed of the bootstrap; see `probing.paired_tests`.

    Returns:
        Columns task (age: the error in years), n, encoders, mean and sd of the encoders alone, together, difference of
        both, low, high (95 %; none of age).
    """
    rows: list[dict[str, Any]] = []
    for (task, size), group in probing.by_participant(scores).groupby(["task", "n"], sort=False):
        resamples = {m: probing.bootstrap(g, seed).samples for m, g in group.groupby("method", sort=False)}
        aucs = probing.draw_aucs(group).groupby("method", sort=False)["auc"].mean()
        for together, alone in groups.items():
            low, high = probing.interval(resamples[together] - sum(resamples[name] for name in alone) / len(alone))
            rows.append({"task": task, "n": size, **_of_group(aucs, together, alone), "low": low, "high": high})
    if len(ages):
        errors = ages.set_index("method")["mae"]
        rows += [{"task": AGE, **_of_group(errors, *group)} for group in groups.items()]
    return pd.DataFrame(rows).astype({"n": "Int64"})


def _of_group(values: pd.Series, together: str, alone: Sequence[str]) -> dict[str, Any]:
    each, both = values[list(alone)], values[together]
    known = {"encoders": together.removesuffix(TOGETHER), "mean": each.mean(), "sd": each.std()}
    return {**known, "together": both, "difference": both - each.mean()}


def _shown(row: Mapping[Hashable, Any]) -> dict[str, str]:
    """A row of `spread` as text; age has no N and no interval."""
    digits, of_age = (2, True) if row["task"] == AGE else (3, False)
    ends = "" if of_age else f" ({row['low']:+.{digits}f} to {row['high']:+.{digits}f})"
    return {
        "task": row["task"],
        "N": "" if of_age else str(row["n"]),
        "encoders": row["encoders"],
        "alone, mean ± SD": f"{row['mean']:.{digits}f} ± {row['sd']:.{digits}f}",
        "side by side": f"{row['together']:.{digits}f}",
        "difference from that mean": f"{row['difference']:+.{digits}f}{ends}",
    }
