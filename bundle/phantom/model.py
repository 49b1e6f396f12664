"""How a subject of the phantom comes about: its regions, their volumes, its image. All synthetic.

An image is `template(warped) * (1 + sum_r amplitude_r * region_r + texture) * head size`, then the
effects of its site. The volumes of the regions are drawn first; amplitudes are then solved so that
the image has these volumes in spite of overlapping regions, warp and texture. Fields live in MNI
millimetres, so a subject is the same at any resolution.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from bundle.phantom import tables
from bundle.phantom.fields import (
    CONTROL_MM,
    Array,
    axes,
    bend_of,
    displaced,
    on_grid,
    template_at,
    through_scanner,
    waves,
)
from bundle.phantom.tables import COHORTS, REGIONS, TASKS
from bundle.scans.regions import REGIONS as VOLUMES
from bundle.scans.regions import memberships

TIV_REFERENCE = tables.TIV_WOMEN + tables.TIV_DIFFERENCE / 2
PAIRING = np.r_[np.arange(len(REGIONS)), np.arange(len(REGIONS)), len(REGIONS)]  # of VOLUMES in BILATERAL
NORMALS = 3 + len(tables.BILATERAL) + len(REGIONS)  # standard normal numbers behind a subject's volumes


@lru_cache(maxsize=4)
def template(resolution: float) -> Array:
    """Grey-matter share of every voxel in the MNI152 2009 template that nilearn carries.

    Args:
        resolution: Voxel size in mm.

    Shape: (X, Y, Z) of `reference_grid`.

    Source: Fonov et al. 2011, through `nilearn.datasets.load_mni152_gm_template`.
    """
    return template_at(list(np.ix_(*axes(resolution))), resolution)


@lru_cache(maxsize=4)
def region_weights(resolution: float) -> Array:
    """Soft membership of every voxel in the regions `VOLUMES`; they add up to one everywhere.

    Args:
        resolution: Voxel size in mm.

    Shape: (35, X, Y, Z): left hemisphere, right hemisphere, the rest.
    """
    return memberships(np.ix_(*axes(resolution)))


def regional_volumes(volume: Array, resolution: float) -> Array:
    """Grey matter in each of `VOLUMES`, relative to the template.

    Args:
        volume: Grey-matter map on `reference_grid(resolution)`.
        resolution: Voxel size in mm.

    Shape: (X, Y, Z) to (35,).
    """
    weights = region_weights(resolution).reshape(len(VOLUMES), -1)
    return weights @ volume.ravel() / _template_volumes(resolution)


@lru_cache(maxsize=4)
def _template_volumes(resolution: float) -> Array:
    return region_weights(resolution).reshape(len(VOLUMES), -1) @ template(resolution).ravel()


@lru_cache(maxsize=1)
def _overlap() -> Array:
    """Relative volume of each region (row) per unit amplitude in each region (column)."""
    weights = region_weights(CONTROL_MM).reshape(len(VOLUMES), -1)
    held = (weights * template(CONTROL_MM).ravel()).astype(np.float64)
    return held @ weights.T / held.sum(1, keepdims=True)


# Volumes


@lru_cache(maxsize=1)
def shares() -> Array:
    """Share of the grey matter that lies in each of `VOLUMES`."""
    held = (region_weights(CONTROL_MM) * template(CONTROL_MM)).sum((1, 2, 3), dtype=np.float64)
    return held / held.sum()


@lru_cache(maxsize=1)
def _global_field() -> Array:
    """The factor all regions share unevenly: unit root mean square, centred, control grid."""
    coefficients = np.zeros((6, 6, 6))
    for wave, height in tables.GLOBAL_WAVES.items():
        coefficients[wave] = height
    field, weight = waves(coefficients, CONTROL_MM), template(CONTROL_MM)
    regional = np.linalg.inv(_overlap()) @ (regional_volumes(weight * (1 + field), CONTROL_MM) - 1)
    regions = np.tensordot(regional, region_weights(CONTROL_MM), axes=1)
    field = field - tables.GLOBAL_EVENNESS * regions
    field = field - (field * weight).sum() / weight.sum()
    return field / np.sqrt((field**2 * weight**2).sum() / (weight**2).sum())


@lru_cache(maxsize=1)
def _global_loadings() -> Array:
    """What one unit of the global factor does to each of `VOLUMES`."""
    grey = template(CONTROL_MM) * (1 + tables.GLOBAL_SD * _global_field())
    return regional_volumes(grey, CONTROL_MM) - 1


def _bilateral_loadings() -> Array:
    return np.bincount(PAIRING, _global_loadings() * shares()) / np.bincount(PAIRING, shares())


@lru_cache(maxsize=1)
def _scatter_factor() -> Array:
    """Square root (18, 18) of the covariance of bilateral volumes beside brain age and global factor.

    Every region has its own part; one part common to all makes up the scatter of the total.
    """
    part = np.bincount(PAIRING, shares())
    rates = np.array([r.rate for r in REGIONS.values()])
    variance = np.array([r.scatter for r in REGIONS.values()]) ** 2 - (tables.BRAIN_AGE_SD * rates) ** 2
    variance = np.append(variance - (100 * _bilateral_loadings()[:-1]) ** 2, tables.REST_SCATTER**2)
    total = tables.TOTAL_SCATTER**2 - (tables.BRAIN_AGE_SD * tables.TOTAL_RATE) ** 2
    common = (total - part**2 @ variance) / (1 - part[:-1] @ part[:-1])
    variance[:-1] -= common
    return np.linalg.cholesky(np.diag(variance) + common) / 100


def disease_shift(task: str) -> Array:
    """Relative volume change of the bilateral regions in an average patient, shape (18,).

    A Cohen's d counts the pooled scatter of controls and of patients, whose severity varies.

    Args:
        task: One of `TASKS`.

    Source: effects of `phantom_tables`.
    """
    effects = [*(r.effects for r in REGIONS.values()), tables.REST_EFFECTS]
    d = np.array(effects)[:, TASKS.index(task)]
    in_controls = d / np.sqrt(1 - d**2 * tables.SEVERITY_SD**2 / 2)
    ageing = tables.BRAIN_AGE_SD * tables.age_slope(COHORTS[task].ages[1].mean)
    scatter = np.sqrt((_scatter_factor() ** 2).sum(1) + _bilateral_loadings() ** 2 + ageing**2)
    return in_controls * scatter


def relative_volumes(known: Mapping[str, Array], normal: Array, cohort: str) -> dict[str, Array]:
    """Latent factors and the volumes they cause, relative to the template, head size removed.

    Args:
        known: Age (years), male (0 or 1) and patient (0 or 1), each of shape (n,).
        normal: Standard normal numbers, shape (n, NORMALS).
        cohort: "pretraining" or one of `TASKS`.

    Returns:
        brain_age (years), severity, atrophy (what age and disease do to the total), global_factor (SD), each (n,),
        and volumes (n, 35).
    """
    brain_age = known["age"] + tables.BRAIN_AGE_SD * normal[:, 0]
    severity = known["patient"] * (1 + tables.SEVERITY_SD * normal[:, 1])
    last = NORMALS - len(REGIONS)
    loss = tables.age_curve(brain_age)
    if cohort in TASKS:
        loss += severity[:, None] * disease_shift(cohort)
    change = loss + normal[:, 3:last] @ _scatter_factor().T
    sex = tables.SEX_GIVEN_TIV * tables.TOTAL_SCATTER / 100 * (known["male"] - 0.5)
    scatter = np.array([r.scatter for r in REGIONS.values()]) / 100
    aside = normal[:, last:] * tables.ASYMMETRY * scatter
    sides = np.concatenate([aside, -aside, 0 * aside[:, :1]], axis=1)
    volumes = 1 + change[:, PAIRING] + sides + sex[:, None]
    volumes += normal[:, 2:3] * _global_loadings()
    return {
        "brain_age": brain_age,
        "severity": severity,
        "atrophy": loss @ np.bincount(PAIRING, shares()),
        "global_factor": normal[:, 2],
        "volumes": volumes,
    }


@lru_cache(maxsize=1)
def _modes() -> tuple[tuple[Array, ...], Array]:
    """Waves of the lowest frequencies, and the matrix that mixes normal numbers into them.

    The modes are orthogonal over the grey matter and leave regional volumes alone; their SD falls
    as a power of their number, so that a few carry much and many carry little.
    """
    index = np.indices((tables.WAVES,) * 3).reshape(3, -1)
    order = np.argsort((index**2).sum(0), kind="stable")[1 : tables.MODE_COUNT + 1]
    chosen = tuple(index[:, order])
    inside = template(CONTROL_MM) > 0.02
    fields = np.stack([waves(_one_wave(w), CONTROL_MM)[inside] for w in zip(*chosen, strict=True)])
    weights, grey = region_weights(CONTROL_MM)[:, inside], template(CONTROL_MM)[inside]
    measured = (fields * grey) @ weights.T / (weights @ grey)
    fields -= measured @ np.linalg.inv(_overlap()).T @ weights
    gram = (fields * grey**2).astype(np.float64) @ fields.T / (grey.astype(np.float64) ** 2).sum()
    sd = np.arange(1, tables.MODE_COUNT + 1) ** (-tables.MODE_DECAY / 2)
    sd *= tables.MODE_SD / np.linalg.norm(sd)
    return chosen, sd[:, None] * np.linalg.inv(np.linalg.cholesky(gram))


def _one_wave(wave: tuple[int, ...]) -> Array:
    coefficients = np.zeros((tables.WAVES,) * 3)
    coefficients[wave] = 1
    return coefficients


def _texture(person: Mapping[str, Any], rng: np.random.Generator) -> Array:
    """Relative deviations within regions: modes, the global factor, wider sulci where grey matter was lost."""
    chosen, mixing = _modes()
    coefficients = np.zeros((tables.WAVES,) * 3)
    coefficients[chosen] = rng.standard_normal(tables.MODE_COUNT) @ mixing
    field = waves(coefficients, CONTROL_MM)
    field += tables.GLOBAL_SD * person["global_factor"] * _global_field()
    rim = 1 - template(CONTROL_MM) / template(CONTROL_MM).max()
    return field + tables.RIM_LOSS * person["atrophy"] * rim


def _warped_template(coefficients: Array, resolution: float) -> Array:
    """The template under a smooth displacement (mm), modulated by its volume change."""
    points, growth = displaced(coefficients, resolution)
    return template_at(points, resolution) * growth


def _meet_volumes(warped: Array, field: Array, volumes: Array) -> Array:
    """Add to a relative field the regional amplitudes that give a subject its volumes."""
    weights = region_weights(CONTROL_MM).reshape(len(VOLUMES), -1)
    inverse = np.linalg.inv(_overlap())
    for _ in range(3):
        missing = volumes - regional_volumes(warped * np.maximum(1 + field, 0), CONTROL_MM)
        field = field + ((inverse @ missing).astype(np.float32) @ weights).reshape(field.shape)
    return field


def render(
    person: Mapping[str, Any],
    *,
    resolution: float = CONTROL_MM,
    seed: int = 0,
    with_site: bool = True,
) -> Array:
    """The modulated grey-matter map of one synthetic subject.

    Args:
        person: A row of `draw_factors`.
        resolution: Voxel size in mm.
        seed: Seed of the whole phantom; it decides what the sites do.
        with_site: Whether the site leaves its mark.

    Shape: (X, Y, Z) of `reference_grid(resolution)`, float32.
    """
    rng = np.random.default_rng(person["texture_seed"])
    bend = bend_of(rng)
    warped = _warped_template(bend, CONTROL_MM)
    volumes = np.array([person[name] for name in VOLUMES])
    field = _meet_volumes(warped, _texture(person, rng), volumes)
    if resolution != CONTROL_MM:
        warped = _warped_template(bend, resolution)
    grey = warped * np.maximum(1 + on_grid(field, resolution), 0)
    grey *= np.float32(person["tiv"] / TIV_REFERENCE)
    if not with_site:
        return grey
    return through_scanner(grey, template(resolution), person["site"], seed, rng, resolution)
