"""How far the same seed comes out differently on other processors, for several ways to pretrain.

    python -m benchmarks.stability data/phantom eval/stability configs/phantom.yaml

Other processors are imitated on one: `ATEN_CPU_CAPABILITY` and `ONEDNN_MAX_CPU_ISA` make PyTorch and oneDNN compute
with the instructions of older ones, whose sums are rounded in another order. Each line of `stability.csv` is a
setting, a processor, a seed and a task: the ROC-AUC of a linear probe at the largest N, the error of age, and the epoch
whose weights were kept. `stability.md` has the standard deviation over processors. What is done is not done again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bundle.metrics.classification import roc_auc

PROCESSORS = {
    "AVX-512": {},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "AVX2, PyTorch with AVX-512": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "AVX-512, PyTorch without vectors": {"ATEN_CPU_CAPABILITY": "default"},
}
LAST = ["--keep", "last"]
SETTINGS = {
    "as configured": [],
    "last epoch": LAST,
    "weights averaged, last epoch": ["--average", "0.99", *LAST],
    "a third of the learning rate": ["--learning_rate", "3.0e-4"],
    "batch of 64": ["--batch_size", "64", "--micro_batch", "16"],
}
AVERAGED = "scores of seeds 0 to 2 averaged"
SEEDS = {"as configured": (0, 1, 2)}


def ran(command: str, dataset: str, overlays: Sequence[str], folder: Path, options: Sequence[str], env: dict) -> None:
    """Run a command of the package on the imitated processor, unless its folder says that it is done."""
    if (folder / "done").exists():
        return
    words = [command, "--config", *overlays, "--dataset_dir", dataset, "--output_dir", str(folder), "--device", "cpu"]
    subprocess.run([sys.executable, "-m", "bundle", *words, *options], env={**os.environ, **env}, check=True)
    (folder / "done").touch()


def measured(dataset: str, overlays: Sequence[str], output: Path, setting: str, processor: str, seed: int) -> Path:
    """Pretrain and probe once.

    Returns:
        The folder of the probe.
    """
    folder, env = output / setting.replace(" ", "_") / processor.replace(" ", "_") / str(seed), PROCESSORS[processor]
    weights = ["--weights", str(folder / "pretrained.pt")]
    pretrain = [*SETTINGS[setting], *weights, "--seed", str(seed)]
    ran("pretrain", dataset, overlays, folder / "pretraining", pretrain, env)
    ran("probe", dataset, overlays, folder / "probe", [*weights, "--references", "[]"], env)
    return folder / "probe"


def scores_of(folder: Path) -> pd.DataFrame:
    """Scores of the encoder at the largest N."""
    scores = pd.read_csv(folder / "scores.csv")
    return scores[(scores["n"] == scores["n"].max()) & (scores["method"] == scores["method"].iloc[0])]


def rows_of(
    setting: str, processor: str, seed: object, scores: pd.DataFrame, error: float, epoch: object
) -> list[dict]:
    """A row per task, the ROC-AUC being the mean over draws."""
    known = {"setting": setting, "processor": processor, "seed": seed, "age_error": error, "epoch": epoch}
    by_task = scores.groupby("task", sort=False)
    per_draw = {task: part.groupby("draw")[["label", "score"]] for task, part in by_task}
    aucs = {task: [roc_auc(one["label"], one["score"]) for _, one in draws] for task, draws in per_draw.items()}
    return [{**known, "task": task, "auc": sum(values) / len(values)} for task, values in aucs.items()]


def kept_epoch(folder: Path) -> int:
    """The epoch whose weights were kept."""
    return int(json.loads((folder.parent / "pretrained.json").read_text())["epoch"])


def main(dataset: str, output: str, *overlays: str) -> None:
    """Run all settings on all processors, and write both tables."""
    rows: list[dict] = []
    for setting in SETTINGS:
        for processor in PROCESSORS:
            every = []
            for seed in SEEDS.get(setting, (0,)):
                folder = measured(dataset, overlays, Path(output), setting, processor, seed)
                every.append(scores_of(folder).assign(seed=seed))
                error = float(pd.read_csv(folder / "age.csv")["mae"].iloc[0])
                rows += rows_of(setting, processor, seed, every[-1], error, kept_epoch(folder))
            if len(every) > 1:
                keys = ["task", "draw", "participant_id", "label"]
                mean = pd.concat(every).groupby(keys, sort=False, as_index=False)["score"].mean()
                rows += rows_of(AVERAGED, processor, "all", mean, float("nan"), None)
            pd.DataFrame(rows).to_csv(Path(output) / "stability.csv", index=False)
    Path(output, "stability.md").write_text(spread(pd.DataFrame(rows)).to_markdown(floatfmt=".3f") + "\n")


def spread(table: pd.DataFrame) -> pd.DataFrame:
    """Standard deviation over processors of the same seed, mean over seeds, and the mean."""
    same = table.groupby(["setting", "seed", "task"], sort=False)
    found = pd.DataFrame({"SD of ROC-AUC": same["auc"].std(), "mean ROC-AUC": same["auc"].mean()})
    found["SD of age error"], found["mean age error"] = same["age_error"].std(), same["age_error"].mean()
    over_tasks = found.groupby(level=["setting", "seed"], sort=False).mean()
    return over_tasks.groupby(level="setting", sort=False).mean()


if __name__ == "__main__":
    main(*sys.argv[1:])
