"""Where what is measured of a map must lie, for each modality: limits from anatomy and from what a value is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from bundle.scans.modality import GREY_MATTER, Modality

INF = math.inf
CAT12 = "give the T1w itself to `prepare`, or preprocess it with CAT12 and give mri/mwp1*.nii"


@dataclass(frozen=True)
class Limit:
    """Where a measure must lie.

    Attributes:
        unit: Unit of the measure.
        refuse: Lowest and highest value that such a map can have.
        warn: Lowest and highest value that is usual.
        source: Words that say where the limits come from.
        low: What to do about a value that is too low.
        high: What to do about a value that is too high.
    """

    unit: str
    refuse: tuple[float, float]
    warn: tuple[float, float]
    source: str
    low: str
    high: str


LIMITS = {
    "lowest value": Limit(
        "", (-0.1, 0.3), (-0.02, 0.05), "a density is not negative",
        f"negative values are no grey matter (a CT, or a z-scored map?); {CAT12}",
        "there is no background; give the whole map, not a cut-out",
    ),
    "highest value": Limit(
        "", (0.3, 6.0), (0.5, 3.0), "modulated density is a probability times a change of volume",
        "the values are too small for grey matter; do not rescale the map",
        f"the values are those of a raw or rescaled image, not of grey matter; {CAT12}",
    ),
    "background": Limit(
        "% of voxels", (30.0, 97.0), (50.0, 92.0), "grey matter fills a tenth to a third of the MNI box",
        f"too few voxels are empty, as in an image with skull or with noise; {CAT12}",
        f"almost all voxels are empty; the map is cut off or lies elsewhere; {CAT12}",
    ),
    "grey matter": Limit(
        "mL", (250.0, 1300.0), (350.0, 1100.0), "adults have 400 to 900 mL; templates used as images about 1,000 mL",
        "is the map complete, and neither rescaled nor in another unit?",
        "is the map rescaled, or modulated twice?",
    ),
    "outside the brain": Limit(
        "% of the sum", (-INF, 12.0), (-INF, 6.0), "the MNI152 brain mask (nilearn)",
        "", f"there is signal where no brain is: skull, or not in MNI space; {CAT12}",
    ),
    "likeness to grey matter": Limit(
        "correlation", (0.5, INF), (0.6, INF), "the MNI152 grey-matter template; 0.5 is usual quality control",
        f"the map does not fit the template: another tissue, another space, or turned; {CAT12}", "",
    ),
    "likeness to another tissue": Limit(
        "more than to grey matter (correlation)", (-INF, 0.0), (-INF, -0.03), "the MNI152 templates (nilearn)",
        "", f"the image looks like white matter or a T1w, not like grey matter; {CAT12}",
    ),
    "plateau": Limit(
        "% of grey matter at the highest value", (-INF, INF), (-INF, 1.0),
        "probabilities are 1 in many voxels, modulated values vary",
        "", "many voxels share the highest value: is the map unmodulated (wp1), or clipped?",
    ),
}  # fmt: skip


@lru_cache(maxsize=32)
def limits_of(modality: Modality) -> dict[str, Limit]:
    """What is measured of a map, and where it must lie.

    Args:
        modality: Modality of the map, of one channel.
    """
    if modality == GREY_MATTER:
        return LIMITS
    known = f"what {modality.quantity} can be"
    other = f"is this a {modality.words}, in the unit that the modality states ({modality.unit or 'none'})?"
    found = {
        "lowest value": Limit(modality.unit, modality.lowest, modality.lowest, known, other, other),
        "highest value": Limit(modality.unit, modality.highest, modality.highest, known, other, other),
        "background": Limit(
            "% of voxels", (30.0, 97.0), (40.0, 95.0), "a brain fills a tenth to a third of the MNI box",
            "too few voxels are empty; the brain has to be extracted",
            "almost all voxels are empty; the map is cut off or lies elsewhere",
        ),
        "outside the brain": Limit(
            "% of the sum", (-INF, modality.outside[1]), (-INF, modality.outside[0]), "the MNI152 brain mask (nilearn)",
            "", "there is signal where no brain is: skull, or not in MNI space",
        ),
        likeness(modality): Limit(
            "correlation", (modality.likeness[0], INF), (modality.likeness[1], INF),
            "an MNI152 template (nilearn)", f"the map does not fit the template: {other}", "",
        ),
    }  # fmt: skip
    return {name: limit for name, limit in found.items() if limit.refuse != (-INF, INF)}


def likeness(modality: Modality) -> str:
    """Name of the likeness to a modality's own template."""
    return f"likeness to {modality.tissue if modality.is_amount else 'the template'}"
