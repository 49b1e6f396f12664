"""From subjects and extractors to scores: the way of every probe, whoever asks for it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bundle.evaluation import probing
from bundle.evaluation.features import Images, ids_of
from bundle.evaluation.harmonizing import NONE, Harmonizing
from bundle.evaluation.plan import KNOWN, SITE
from bundle.evaluation.readers import reader_of
from bundle.evaluation.references import Source, features_of_pool, known_beside
from bundle.evaluation.site_batch_norm import Adapting, SiteCopies, put_apart
from bundle.evaluation.subjects import Pool
from bundle.evaluation.unknown import columns_of, filled_in, require_known

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Probe:
    """How features are probed.

    Args:
        penalties: Candidates for C of the probes.
        voxel_penalties: The same for voxels, whose squared norm is thousands of times larger.
        adjust: What is known beside the image and removed from all features; see `linear.without_known`.
        harmonize: How site effects are taken out of features before that; see `harmonizing.Harmonizing`.
        harmonize_keep: What ComBat preserves, of age and sex.
        native_penalties: Candidates for C of voxels before any shrinking, whose mean squared length is set to 1; the
            ridge classifier's penalty is 1 / C.
        net_penalties: The same of the elastic net on regions.
        svm_penalties: The same of the support-vector machine on regions.
        adapt: How encoders are adapted to the sites of those who are tested; see `site_batch_norm.Adapting`.

    Raises:
        ValueError: site effects are taken out of features, too, of an encoder that is adapted.
    """

    penalties: Sequence[float] = (0.01, 0.1, 1.0, 10.0)
    voxel_penalties: Sequence[float] = (1e-6, 1e-5, 1e-4, 1e-3)
    adjust: Sequence[str] = ()
    harmonize: str = "none"
    harmonize_keep: Sequence[str] = ()
    native_penalties: Sequence[float] = (0.1, 1.0, 10.0, 100.0)
    net_penalties: Sequence[float] = (0.03, 0.1, 0.3)
    svm_penalties: Sequence[float] = (0.1, 1.0, 10.0)
    adapt: str = "none"
    harmonizing: Harmonizing = field(init=False)
    adapting: Adapting = field(init=False)

    def __post_init__(self) -> None:
        """Refuse what may not be preserved, and two ways at once, before any work."""
        object.__setattr__(self, "harmonizing", Harmonizing(self.harmonize, self.harmonize_keep))
        object.__setattr__(self, "adapting", Adapting(self.adapt))
        if self.harmonizing and self.adapting:
            raise ValueError(
                f"`adapt: {self.adapt}` and `harmonize: {self.harmonize}` both take effects of sites out, and what "
                "is gained would be due to neither alone. Use one of them; in a comparison, name each in `readings`."
            )

    def check(self, pool: Pool) -> None:
        """Refuse subjects by whom effects of sites, or of what is known beside the image, cannot be told.

        Args:
            pool: Who trains and who tests.

        Raises:
            ValueError: see `Harmonizing.check`, `Adapting.check` and `unknown.require_known`.
        """
        self.harmonizing.check(pool.records, pool.trials, pool.task)
        self.adapting.check(pool)
        require_known("adjust", self.adjust, columns_of(self.adjust, pool.records), pool.trials, pool.task)

    def adjusted(self, pools: Iterable[Pool]) -> str:
        """What is removed beside effects of sites, for tables; empty where nothing is."""
        if not self.adjust:
            return ""
        known = np.concatenate([columns_of(self.adjust, pool.records) for pool in pools])
        removed = f"Effects of {', '.join(self.adjust)} are removed from all features."
        return f"{removed} {filled_in(self.adjust, known)}".strip()

    def scores(self, method: str, features: NDArray, pool: Pool) -> pd.DataFrame:
        """Scores of the tested subjects by the probe of each trial; see `probing.probe_diagnosis`.

        Args:
            method: Name of the features.
            features: Features of the pool.
            pool: Who trains and who tests.

        Shape:
            features (subjects of the pool, p).

        Raises:
            ValueError: for what is to be removed and is known of nobody who trains.
        """
        reader, beside = reader_of(method), method in (KNOWN, SITE)  # beside: of no image
        adjust, how = ((), NONE) if beside else (self.adjust, self.harmonizing)
        require_known("adjust", adjust, columns_of(adjust, pool.records), pool.trials, pool.task)
        penalties = getattr(self, reader.option)
        parts = probing.probe_diagnosis(
            method, features, pool.records, pool.trials, penalties, reader.scaling, adjust, reader, how
        )
        return pd.concat(parts).assign(task=pool.task)


class Probed(NamedTuple):
    """What a method says of a task.

    Attributes:
        method: Name of the features.
        features: (subjects, p).
        ids: Ids of the subjects; see `features.ids_of`.
        scores: Scores of the tested subjects.
    """

    method: str
    features: NDArray
    ids: pd.DataFrame
    scores: pd.DataFrame


def probe_pools(
    images: Images,
    probe: Probe,
    sources: Mapping[str, Source],
    pools: Iterable[Pool],
    copies: SiteCopies | None = None,
) -> Iterator[Probed]:
    """Probe every method on every task where it has something to read; an image is read once for all methods.

    It is read once more for methods that look at images before they are shrunk, where preprocessing shrinks them.

    Args:
        images: How images become features.
        probe: How features are probed.
        sources: Method → what computes its features of images; None for what is known beside the image.
        pools: The tasks.
        copies: What computes the features of those who are tested, of methods that are adapted to their sites.

    Yields:
        Task after task, and of each one method after another; of an adapted one, features and ids are those of
        `site_batch_norm.put_apart`. What is known beside the image is named after what of it is known.
    """
    for pool in pools:
        if said := filled_in(probe.adjust, columns_of(probe.adjust, pool.records)):
            logger.warning(f"{pool.task}, to be removed from all features: {said}")
        found = features_of_pool(images, sources, pool)
        line = known_beside(pool) if KNOWN in found else None
        apart = put_apart(pool) if copies else None
        adapted = copies.features(apart) if copies and apart else {}
        for method, features in found.items():
            logger.info(f"{pool.task}: probing {method}")
            own = pool
            if apart and method in adapted:
                own, features = apart.pool, np.concatenate([features[apart.kept], adapted[method]])
            name = line[0] if line and method == KNOWN else method
            scores = probe.scores(method, features, own).assign(method=name)
            yield Probed(name, features, ids_of(own.records, own.task), scores)
