"""What adaptations of features gain and cost, read from voxels of 9 mm at sites that nobody trained on.

    python -m benchmarks.adaptation phantom eval/adaptation_phantom.csv
    python -m benchmarks.adaptation data/autism.json eval/adaptation_autism.csv

Sites are held out in turn, in the phantom two of ten together. Each line of the table is a seed, a strength of the site
effects and a value of `harmonize`: mean over what is held out of the ROC-AUC and of the error of age (years, controls),
and the balanced accuracy with which the sites of the other half of all controls are read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from monai.transforms import Resize
from numpy.typing import NDArray

from bundle.cohort.datalist import load_sections
from bundle.cohort.folds import Trial
from bundle.evaluation import knowledge, probing
from bundle.evaluation.harmonizing import KINDS, Harmonizing
from bundle.metrics.classification import roc_auc
from bundle.phantom import fields, model
from bundle.phantom.cohort import draw_factors
from bundle.scans.volumes import read_volume

STRENGTHS = {"weak": 0.3, "realistic": 1.0, "strong": 3.0}  # of what a site does, as a factor of the phantom's own
PEOPLE, CELL, SHAPE, SEEDS = 480, 9.0, (20, 24, 20), range(5)
FEWEST = 20  # people of what is held out
PENALTIES = (1e-5, 1e-4)
MIDDLE = {"smoothing": (0.8 + 1.9) / 2, "noise": (0.03 + 0.08) / 2}  # of all sites
Records = list[dict[str, Any]]


def phantoms() -> Iterator[tuple[dict[str, Any], NDArray, Records, list[list[str]]]]:
    """Features and people of each seed and strength; the anatomy of a seed is the same at all strengths."""
    for seed in SEEDS:
        people = draw_factors("alzheimer", PEOPLE, seed).to_dict("records")
        sites = sorted({person["site"] for person in people})
        held = [sites[start : start + 2] for start in range(0, len(sites), 2)]
        brains = [model.render(person, resolution=CELL, with_site=False) for person in people]
        for name, factor in STRENGTHS.items():
            volumes = [scanned(*one, seed, factor) for one in zip(brains, people, strict=True)]
            yield {"seed": seed, "strength": name}, features_of(volumes), people, held


def scanned(brain: NDArray, person: dict[str, Any], seed: int, factor: float) -> NDArray:
    """A brain as a scanner shows it whose effect is so many times the phantom's own."""
    own = fields.site_effect(person["site"], seed)
    parts = {name: max(0.0, mid + factor * (getattr(own, name) - mid)) for name, mid in MIDDLE.items()}
    effect = replace(own, gain=1 + factor * (own.gain - 1), bias=factor * own.bias, **parts)
    noise = np.random.default_rng(person["texture_seed"] + 1)
    return fields.under_effect(brain.copy(), model.template(CELL), effect, noise, CELL)


def cohort(datalist: Path) -> Iterator[tuple[dict[str, Any], NDArray, Records, list[list[str]]]]:
    """Features and people of a datalist; the smallest sites are held out together, until they have 20 people."""
    people = [r for records in load_sections(datalist).values() for r in records if r["label"] in (0, 1)]
    shrink = Resize(SHAPE, mode="area")
    volumes = [np.asarray(shrink(read_volume(Path(r["image"])).squeeze()[None]))[0] for r in people]
    sizes = pd.Series([r["site"] for r in people]).value_counts()
    small = max(1, int((sizes[::-1].cumsum() < FEWEST).sum()) + 1)
    held = [[site] for site in sizes.index[:-small]] + [sizes.index[-small:].tolist()]
    yield {"seed": 0, "strength": "people"}, features_of(volumes), people, held


def features_of(volumes: Sequence[NDArray]) -> NDArray[np.float32]:
    """Volumes of mean 0 and standard deviation 1, as voxels."""
    rows = np.stack([volume.ravel() for volume in volumes]).astype(np.float64)
    return ((rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True)).astype(np.float32)


def measured(features: NDArray, people: Records, held: list[list[str]], kind: str) -> dict[str, float]:
    """What one value of `harmonize` comes to."""
    how, sites = Harmonizing(kind), np.array([person["site"] for person in people])
    parts = [(np.flatnonzero(~np.isin(sites, away)), np.flatnonzero(np.isin(sites, away))) for away in held]
    trials = [Trial(len(train), draw, train, test) for draw, (train, test) in enumerate(parts)]
    tables = probing.probe_diagnosis("voxels", features, people, trials, PENALTIES, "none", harmonizing=how)
    aucs = [float(roc_auc(table["label"], table["score"])) for table in tables]
    well = np.array([person["label"] == 0 for person in people])
    errors = [age_error(features, people, train[well[train]], test[well[test]], how) for train, test in parts]
    shuffled = np.random.default_rng(0).permutation(np.flatnonzero(well))
    order = shuffled[np.argsort(sites[shuffled], kind="stable")]
    halves = [(features[rows], [people[row] for row in rows]) for rows in (order[::2], order[1::2])]
    return {
        "auc": float(np.mean(aucs)),
        "age_error": float(np.mean(errors)),
        "site_accuracy": knowledge.probe_site(*halves[0], *halves[1], how),
        "aucs": " ".join(f"{value:.4f}" for value in aucs),  # type: ignore[dict-item]
        "age_errors": " ".join(f"{value:.4f}" for value in errors),  # type: ignore[dict-item]
    }


def age_error(features: NDArray, people: Records, train: NDArray, test: NDArray, how: Harmonizing) -> float:
    """Error of age of controls at sites that nobody was fitted at."""
    fit, new = (knowledge.Aged.of(features[rows], [people[row] for row in rows]) for rows in (train, test))
    return float(knowledge.probe_age("voxels", fit, new, how)["mae"])


def main(source: str, output: str) -> None:
    """Write the table, again after each line."""
    rows = []
    for known, features, people, held in phantoms() if source == "phantom" else cohort(Path(source)):
        for kind in KINDS:
            rows.append({**known, "harmonize": kind, **measured(features, people, held, kind)})
            Path(output).parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(rows).to_csv(output, index=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
