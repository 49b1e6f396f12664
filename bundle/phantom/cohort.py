"""The phantom cohort: synthetic grey-matter maps with known causes, so that everything runs anywhere.

It is a phantom: nothing that is measured on it is evidence about patients. `phantom_model` says how a
subject comes about, `phantom_tables` what the cohort is calibrated to.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from bundle.files import SECTIONS, flush_all, replacing, write_json, write_text
from bundle.metrics.classification import roc_auc
from bundle.phantom import tables
from bundle.phantom.fields import CONTROL_MM, Array, generator, reference_grid, site_effect
from bundle.phantom.model import (
    NORMALS,
    PAIRING,
    VOLUMES,
    region_weights,
    regional_volumes,
    relative_volumes,
    render,
    shares,
    template,
)
from bundle.phantom.tables import COHORTS, TASKS, age_curve
from bundle.scans.nifti import PHANTOM

__all__ = [
    "TASKS",
    "VOLUMES",
    "age_curve",
    "best_achievable_auc",
    "draw_factors",
    "make_phantom",
    "reference_grid",
    "region_weights",
    "regional_volumes",
    "render",
    "site_effect",
    "template",
]

logger = logging.getLogger(__name__)

GENERATOR_VERSION = "2"
WARNING = (
    "This is a phantom: synthetic images with known causes, not scans of people. "
    "Results on it are not evidence about patients."
)
INTENSITY_STEP = 1 / 128  # images are uint8 times this
TABLE_NAMES = ("participants.tsv", "factors.tsv")
COLUMNS = ["participant_id", "session_id", "site", "age", "sex", "tiv"]


# Subjects


def _participant(cohort: str, index: int) -> str:
    return f"sub-{COHORTS[cohort].prefix}{index + 1:04d}"


def _place(cohort: str, index: int, seed: int) -> dict[str, Any]:
    """Site, label and section: balanced by design, in an order drawn per pair or block."""
    if cohort == "pretraining":
        sites = len(COHORTS[cohort].sites)
        site = generator(seed, f"sites-{index // sites}").permutation(sites)[index % sites]
        held_out = generator(seed, f"block-{index // 8}").integers(8) == index % 8
        return {"site": site, "label": None, "section": "validation" if held_out else "training"}
    site = (index // 2) % len(COHORTS[cohort].sites)
    flip = generator(seed, f"{cohort}-pair-{index // 2}").integers(2)
    section = "training" if COHORTS[cohort].sites[site] == "t" else "test"
    return {"site": site, "label": int((index + flip) % 2), "section": section}


def _draw_subject(cohort: str, index: int, seed: int) -> dict[str, Any]:
    """Everything random about one subject, as named numbers."""
    name = _participant(cohort, index)
    rng = generator(seed, name)
    place = _place(cohort, index, seed)
    male = bool(rng.integers(2))
    tiv = tables.TIV_WOMEN + male * tables.TIV_DIFFERENCE + tables.TIV_SD * rng.standard_normal()
    age = COHORTS[cohort].ages[place["label"] or 0].draw(rng, 1).item()
    normal = rng.standard_normal(NORMALS)
    return {
        "participant_id": name,
        "session_id": "ses-1",
        **place,
        "site": f"{cohort}-{place['site'] + 1:02d}",
        "age": round(age, 2),
        "sex": "M" if male else "F",
        "tiv": round(tiv, 1),
        "texture_seed": int(rng.integers(2**31)),
        "normal": normal,
    }


def draw_factors(cohort: str, n: int, seed: int = 0) -> pd.DataFrame:
    """All causes of n synthetic subjects; the first rows are the same for any n.

    Columns: participant_id, session_id, site, label (0 control, 1 patient, missing in
    pretraining), section of the datalist, age and brain_age (years), sex (F/M), tiv (mL),
    severity, atrophy (what age and disease do to the total), global_factor (SD), `VOLUMES` and
    total (relative to the template, head size removed), texture_seed (warp, modes and noise
    follow from it).

    Args:
        cohort: "pretraining" or one of `TASKS`.
        n: Number of subjects.
        seed: Seed of the whole phantom.

    Raises:
        ValueError: if there is no such cohort.
    """
    if cohort not in COHORTS:
        raise ValueError(f"The phantom has no cohort {cohort!r}; choose one of {list(COHORTS)}.")
    people = pd.DataFrame([_draw_subject(cohort, i, seed) for i in range(n)])
    known = {
        "age": people["age"].to_numpy(),
        "male": (people["sex"] == "M").to_numpy(float),
        "patient": people["label"].fillna(0).to_numpy(float),
    }
    drawn = relative_volumes(known, np.stack(people.pop("normal").tolist()), cohort)
    volumes = pd.DataFrame(drawn.pop("volumes"), columns=list(VOLUMES))
    drawn["total"] = volumes.to_numpy() @ shares()
    return pd.concat([people, pd.DataFrame(drawn), volumes], axis=1)


# What can be achieved


@lru_cache(maxsize=16)
def best_achievable_auc(task: str, draws: int = 100_000) -> float:
    """AUC of a linear discriminant on the true causes: the ceiling for a classifier of images.

    The causes are regional volumes, atrophy beyond age, and the global factor; age, sex and head
    size are known and removed. Estimated on random draws, tested on as many others.

    Args:
        task: One of `TASKS`.
        draws: Synthetic subjects per half.
    """
    rng = np.random.default_rng(0)
    (features, label), (unseen, truth) = (_true_causes(task, draws, rng) for _ in range(2))
    patients, controls = features[label == 1], features[label == 0]
    pooled = np.cov(patients.T) + np.cov(controls.T)
    weight = np.linalg.solve(pooled, patients.mean(0) - controls.mean(0))
    return float(roc_auc(truth, unseen @ weight))


def _true_causes(task: str, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    label = np.arange(n) % 2
    controls, patients = COHORTS[task].ages
    age = np.where(label == 1, patients.draw(rng, n), controls.draw(rng, n))
    known = {"age": age, "male": np.full(n, 0.5), "patient": label.astype(float)}
    drawn = relative_volumes(known, rng.standard_normal((n, NORMALS)), task)
    expected = age_curve(age)[:, PAIRING]
    left, excess = drawn["volumes"] - expected, drawn["atrophy"] - expected @ shares()
    return np.column_stack([left, excess, excess * (age - 50), drawn["global_factor"]]), label


# Files


def make_phantom(
    output: Path,
    *,
    resolution: float = CONTROL_MM,
    n_pretraining: int = 1500,
    n_per_task: int = 400,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Write the whole phantom: images, tables and datalists of pretraining and of every task.

    It is a phantom: synthetic images, not patients. A complete one with the same settings is
    reused; `phantom.json` is written last, so that an interrupted run is done again.

    Args:
        output: Folder to write to.
        resolution: Voxel size in mm.
        n_pretraining: Number of pretraining subjects.
        n_per_task: Number of subjects in each of `TASKS`.
        seed: Decides everything random.
        workers: Threads that render; the images are the same for any number.
        progress: Whether to show a progress bar.

    Returns:
        The summary that `phantom.json` holds.

    Raises:
        ValueError: if the folder holds a phantom with other settings, or a setting is impossible.
    """
    shape, affine = reference_grid(resolution)
    sizes = {"n_pretraining": n_pretraining, "n_per_task": n_per_task}
    _check_sizes(sizes)
    settings = {"resolution": float(resolution), **sizes, "seed": seed}
    found = _existing(Path(output), settings)
    if found is not None:
        return found
    counts = {"pretraining": n_pretraining, **dict.fromkeys(TASKS, n_per_task)}
    people = {cohort: draw_factors(cohort, n, seed) for cohort, n in counts.items()}
    draw = partial(render, resolution=resolution, seed=seed)
    threads = workers or os.cpu_count() or 1
    write_images(Path(output), people, draw, resolution, INTENSITY_STEP, threads, progress)
    flush_all()  # before phantom.json says that they are there
    for cohort, table in people.items():
        write_tables(Path(output), cohort, table)
    summary = {
        "warning": WARNING,
        "generator_version": GENERATOR_VERSION,
        "settings": settings,
        "shape": list(shape),
        "affine": affine.tolist(),
        "best_auc": {task: round(best_achievable_auc(task), 4) for task in TASKS},
    }
    write_json(Path(output) / "phantom.json", summary)
    logger.info("Wrote a phantom of %d subjects to %s. %s", sum(counts.values()), output, WARNING)
    return summary


