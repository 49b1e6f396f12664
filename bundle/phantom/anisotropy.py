"""The phantom's second modality: maps of fractional anisotropy (FA) of the people who have a grey-matter map.

An image is `0.14 * grey + white * level * (1 + sum_r amplitude_r * tract_r + texture)`, warped as the person's grey
matter is, then the effects of the diffusion scanner of the person's site. What a person's two maps have in common are
the causes: age and brain age, sex, severity, and the global factor in part. FA of each tract is drawn first; amplitudes
are then solved so that the image has it.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from bundle.phantom import tables, tracts
from bundle.phantom.fields import (
    CONTROL_MM,
    Array,
    axes,
    bend_of,
    displaced,
    generator,
    on_grid,
    random_waves,
    template_at,
    through_scanner,
    waves,
)
from bundle.phantom.tracts import BILATERAL, MIDLINE, PAIRED, PAIRING, PARTS, TRACTS
from bundle.scans.regions import SIDES, soft_inside

FA = "fa"  # ending of everything that is of this modality
NORMALS = 1 + len(BILATERAL) + len(PAIRED)  # standard normal numbers behind a person's tracts


# Tracts


@lru_cache(maxsize=4)
def tract_weights(resolution: float) -> Array:
    """Soft membership of every voxel in the tracts `PARTS`; they add up to one everywhere.

    Args:
        resolution: Voxel size in mm.

    Shape: (30, X, Y, Z): about the midline, left hemisphere, right hemisphere, the rest.
    """
    x, y, z = np.ix_(*axes(resolution))
    soft = [soft_inside(TRACTS[name].place, (x, y, z)) for name in MIDLINE]
    soft += [soft_inside(TRACTS[name].place, (side * x, y, z)) for side in SIDES.values() for name in PAIRED]
    weights = np.stack(soft)
    weights /= np.maximum(weights.sum(0), 1)
    return np.concatenate([weights, 1 - weights.sum(0, keepdims=True)])


@lru_cache(maxsize=4)
def levels(resolution: float) -> Array:
    """FA that a voxel has where it is white matter, (X, Y, Z)."""
    of_tract = np.array([*(tract.level for tract in TRACTS.values()), tracts.REST_LEVEL])
    return np.tensordot(of_tract[PAIRING], tract_weights(resolution), axes=1).astype(np.float32)


@lru_cache(maxsize=4)
def anisotropy_template(resolution: float) -> Array:
    """FA of everybody's mean at 40 years, without a scanner.

    Args:
        resolution: Voxel size in mm.

    Shape: (X, Y, Z) of `reference_grid`.

    Source: Fonov et al. 2011, through nilearn, for the tissues; levels of `tracts`.
    """
    points = list(np.ix_(*axes(resolution)))
    grey, white = (template_at(points, resolution, tissue) for tissue in ("grey", "white"))
    return tracts.GREY_FA * grey + white * levels(resolution)


@lru_cache(maxsize=2)
def _held(resolution: float) -> Array:
    """White matter of the template in each tract, weighted with its FA, (30, voxels)."""
    white = template_at(list(np.ix_(*axes(resolution))), resolution, "white") * levels(resolution)
    return tract_weights(resolution).reshape(len(PARTS), -1) * white.ravel()


def tract_means(relative: Array, resolution: float) -> Array:
    """FA of each of `PARTS`, relative to the template.

    Args:
        relative: FA of the white matter of each voxel, relative to the template.
        resolution: Voxel size in mm.

    Shape: (X, Y, Z) to (30,).
    """
    held = _held(resolution)
    return held @ relative.ravel() / held.sum(1)


@lru_cache(maxsize=1)
def _inverse_overlap() -> Array:
    """Amplitudes that change one tract's mean by one unit, and no other's."""
    held = _held(CONTROL_MM).astype(np.float64)
    weights = tract_weights(CONTROL_MM).reshape(len(PARTS), -1).astype(np.float64)
    return np.linalg.inv(held @ weights.T / held.sum(1, keepdims=True))


# People


def disease_shift(task: str) -> Array:
    """Relative change of FA of `BILATERAL` in an average patient, shape (17,).

    A Cohen's d counts the pooled scatter of controls and of patients, whose severity varies.

    Args:
        task: One of `tables.TASKS`.
    """
    effects = [*(tract.effects for tract in TRACTS.values()), tracts.REST_EFFECTS]
    d = np.array(effects)[:, tables.TASKS.index(task)]
    in_controls = d / np.sqrt(1 - d**2 * tables.SEVERITY_SD**2 / 2)
    ageing = tables.BRAIN_AGE_SD * tracts.age_slope(tables.COHORTS[task].ages[1].mean)
    return in_controls * np.sqrt((tracts.SCATTER / 100) ** 2 + ageing**2)


def draw_tracts(cohort: str, people: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """FA of each tract of some people of the phantom, relative to the template.

    Args:
        cohort: "pretraining" or one of `tables.TASKS`.
        people: Rows of `draw_factors`: what the two modalities have in common.
        seed: Seed of the whole phantom.

    Returns:
        Columns participant_id, session_id, general_factor (SD), and `PARTS`.
    """
    normal = np.stack([generator(seed, f"{name} {FA}").standard_normal(NORMALS) for name in people["participant_id"]])
    male = (people["sex"] == "M").to_numpy(float)
    shared = tracts.SHARED_WITH_GREY
    own = np.sqrt(1 - shared**2) * normal[:, 0]
    general = shared * people["global_factor"].to_numpy() + own + tracts.SEX_D * (male - 0.5)
    scatter = tracts.SCATTER / 100
    special = np.sqrt(1 - tracts.GENERAL_SHARE) * normal[:, 1 : 1 + len(BILATERAL)]
    change = tracts.age_curve(people["brain_age"].to_numpy())
    change += scatter * (np.sqrt(tracts.GENERAL_SHARE) * general[:, None] + special)
    if cohort in tables.TASKS:
        change += people["severity"].to_numpy()[:, None] * disease_shift(cohort)
    aside = normal[:, 1 + len(BILATERAL) :] * tracts.ASYMMETRY * scatter
    middle, rest = np.zeros((len(people), len(MIDLINE))), np.zeros((len(people), 1))
    drawn = 1 + change[:, PAIRING] + np.concatenate([middle, aside, -aside, rest], axis=1)
    ids = people[["participant_id", "session_id"]].reset_index(drop=True)
    return pd.concat([ids, pd.DataFrame({"general_factor": general}), pd.DataFrame(drawn, columns=list(PARTS))], axis=1)


def lacking(people: pd.DataFrame, share: float, seed: int = 0) -> Array:
    """Who has no FA map: each person by a number of their own, whatever else they are.

    Args:
        people: Rows of `draw_factors`.
        share: Share of people who lack one.
        seed: Seed of the whole phantom.

    Shape: (n,) bool.
    """
    drawn = [generator(seed, f"{name} lacks {FA}").random() for name in people["participant_id"]]
    return np.array(drawn) < share


# Images


def render_anisotropy(
    person: Mapping[str, Any],
    *,
    resolution: float = CONTROL_MM,
    seed: int = 0,
    with_site: bool = True,
) -> Array:
    """The FA map of one synthetic subject, between 0 and 1.

    Args:
        person: A row of `draw_factors` with the columns of `draw_tracts`.
        resolution: Voxel size in mm.
        seed: Seed of the whole phantom; it decides what the sites do.
        with_site: Whether the site leaves its mark.

    Shape: (X, Y, Z) of `reference_grid(resolution)`, float32.
    """
    bend = bend_of(np.random.default_rng(person["texture_seed"]))  # one head has both maps
    rng = generator(person["texture_seed"], FA)
    texture = random_waves(rng, tracts.TEXTURE_WAVES, 1.0) * tracts.TEXTURE_SD
    field = waves(texture, CONTROL_MM)
    missing = np.array([person[name] for name in PARTS]) - tract_means(1 + field, CONTROL_MM)
    weights = tract_weights(CONTROL_MM).reshape(len(PARTS), -1)
    field = field + ((_inverse_overlap() @ missing).astype(np.float32) @ weights).reshape(field.shape)
    points, _ = displaced(bend, resolution)
    grey, white = (template_at(points, resolution, tissue) for tissue in ("grey", "white"))
    volume = tracts.GREY_FA * grey + white * levels(resolution) * np.maximum(1 + on_grid(field, resolution), 0)
    if with_site:
        site = f"{person['site']} {FA}"
        volume = through_scanner(volume, anisotropy_template(resolution), site, seed, rng, resolution)
    return np.clip(volume, 0, 1).astype(np.float32)
