"""What an encoder has to beat: which lines are asked, and what each of them reads of a subject."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bundle.evaluation.features import Extractor, Images, voxels
from bundle.evaluation.native import SOURCES, NativeImages
from bundle.evaluation.plan import FEATURES, KNOWN, SITE, VOXELS, references_of
from bundle.evaluation.side_by_side import OfSecond, SideBySide, of_second, put_side_by_side
from bundle.evaluation.subjects import Pool
from bundle.evaluation.unknown import known_line, require_readable

# Of a method's features: images, images before shrinking, what is known, or a second modality's maps and both.
Source = Extractor | NativeImages | OfSecond | SideBySide | None
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class References:
    """The reference lines of a study.

    Args:
        images: How images become features.
        names: `all`, or names of lines; see `plan.references_of`.
        atlas: File of regions; see `native.NativeImages`.
        mask: File of a mask; see `native.NativeImages`.

    Raises:
        ValueError: for a name that is no line's; or a file that no line would read.
    """

    images: Images
    names: str | Sequence[str] = "all"
    atlas: str | None = None
    mask: str | None = None

    def __post_init__(self) -> None:
        for feature, option in SOURCES.items():
            if getattr(self, option) is not None and feature not in self._read_natively:
                lines = [name for name, of in FEATURES.items() if of == feature]
                raise ValueError(
                    f"`{option}` was given, but `references` leaves out {' and '.join(map(repr, lines))}, which read "
                    f"it. Add one of them, or leave `{option}` out."
                )

    @cached_property
    def asked(self) -> tuple[str, ...]:
        """Names of the lines, in the order of tables."""
        return references_of(self.names)

    @cached_property
    def native(self) -> NativeImages:
        """Images before anything shrinks them."""
        return NativeImages(self.images, self.atlas, self.mask)

    @property
    def _read_natively(self) -> set[str]:
        return {FEATURES[name] for name in self.asked if name in FEATURES}

    def sources(self) -> dict[str, Source]:
        """What gives the features of each line that needs no encoder."""
        given: dict[str, Source] = {VOXELS: voxels, **dict.fromkeys(FEATURES, self.native), KNOWN: None, SITE: None}
        return {name: source for name, source in given.items() if name in self.asked}

    def of_age(self) -> dict[str, Source]:
        """What gives the features of each line of the age probe that needs no encoder."""
        given: dict[str, Source] = {VOXELS: voxels} if VOXELS in self.asked else {}
        return {**given, **{name: self.native for name in SOURCES if name in self._read_natively}}

    def check(self, sets: Iterable[tuple[Sequence[Mapping], str]]) -> None:
        """Refuse what the lines would misread, before anything is computed: ages that nobody has, or a file of regions.

        Args:
            sets: Records, and words that say whose they are.

        Raises:
            ValueError: see `unknown.require_readable` and `NativeImages.extractors`.
        """
        for records, what in sets:
            require_readable(records, what)
            self.native.extractors(self._read_natively, records, what)


def features_of_records(
    images: Images, sources: Mapping[str, Source], records: Sequence[Mapping], what: str
) -> dict[str, NDArray]:
    """Features of images, an image read once, and once more where some are shrunk and others not.

    Args:
        images: How images become features.
        sources: Name → what gives its features; those of `native.SOURCES` by their own names.
        records: Records.
        what: Words that say whose they are, for messages.

    Returns:
        Name → features, without those whose images lie at an unknown place, and those known beside the image.
    """
    kinds = (NativeImages, OfSecond, SideBySide)
    plain = {name: one for name, one in sources.items() if one is not None and not isinstance(one, kinds)}
    second = of_second(sources, records)
    native = next((one for one in sources.values() if isinstance(one, NativeImages)), None)
    if native is None:
        return {**images.features(plain, records), **second}
    asked = {FEATURES.get(name, name) for name, one in sources.items() if isinstance(one, NativeImages)}
    own = native.extractors(asked, records, what)
    if native.own is images:
        return {**images.features({**plain, **own}, records), **second}
    return {**images.features(plain, records), **native.own.features(own, records), **second}


def features_of_pool(images: Images, sources: Mapping[str, Source], pool: Pool) -> dict[str, NDArray]:
    """Features of each method in a pool, without methods that have nothing to read there.

    Args:
        images: How images become features.
        sources: Method → what gives its features.
        pool: A task.

    Shape:
        each output (subjects of the pool, p).
    """
    found = features_of_records(images, sources, pool.records, f"the task {pool.task}")
    put_side_by_side(sources, found, pool.training)
    found |= {KNOWN: line[1]} if KNOWN in sources and (line := known_beside(pool)) is not None else {}
    found |= {SITE: sites} if SITE in sources and (sites := sites_of(pool)) is not None else {}
    return {method: found[FEATURES.get(method, method)] for method in sources if FEATURES.get(method, method) in found}


def known_beside(pool: Pool) -> tuple[str, NDArray[np.float64]] | None:
    """Name and columns of what is known beside the image; see `unknown.known_line`.

    Args:
        pool: A task.
    """
    return known_line(pool.records, pool.training)


def sites_of(pool: Pool) -> NDArray[np.float64] | None:
    """A column for each site that trains; None where nobody is tested at a site that does, or one site trains.

    A subject of another site, or of an unknown one, is zero in all columns.

    Args:
        pool: A task.

    Shape:
        output (subjects of the pool, sites that train).
    """
    sites = np.array([str(record.get("site") or "") for record in pool.records])
    training = {site for trial in pool.trials for site in sites[trial.train]} - {""}
    seen = any((np.isin(sites[t.test], sites[t.train]) & (sites[t.test] != "")).any() for t in pool.trials)
    return one_hot(sites, training) if seen and len(training) > 1 else None


def one_hot(sites: NDArray, known: Collection[str]) -> NDArray[np.float64]:
    """A column for each known site, in their order by name.

    Shape:
        sites (N,), output (N, known).
    """
    return (sites[:, None] == np.array(sorted(known), dtype=str)).astype(np.float64)