def _check_sizes(sizes: Mapping[str, int]) -> None:
    for name, size in sizes.items():
        if not 8 <= size <= 99999:
            raise ValueError(f"{name} is {size}; expected 8 to 99999 subjects, as ids have 4 or 5 digits.")


def _existing(output: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The summary of a complete phantom with these settings; None if one must be made."""
    path = output / "phantom.json"
    if not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    held = {"generator_version": found.get("generator_version"), **found.get("settings", {})}
    wanted = {"generator_version": GENERATOR_VERSION, **settings}
    if held != wanted:
        raise ValueError(
            f"{output} holds a phantom made with {held}, but {wanted} was asked for; "
            "choose another output folder, or delete this one to have it made anew."
        )
    if is_complete(output):
        logger.info("Reusing the phantom in %s, which has the same settings.", output)
        return found
    logger.warning("The phantom in %s lacks files; it is made again.", output)
    path.unlink()
    return None


def is_complete(output: Path, ending: str = "") -> bool:
    """Whether all tables, datalists and images of a modality are there.

    Args:
        output: Folder of the phantom.
        ending: Of the names of its tables and datalists.
    """
    for cohort in COHORTS:
        tables_there = all((output / cohort / _named(name, ending)).exists() for name in TABLE_NAMES)
        path = output / f"{cohort}{ending}.json"
        if not tables_there or not path.exists():
            return False
        sections = json.loads(path.read_text(encoding="utf-8"))
        items = [item for name in SECTIONS for item in sections[name]]
        if not all((output / item["image"]).exists() for item in items):
            return False
    return True


def write_images(
    output: Path,
    people: Mapping[str, pd.DataFrame],
    draw: Callable[[Mapping[str, Any]], Array],
    resolution: float,
    step: float,
    workers: int,
    progress: bool,
    ending: str = "_gm",
) -> None:
    """Render and save everybody, in threads: the work is in NumPy, SciPy and zlib.

    Args:
        output: Folder of the phantom.
        people: Cohort → those who have a map.
        draw: Draws the map of a person.
        resolution: Voxel size, mm.
        step: Images are whole numbers times this.
        workers: Threads.
        progress: Show a progress bar.
        ending: Of the names of the images.
    """

    def make(job: tuple[Path, Mapping[str, Any]]) -> None:
        path, person = job
        save_map(path, draw(person), resolution, step)

    jobs = [
        (output / _image(cohort, person["participant_id"], ending), person)
        for cohort, table in people.items()
        for person in records_of(table)
    ]
    in_threads(make, jobs, workers, progress, "phantom" if ending == "_gm" else f"phantom {ending.removeprefix('_')}")


def in_threads(make: Callable[[Any], None], jobs: Sequence[Any], workers: int, progress: bool, words: str) -> None:
    """Do every job, in threads; the first one alone, so that it fills the caches once.

    Args:
        make: What is done for a job.
        jobs: The jobs; at least one.
        workers: Threads.
        progress: Whether to show a progress bar.
        words: Words before the progress bar.
    """
    with threadpool_limits(1), ThreadPoolExecutor(workers) as pool:
        make(jobs[0])
        done = chain([None], pool.map(make, jobs[1:]))
        for _ in tqdm(done, total=len(jobs), desc=words, unit="image", disable=not progress):
            pass


def save_map(path: Path, volume: Array, resolution: float, step: float) -> None:
    """Write a map as uint8 with its scale, whole or not at all.

    Args:
        path: The `.nii.gz` file.
        volume: The map, on the grid of the resolution.
        resolution: Voxel size in mm.
        step: Value of one step.
    """
    data = np.clip(np.rint(volume / step), 0, 255).astype(np.uint8)
    image = nib.Nifti1Image(data, reference_grid(resolution)[1])
    image.header.set_slope_inter(step, 0)
    image.header["descrip"] = PHANTOM
    with replacing(path, flush=False) as temporary:
        nib.save(image, temporary)


def records_of(people: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table of people."""
    return [{str(k): v for k, v in row.items()} for row in people.to_dict("records")]


def _image(cohort: str, participant: str, ending: str = "_gm") -> str:
    return f"{cohort}/{participant}{ending}.nii.gz"


def _named(table: str, ending: str) -> str:
    """The name of a table with the ending of its modality."""
    return f"{Path(table).stem}{ending}{Path(table).suffix}"


def write_tables(output: Path, cohort: str, people: pd.DataFrame, ending: str = "") -> None:
    """Write participants.tsv, factors.tsv and the datalist of a cohort.

    Args:
        output: Folder of the phantom.
        cohort: Name of the cohort.
        people: Those who have a map, and what is behind it.
        ending: Of the names, where it is a second modality, such as `_fa`.
    """
    patient = people["label"].eq(1)
    participants = people[COLUMNS].assign(diagnosis=np.where(patient, cohort, "control"))
    for name, table in zip(TABLE_NAMES, (participants, people), strict=True):
        text = table.to_csv(sep="\t", index=False, na_rep="n/a", float_format="%.6g")
        write_text(output / cohort / _named(name, ending), text)
    datalist: dict[str, Any] = {"description": f"{cohort}: {WARNING}"}
    datalist |= {"modality": ending.removeprefix("_")} if ending else {}  # grey matter needs no word
    datalist |= {section: list(_items(cohort, people, section, ending or "_gm")) for section in SECTIONS}
    write_json(output / f"{cohort}{ending}.json", datalist)


def _items(cohort: str, people: pd.DataFrame, section: str, ending: str) -> Iterator[dict[str, Any]]:
    for person in records_of(people[people["section"] == section]):
        label = None if cohort == "pretraining" else int(person["label"])
        known = {name: person[name] for name in COLUMNS}
        yield {"image": _image(cohort, person["participant_id"], ending), **known, "label": label}
