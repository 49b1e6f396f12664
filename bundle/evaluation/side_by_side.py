"""Features of a second modality's maps, and the features of several encoders side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.cohort.joined import SECOND, of_modality
from bundle.evaluation.features import Extractor, Images

OF_SECOND, OF_BOTH = ", second modality", ", both modalities"  # endings of names in tables


@dataclass(frozen=True)
class OfSecond:
    """What computes features of the second modality's maps.

    Args:
        images: How they become features.
        extractor: Volumes to features.
    """

    images: Images
    extractor: Extractor


@dataclass(frozen=True)
class SideBySide:
    """The features of other methods, beside each other.

    Args:
        parts: Their names.
    """

    parts: tuple[str, ...]


def of_second(sources: Mapping[str, Any], records: Sequence[Mapping]) -> dict[str, NDArray]:
    """Features of the second modality's maps, of those sources that are of them.

    Args:
        sources: Name → what gives its features.
        records: Joined records, each with both maps.

    Shape:
        each output (records, p).
    """
    asked = {name: one for name, one in sources.items() if isinstance(one, OfSecond)}
    if not asked:
        return {}
    images = next(iter(asked.values())).images
    found = images.features({name: one.extractor for name, one in asked.items()}, of_modality(records, SECOND))
    return dict(found)


def put_side_by_side(
    sources: Mapping[str, Any],
    found: dict[str, NDArray],
    rows: NDArray | slice,
    others: dict[str, NDArray] | None = None,
) -> None:
    """Add the features of several methods beside each other, where all are there.

    Each part is centred and scaled to the same mean squared length, as some subjects show it, so that none outweighs
    another by its unit.

    Args:
        sources: Name → what gives its features.
        found: Name → features of all subjects; changed in place.
        rows: Subjects that train.
        others: Features of other subjects, treated alike; changed in place.
    """
    for name, one in sources.items():
        if isinstance(one, SideBySide) and set(one.parts) <= set(found):
            parts = [(part, *_centre_and_length(found[part][rows])) for part in one.parts]
            usual = sum(length for _, _, length in parts) / len(parts)
            for features in (found, others) if others is not None else (found,):
                blocks = [((features[p] - mean) * (usual / length)).astype(np.float32) for p, mean, length in parts]
                features[name] = np.concatenate(blocks, axis=1)


def _centre_and_length(features: NDArray) -> tuple[NDArray, float]:
    """Mean of features, and root-mean-square distance from it; 1 where they are all the same."""
    mean = features.mean(0, dtype=np.float64)
    squared = sum(float(((row - mean) ** 2).sum()) for row in features) / len(features)
    return mean, float(np.sqrt(squared)) or 1.0
