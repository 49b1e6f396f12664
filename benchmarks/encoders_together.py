"""What several encoders that differ in their seed alone are worth together, from a comparison over sites.

    python -m bundle compare --config configs/compare_sites.yaml … --seeds "[0, 1, 2, 3, 4]" --output_dir eval/seeds
    python -m benchmarks.encoders_together eval/seeds

prints, for every method, the mean over held-out groups of the ROC-AUC of each task and of the error of age (controls):
of one encoder, mean and standard deviation over seeds; and of the embeddings of all seeds side by side, each divided by
its own standard deviation. Probes are fitted on everybody who was not held out, and on their controls for age.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bundle.cohort.folds import Trial
from bundle.evaluation import knowledge, probing
from bundle.evaluation.pipeline import Probe
from bundle.metrics.classification import roc_auc

AGE = "age error"
FIELDS = ("participant_id", "site", "age", "label", "section", "task")
Embedded = Mapping[str, NDArray]


def embedded(folder: Path) -> Iterator[tuple[str, list[Embedded]]]:
    """Name of each method of a held-out group, and what its seeds embed."""
    for method in sorted((folder / "runs").iterdir()):
        files = sorted(method.glob("seed_*/probe/embeddings.npz"))
        if len(files) > 1:
            yield method.name, [dict(np.load(file, allow_pickle=False)) for file in files]


def measured(features: NDArray, people: list[dict]) -> dict[str, float]:
    """ROC-AUC of each task, and error of age, of one group."""
    found: dict[str, float] = {}
    tasks = list(dict.fromkeys(person["task"] for person in people))
    for task in tasks:
        rows = [row for row, person in enumerate(people) if person["task"] == task]
        mine, own = [people[row] for row in rows], features[rows]
        train, test = (np.flatnonzero([p["section"] == s for p in mine]) for s in ("training", "test"))
        trials = [Trial(len(train), 0, train, test)]
        (table,) = probing.probe_diagnosis("encoders", own, mine, trials, Probe.penalties, "none")
        found[task] = float(roc_auc(table["label"], table["score"]))
        if task == tasks[0]:
            well = np.array([person["label"] == 0 for person in mine])
            parts = (train[well[train]], test[well[test]])
            fit, new = (knowledge.Aged.of(own[part], [mine[row] for row in part]) for part in parts)
            found[AGE] = float(knowledge.probe_age("encoders", fit, new)["mae"])
    return found


def main(folder: str) -> None:
    """Print the table."""
    rows = []
    for group in sorted(Path(folder, "sites").iterdir()):
        for method, seeds in embedded(group):
            known = pd.DataFrame({name: seeds[0][name] for name in FIELDS})
            people = known.assign(session_id="").to_dict("records")
            scaled = [seed["embedding"] / seed["embedding"].std() for seed in seeds]
            origin = {"group": group.name, "method": method}
            rows += [{**origin, "seed": str(n), **measured(one, people)} for n, one in enumerate(scaled)]
            rows.append({**origin, "seed": "together", **measured(np.hstack(scaled), people)})
    table = pd.DataFrame(rows).drop(columns="group").groupby(["method", "seed"]).mean()
    one = table.drop(index="together", level="seed").groupby("method")
    parts = {"one encoder": one.mean(), "SD over seeds": one.std(), "together": table.xs("together", level="seed")}
    sys.stdout.write(pd.concat(parts, axis=1).to_markdown(floatfmt=".3f") + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
