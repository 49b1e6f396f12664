"""How far the same seed comes out differently on other processors, for several ways to pretrain.

    python -m benchmarks.stability data/phantom eval/stability configs/phantom.yaml

Another processor is imitated: `ATEN_CPU_CAPABILITY` and `ONEDNN_MAX_CPU_ISA` make PyTorch and oneDNN compute with the
instructions of an older one, whose sums are rounded in another order. Each line of `stability.csv` is a setting, a
processor, a seed (or the seeds of a group of encoders) and a task: the ROC-AUC of a linear probe at the largest N, the
error of age, and the epoch whose weights were kept. `stability.md` has standard deviations over processors and over
seeds. What is done stays done.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import torch

from bundle.metrics.classification import roc_auc
from bundle.networks.formats import write_weights

PROCESSORS = {"AVX-512": {}, "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}}
AS_CONFIGURED = "as configured"
SETTINGS = {
    AS_CONFIGURED: ([], tuple(range(12))),  # options of pretrain, seeds
    "weights averaged over half of the steps": (["--average", "0.998", "--keep", "last"], (0, 1)),
    "a third of the learning rate": (["--learning_rate", "3.0e-4"], (0, 1)),
    "batch of 64": (["--batch_size", "64", "--micro_batch", "16"], (0, 1)),
}
LAST = "last epoch"  # of the first runs as configured
LAST_SEEDS = (0, 1, 2)
AVERAGED = (2, 3, 4, 6)  # so many seeds' scores; each seed is in one group
SIDE_BY_SIDE = (3, 6)  # so many seeds' embeddings
SEVERAL = "configs/probe_several_encoders.yaml"


def ran(command: str, dataset: str, overlays: Sequence[str], folder: Path, options: Sequence[str], env: dict) -> None:
    """Run a command of the package on the imitated processor, unless its folder says that it is done."""
    if (folder / "done").exists():
        return
    words = [command, "--config", *overlays, "--dataset_dir", dataset, "--output_dir", str(folder), "--device", "cpu"]
    subprocess.run([sys.executable, "-m", "bundle", *words, *options], env={**os.environ, **env}, check=True)
    (folder / "done").touch()


def folder_of(output: Path, setting: str, processor: str, seed: int) -> Path:
    """Folder of a run."""
    return output / setting.replace(" ", "_") / processor.replace(" ", "_") / str(seed)


def pretrained(dataset: str, overlays: Sequence[str], output: Path, setting: str, processor: str, seed: int) -> Path:
    """Pretrain once.

    Returns:
        The folder of the run.
    """
    folder, env = folder_of(output, setting, processor, seed), PROCESSORS[processor]
    options = [*SETTINGS[setting][0], "--weights", str(folder / "pretrained.pt"), "--seed", str(seed)]
    ran("pretrain", dataset, overlays, folder / "pretraining", options, env)
    return folder


def probed(dataset: str, overlays: Sequence[str], weights: Path, processor: str) -> tuple[pd.DataFrame, dict]:
    """Scores of the encoder at the largest N; and its error of age and the epoch whose weights it has."""
    folder = weights.parent / ("probe" if weights.stem == "pretrained" else f"probe_{weights.stem}")
    ran("probe", dataset, overlays, folder, ["--weights", str(weights), "--references", "[]"], PROCESSORS[processor])
    epoch = json.loads(weights.with_suffix(".json").read_text())["epoch"]
    scores, age = measured_by(folder)
    return scores, {**age, "epoch": epoch}


def side_by_side(
    dataset: str, overlays: Sequence[str], weights: Sequence[Path], processor: str
) -> tuple[pd.DataFrame, dict]:
    """The same of several encoders together."""
    folder = weights[0].parent / f"{len(weights)}_side_by_side"
    more = f"[{', '.join(map(str, weights[1:]))}]"
    options = ["--weights", str(weights[0]), "--more_weights", more, "--references", "[]"]
    ran("probe", dataset, [SEVERAL, *overlays], folder, options, PROCESSORS[processor])
    return measured_by(folder, "y-Aware, side by side")


def last_epoch(folder: Path) -> Path:
    """The weights of the last epoch of a run, with a card, in a file of their own."""
    weights = folder / "last.pt"
    checkpoint = max((folder / "pretraining").glob("checkpoint_*.pt"), key=lambda path: int(path.stem.split("_")[1]))
    if not weights.exists():
        network = torch.load(checkpoint, map_location="cpu", weights_only=True)["network"]
        own = {name.removeprefix("encoder."): value for name, value in network.items() if name.startswith("encoder.")}
        card = json.loads((folder / "pretrained.json").read_text())
        write_weights(weights, own, {**card, "epoch": int(checkpoint.stem.split("_")[1])})
    return weights


def measured_by(folder: Path, method: str = "y-Aware") -> tuple[pd.DataFrame, dict]:
    """Scores of a method at the largest N, and its error of age."""
    scores, ages = pd.read_csv(folder / "scores.csv"), pd.read_csv(folder / "age.csv").set_index("method")
    kept = scores[(scores["n"] == scores["n"].max()) & (scores["method"] == method)]
    return kept, {"age_error": float(ages.loc[method, "mae"])}


def rows_of(known: dict[str, object], scores: pd.DataFrame, measured: dict[str, object]) -> list[dict]:
    """A row per task, the ROC-AUC being the mean over draws."""
    by_task = scores.groupby("task", sort=False)
    per_draw = {task: part.groupby("draw")[["label", "score"]] for task, part in by_task}
    aucs = {task: [roc_auc(one["label"], one["score"]) for _, one in draws] for task, draws in per_draw.items()}
    return [{**known, "task": task, "auc": sum(values) / len(values), **measured} for task, values in aucs.items()]


def groups_of(seeds: Sequence[int], count: int) -> Iterator[Sequence[int]]:
    """Seeds in groups of so many, each seed in one group."""
    for start in range(0, len(seeds), count):
        yield seeds[start : start + count]


def averaged(every: dict[int, pd.DataFrame], seeds: Sequence[int]) -> pd.DataFrame:
    """The scores of these seeds, averaged for each person of each draw."""
    keys = ["task", "draw", "participant_id", "label"]
    return pd.concat([every[seed] for seed in seeds]).groupby(keys, sort=False)["score"].mean().reset_index()


def of_setting(
    dataset: str, overlays: Sequence[str], output: Path, setting: str, processor: str
) -> Iterator[tuple[dict, pd.DataFrame, dict]]:
    """What was pretrained, scores, and what else was measured, of each seed and way to read it."""
    every, seeds = {}, SETTINGS[setting][1]
    for seed in seeds:
        folder = pretrained(dataset, overlays, output, setting, processor, seed)
        every[seed], measured = probed(dataset, overlays, folder / "pretrained.pt", processor)
        known = {"processor": processor, "seed": seed}
        yield {"setting": setting, **known}, every[seed], measured
        if setting == AS_CONFIGURED and seed in LAST_SEEDS:
            yield {"setting": LAST, **known}, *probed(dataset, overlays, last_epoch(folder), processor)
    if setting != AS_CONFIGURED:
        return
    for count in AVERAGED:
        for group in groups_of(seeds, count):
            known = {"setting": f"scores of {count} seeds averaged", "processor": processor, "seed": str(group)}
            yield known, averaged(every, group), {}
    for count in SIDE_BY_SIDE:
        for group in groups_of(seeds, count):
            known = {"setting": f"{count} seeds side by side", "processor": processor, "seed": str(group)}
            weights = [folder_of(output, setting, processor, seed) / "pretrained.pt" for seed in group]
            yield known, *side_by_side(dataset, overlays, weights, processor)


def main(dataset: str, output: str, *overlays: str) -> None:
    """Run all settings on all processors, and write both tables."""
    rows: list[dict] = []
    for setting in SETTINGS:
        for processor in PROCESSORS:
            for known, scores, measured in of_setting(dataset, overlays, Path(output), setting, processor):
                rows += rows_of(known, scores, measured)
                pd.DataFrame(rows).to_csv(Path(output) / "stability.csv", index=False)
        tables = [
            spread(pd.DataFrame(rows), by).to_markdown(floatfmt=".3f") for by in (["setting"], ["setting", "task"])
        ]
        Path(output, "stability.md").write_text("\n\n".join(tables) + "\n")


def spread(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Of each setting, or of its tasks: how far one seed differs between processors, and seeds of one processor.

    Standard deviations: those over processors are the root of the mean variance over seeds; the same over seeds.
    """
    found = {}
    for name in ("auc", "age_error"):
        for over, fixed in (("processor", "seed"), ("seed", "processor")):
            variance = table.groupby(["setting", fixed, "task"], sort=False)[name].var()
            found[f"{name}, SD over {over}s"] = variance.groupby(level=list(by), sort=False).mean() ** 0.5
        found[f"{name}, mean"] = table.groupby(list(by), sort=False)[name].mean()
    return pd.DataFrame(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
