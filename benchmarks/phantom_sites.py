"""Phantoms whose sites have weak, realistic or strong effects, for comparisons of encoders that are pretrained on them.

    python -m benchmarks.phantom_sites data/phantom_sites
    python -m bundle compare --config configs/adaptation_compare.yaml … --dataset_dir data/phantom_sites/strong_0

Each folder has a strength and a seed: `alzheimer.json`, patients and controls, tested on people of sites of their own,
and `pretraining.json`, the controls of the training sites, a fifth of whom validate. The anatomy of a seed is the
same at all strengths; cells are of 9 mm.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.adaptation import CELL, SEEDS, STRENGTHS, Records, scanned
from bundle.phantom import model
from bundle.phantom.cohort import WARNING, draw_factors, reference_grid

PEOPLE = 1200  # of whom three fifths train


def write(folder: Path, people: Records, brains: list[np.ndarray], seed: int, factor: float) -> None:
    """Images and datalists of one strength and seed."""
    folder.mkdir(parents=True, exist_ok=True)
    affine = reference_grid(CELL)[1]
    sections: dict[str, Records] = {"training": [], "test": []}
    for person, brain in zip(people, brains, strict=True):
        image = f"{person['participant_id']}_gm.nii.gz"
        nib.save(nib.Nifti1Image(scanned(brain, person, seed, factor).astype(np.float32), affine), folder / image)
        known = {name: person[name] for name in ("participant_id", "session_id", "site", "age", "sex", "tiv", "label")}
        sections[person["section"]].append({"image": image, **known})
    controls = [person for person in sections["training"] if person["label"] == 0]
    mixed = [controls[row] for row in np.random.default_rng(seed).permutation(len(controls))]
    fifth = len(mixed) // 5
    parts = {"alzheimer": sections, "pretraining": {"training": mixed[fifth:], "validation": mixed[:fifth]}}
    for name, part in parts.items():
        (folder / f"{name}.json").write_text(json.dumps({"description": WARNING, "phantom": True, **part}, indent=1))


def main(output: str) -> None:
    """Write all of them."""
    for seed in SEEDS:
        people = draw_factors("alzheimer", PEOPLE, seed).to_dict("records")
        brains = [model.render(person, resolution=CELL, with_site=False) for person in people]
        for name, factor in STRENGTHS.items():
            write(Path(output) / f"{name}_{seed}", people, brains, seed, factor)


if __name__ == "__main__":
    main(*sys.argv[1:])
