"""What the phantom cohort is calibrated to: regions, ageing, scatter, disease effects, cohorts.

These are targets for synthetic images of a phantom. They are not measurements of patients.

Sources. Regional ageing and scatter: public normative regional volumes of healthy adults (IXI and
a public centile table). Hippocampus: Fraser et al. 2015 and Barnes et al. 2009, meta-analyses of
its shrinkage with age. Schizophrenia and bipolar disorder: ENIGMA working groups (cortical values
measured as thickness). Alzheimer's disease: Shi et al. 2009 for the hippocampus, approximate
elsewhere. Where the regions lie: `scans.regions`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Region:
    """What happens to one of the regions of `scans.regions`, in both hemispheres.

    Attributes:
        rate: Ordinary-least-squares slope of its volume on age at 40 to 86, percent per year.
        scatter: SD of its volume after age, sex, head size and site, percent.
        effects: Cohen's d in schizophrenia, bipolar disorder, Alzheimer's disease.
        youth: Maturation loss relative to the cortex.
    """

    rate: float
    scatter: float
    effects: tuple[float, float, float] = (0.0, 0.0, 0.0)
    youth: float = 1.0


TASKS = ("schizophrenia", "bipolar", "alzheimer")  # the order of Region.effects

# Scatter: hippocampus, thalamus, amygdala, entorhinal as published, the others spread over the
# published range 7.9 to 11.7 with mean 9.4. Rates without a published value (amygdala, medial
# frontal, pars opercularis, precuneus, cerebellum) follow their neighbours; so do the effects of
# middle frontal (as superior frontal) and parietal (as precuneus). The cerebellum has no effect.
# Fraser's longitudinal rates of the hippocampus (-0.4 to -1.4 percent per year) and its
# cross-sectional slope (-0.18, -0.0057 per year) exclude each other; the latter is used.
REGIONS: dict[str, Region] = {
    "hippocampus": Region(-0.18, 7.3, (-0.46, -0.17, -1.55), 0.2),
    "amygdala": Region(-0.25, 7.9, (-0.31, -0.12, -1.40), 0.2),
    "entorhinal": Region(-0.30, 10.1, (-0.18, -0.06, -1.60)),
    "thalamus": Region(-0.43, 5.2, (-0.31, -0.14, -0.50), 0.5),
    "caudate": Region(-0.12, 9.0, (0.02, -0.10, -0.30), 0.5),
    "insula": Region(-0.47, 7.9, (-0.41, -0.18, -0.80)),
    "superior_temporal": Region(-0.47, 8.8, (-0.44, -0.20, -1.00)),
    "inferior_temporal": Region(-0.30, 9.2, (-0.48, -0.25, -1.15)),
    "superior_frontal": Region(-0.51, 8.6, (-0.41, -0.24, -0.60)),
    "middle_frontal": Region(-0.47, 9.1, (-0.40, -0.24, -0.60)),
    "medial_frontal": Region(-0.47, 9.9, (-0.24, -0.21, -0.60)),
    "pars_opercularis": Region(-0.45, 11.7, (-0.40, -0.27, -0.60)),
    "precuneus": Region(-0.35, 9.4, (-0.30, -0.20, -0.90)),
    "parietal": Region(-0.33, 9.6, (-0.30, -0.20, -0.90)),
    "occipital": Region(-0.21, 10.4, (-0.08, 0.02, -0.20)),
    "precentral": Region(-0.39, 9.2, (-0.33, -0.20, -0.30)),
    "cerebellum": Region(-0.30, 8.4, (0.0, 0.0, 0.0), 0.5),
}
BILATERAL = (*REGIONS, "rest")
REST_RATE, REST_YOUTH = -0.51, 1.0  # the grey matter outside the regions, so that the total meets TOTAL_RATE
SUBCORTICAL = ("hippocampus", "amygdala", "thalamus", "caudate", "cerebellum")
REST_EFFECTS = tuple(  # the grey matter outside the regions is mostly cortex: the mean effect of the named cortex
    float(np.mean([region.effects[task] for name, region in REGIONS.items() if name not in SUBCORTICAL]))
    for task in range(len(TASKS))
)

# Ageing, percent. The two published slopes of total grey matter (-0.38 at 45-85, about -0.8 after
# 65) exclude each other for a curve that falls throughout adult life; these values lie between.
TOTAL_RATE = -0.43  # slope at 40-86, percent per year
ACCELERATION_FROM = 55.0  # years; constant slope before, linearly steeper after
ACCELERATION = 0.04  # change of slope per year, as a share of the rate at 40-86
HIPPOCAMPUS_ACCELERATION = 0.07
YOUTH_LOSS = 8.0  # percent lost around YOUTH_AGE over a few times YOUTH_WIDTH
YOUTH_AGE, YOUTH_WIDTH = 16.0, 5.0  # years
REFERENCE_AGE = 40.0  # years; here the template's volumes hold

# Scatter after age, sex, head size and site.
TOTAL_SCATTER = 3.2  # percent
BRAIN_AGE_SD = 5.5  # years, along the ageing pattern
ASYMMETRY = 0.2  # of the scatter of a region, independent in every region
REST_SCATTER = 1.5  # percent; own scatter of the grey matter outside the regions
SEVERITY_SD = 1 / 3  # of the disease effect

# Scatter within regions, as a share of the local grey matter.
GLOBAL_SD = 0.065
GLOBAL_WAVES = {(0, 0, 1): 0.3, (2, 3, 2): 0.6, (4, 2, 1): 0.5, (2, 1, 4): 0.5}
GLOBAL_EVENNESS = 0.55  # share of the regional differences of the waves that is taken out
MODE_SD, MODE_COUNT, MODE_DECAY = 0.05, 200, 1.2
WAVES = 9  # cosines per axis
WARP_MM, WARP_WAVES = 0.35, 7
RIM_LOSS = 1.6  # sulci widen with the total loss, whether age or disease caused it; relative loss at the rim per that

# Head size: men minus women 1.8 SD; total grey matter given head size, in SD of its scatter.
TIV_WOMEN, TIV_DIFFERENCE, TIV_SD = 1364.0, 216.0, 120.0  # mL
SEX_GIVEN_TIV = -0.15

# Sites.
GAIN_SD = 0.02
BIAS_SD, BIAS_WAVES = 0.03, 4
SMOOTHING_MM = (0.8, 1.9)  # mm, range of the Gaussian's sigma
NOISE_SD = (0.03, 0.08)  # range, as a share of the local grey matter


@dataclass(frozen=True)
class Ages:
    """A beta distribution of ages with this mean, SD and limits, years."""

    mean: float
    sd: float
    low: float
    high: float

    def draw(self, rng: np.random.Generator, n: int) -> NDArray:
        """This many ages, years."""
        width = self.high - self.low
        mean = (self.mean - self.low) / width
        size = mean * (1 - mean) / (self.sd / width) ** 2 - 1
        return self.low + width * rng.beta(mean * size, (1 - mean) * size, n)


@dataclass(frozen=True)
class Cohort:
    """Who takes part: prefix of the ids, ages of controls and patients, sites in rotation."""

    prefix: str
    ages: tuple[Ages, ...]  # controls, then patients
    sites: str  # one letter per site: t(raining) or e(xternal test); "p" in pretraining


COHORTS: dict[str, Cohort] = {
    "pretraining": Cohort("pre", (Ages(32, 19, 6, 88),), "p" * 24),
    "schizophrenia": Cohort("scz", (Ages(32, 12, 16, 68), Ages(34, 12, 16, 68)), "tettetetet"),
    "bipolar": Cohort("bd", (Ages(38, 12, 17, 72), Ages(38, 12, 17, 72)), "tettetetet"),
    "alzheimer": Cohort("ad", (Ages(75, 5, 55, 95), Ages(75, 8, 53, 95)), "tettetetet"),
}


def _late(age: NDArray) -> NDArray:
    return np.maximum(age - ACCELERATION_FROM, 0) ** 2 / 2


def _early(age: NDArray) -> NDArray:
    return 1 / (1 + np.exp((age - YOUTH_AGE) / YOUTH_WIDTH))


def _rates() -> tuple[NDArray, NDArray, NDArray]:
    """Slope before 55 (percent per year), its change per year after, loss in youth (percent)."""
    rates = np.array([*(r.rate for r in REGIONS.values()), REST_RATE])
    share = np.where(np.array(BILATERAL) == "hippocampus", HIPPOCAMPUS_ACCELERATION, ACCELERATION)
    youth = np.array([*(r.youth for r in REGIONS.values()), REST_YOUTH]) * YOUTH_LOSS
    ages = np.linspace(40, 86, 461)
    late, early = (np.polyfit(ages, part(ages), 1)[0] for part in (_late, _early))
    return rates * (1 - share * late) - youth * early, rates * share, youth


def age_curve(age: NDArray) -> NDArray:
    """Relative volume change with age, about 0 at 40 years.

    Args:
        age: Years.

    Shape: (n,) to (n, 18), one column for each of `BILATERAL`.

    Source: the rates above, constant until 55, then steeper; beside them a loss around youth.
    """
    slope, acceleration, youth = _rates()
    steady = np.outer(age - REFERENCE_AGE, slope)
    return (steady + np.outer(_late(age), acceleration) + np.outer(_early(age), youth)) / 100


def age_slope(age: float) -> NDArray:
    """Relative volume change of each of `BILATERAL` per year at this age."""
    return np.diff(age_curve(np.array([age - 0.5, age + 0.5])), axis=0)[0]
