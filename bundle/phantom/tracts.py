"""What the phantom's maps of fractional anisotropy (FA) are set by: tracts, ageing, scatter, disease effects.

These are targets for synthetic images of a phantom. They are not measurements of patients.

Sources. Schizophrenia: Kelly et al. 2018 (ENIGMA, 4,322 people): d = −0.42 in the whole skeleton and most outside the
named tracts, −0.40 in the anterior corona radiata, −0.39 in the body and −0.37 in the genu of the corpus callosum; the
other tracts are less. Bipolar disorder: Favre et al. 2019 (ENIGMA, 3,033 people): R² = 0.041 in the corpus callosum and
0.041 and 0.040 in the cingulum, d = −0.41; less elsewhere. Alzheimer's disease: Sexton et al. 2011 (meta-analysis):
lower everywhere but in parietal white matter and the internal capsule; Nir et al. 2013 (ADNI): most in the hippocampal
cingulum, then in temporal and posterior tracts. Ageing: Cox et al. 2016 (UK Biobank, 45 to 77 years): lower with age,
most in thalamic radiations and association fibres, least in projection fibres; Westlye et al. 2010: higher until the
third decade. A general factor of all tracts: Cox et al. 2016. Where these name an order and no number, the number is an
approximation in that order; so are all values of Alzheimer's disease and all rates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.scans.regions import Ellipsoid


@dataclass(frozen=True)
class Tract:
    """A part of the white matter, and what happens to its FA.

    Attributes:
        place: Ellipsoid in the right hemisphere, or about the midline.
        level: FA at 40 years.
        rate: Ordinary-least-squares slope on age at 45 to 77, percent per year.
        effects: Cohen's d in schizophrenia, bipolar disorder, Alzheimer's disease.
    """

    place: Ellipsoid
    level: float
    rate: float
    effects: tuple[float, float, float]

    @property
    def is_midline(self) -> bool:
        """Whether it lies about the midline, in one piece."""
        return self.place.centre[0] == 0


def _tract(centre: tuple, radii: tuple, level: float, rate: float, effects: tuple) -> Tract:
    return Tract(Ellipsoid(centre, radii), level, rate, effects)


# Centres and half-axes are read off textbook atlases in MNI space, rounded.
TRACTS: dict[str, Tract] = {
    "genu": _tract((0, 28, 6), (16, 9, 12), 0.62, -0.28, (-0.37, -0.41, -0.60)),
    "body": _tract((0, -6, 26), (16, 22, 7), 0.58, -0.20, (-0.39, -0.41, -0.50)),
    "splenium": _tract((0, -38, 14), (16, 9, 12), 0.66, -0.12, (-0.25, -0.41, -0.80)),
    "cingulum": _tract((9, -8, 36), (6, 32, 8), 0.46, -0.12, (-0.27, -0.41, -0.80)),
    "hippocampal_cingulum": _tract((22, -24, -18), (7, 15, 10), 0.40, -0.15, (-0.20, -0.15, -1.20)),
    "uncinate": _tract((32, 6, -12), (9, 14, 9), 0.42, -0.22, (-0.20, -0.20, -0.90)),
    "inferior_longitudinal": _tract((41, -32, -8), (9, 28, 9), 0.46, -0.22, (-0.30, -0.20, -0.90)),
    "superior_longitudinal": _tract((38, -24, 30), (10, 32, 10), 0.46, -0.22, (-0.20, -0.15, -0.60)),
    "thalamic_radiation": _tract((14, 16, 4), (8, 16, 10), 0.45, -0.28, (-0.30, -0.20, -0.40)),
    "anterior_corona_radiata": _tract((22, 30, 12), (12, 18, 18), 0.42, -0.26, (-0.40, -0.25, -0.50)),
    "superior_corona_radiata": _tract((25, -10, 30), (9, 20, 16), 0.46, -0.12, (-0.15, -0.15, -0.20)),
    "posterior_corona_radiata": _tract((27, -44, 24), (10, 18, 16), 0.45, -0.20, (-0.20, -0.20, 0.0)),
    "internal_capsule": _tract((21, -4, 8), (9, 20, 12), 0.60, -0.10, (-0.15, -0.10, 0.0)),
    "corticospinal": _tract((15, -20, -16), (9, 10, 14), 0.60, -0.05, (-0.05, -0.05, -0.05)),
    "forceps_major": _tract((24, -72, 8), (12, 16, 14), 0.45, -0.18, (-0.20, -0.20, -0.50)),
    "cerebellar_peduncle": _tract((14, -50, -32), (12, 14, 12), 0.50, -0.05, (-0.10, -0.05, 0.0)),
}
REST = "other_white"  # the white matter outside these tracts, mostly under the cortex
REST_LEVEL, REST_RATE, REST_EFFECTS = 0.38, -0.20, (-0.42, -0.25, -0.50)
MIDLINE = tuple(name for name, tract in TRACTS.items() if tract.is_midline)
PAIRED = tuple(name for name in TRACTS if name not in MIDLINE)
BILATERAL = (*TRACTS, REST)
PARTS = (*MIDLINE, *(f"{name}_{side}" for side in ("left", "right") for name in PAIRED), REST)
PAIRING = np.array([BILATERAL.index(part.removesuffix("_left").removesuffix("_right")) for part in PARTS])
GREY_FA = 0.14  # of grey matter, in which fibres have no common direction

# Ageing, percent.
ACCELERATION_FROM, ACCELERATION = 55.0, 0.03  # years; change of slope per year after, as a share of the rate
DECLINE_FROM = 30.0  # years; before, FA does not fall
YOUTH_GAIN, YOUTH_AGE, YOUTH_WIDTH = 9.0, 12.0, 5.0  # lower in youth; percent, years, years
REFERENCE_AGE = 40.0  # years; here the levels hold
MEASURED = np.linspace(45, 77, 321)  # years of the published slopes

# Scatter after age, sex and site.
SCATTER = 6.0  # percent of a tract's FA
GENERAL_SHARE = 0.45  # of the variance of a tract is one factor of all tracts
SHARED_WITH_GREY = 0.3  # correlation of that factor with the grey matter's global factor; chosen, not published
ASYMMETRY = 0.2  # of the scatter of a paired tract, independent on each side
SEX_D = 0.2  # men minus women, of the general factor; small in published studies
TEXTURE_SD, TEXTURE_WAVES = 0.04, 9  # of the FA within tracts, as a share; cosines per axis


def _late(age: NDArray) -> NDArray:
    """Years of decline, which count more from 55 on."""
    late = np.maximum(age - ACCELERATION_FROM, 0) ** 2 / 2
    return np.maximum(age - DECLINE_FROM, 0) + ACCELERATION * late


def _early(age: NDArray) -> NDArray:
    return 1 / (1 + np.exp((age - YOUTH_AGE) / YOUTH_WIDTH))


def age_curve(age: NDArray) -> NDArray:
    """Relative change of FA with age: it rises until about 30 years and falls ever faster; 0 at 40.

    Args:
        age: Years.

    Shape: (n,) to (n, 17), one column for each of `BILATERAL`.
    """
    rates = np.array([*(tract.rate for tract in TRACTS.values()), REST_RATE])
    slope_late, slope_early = (np.polyfit(MEASURED, part(MEASURED), 1)[0] for part in (_late, _early))
    fall = (rates + YOUTH_GAIN * slope_early) / slope_late  # so that both together have the published slope
    here = np.array([REFERENCE_AGE])
    late, early = _late(age) - _late(here), _early(age) - _early(here)
    return (np.outer(late, fall) - YOUTH_GAIN * early[:, None]) / 100


def age_slope(age: float) -> NDArray:
    """Relative change of each of `BILATERAL` per year at this age."""
    return np.diff(age_curve(np.array([age - 0.5, age + 0.5])), axis=0)[0]
