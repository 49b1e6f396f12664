"""Pretraining from Python, with what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from bundle.cli.accepted import accepted
from bundle.cli.expressions import plain_path
from bundle.cli.run import run_config
from bundle.drawing import Drawing
from bundle.networks import load_encoder
from bundle.networks.weights import read_card
from bundle.notebook.running import Paths, as_options, configs, sentences, undisturbed
from bundle.training.curves import draw_curves


@dataclass(frozen=True)
class Pretraining:
    """A pretraining that has ended.

    Attributes:
        weights: File of the best encoder; its card lies beside it.
        folder: Of checkpoints, `history.csv`, `curves.png` and `run.json`.
        history: A row per epoch: `epoch`, `train_loss`, and what the validation measured (`val_…`).
        card: What is said of the weights.
        levels: Name of a loss → its value by chance, log(2N − 1), where the loss has one.
    """

    weights: Path
    folder: Path
    history: pd.DataFrame
    card: Mapping[str, Any]
    levels: Mapping[str, float]

    def table(self) -> pd.DataFrame:
        """The history: a row per epoch."""
        return self.history.copy()

    def encoder(self) -> nn.Module:
        """The best encoder, with its weights, in evaluation mode."""
        return load_encoder(self.weights).encoder.eval()

    def plot_learning_curve(self, path: str | Path | None = None) -> Drawing:
        """Draw losses, with their values by chance, and what the validation measured, epoch by epoch.

        Args:
            path: A PNG to write, too.
        """
        return draw_curves(self.history, self.levels, None if path is None else Path(path))

    def __str__(self) -> str:
        best = self.card.get("validation", {}).get("val_loss")
        said = f"best val_loss {best:.4f} at epoch {self.card['epoch']}" if best is not None else "never validated"
        return f"{len(self.history)} epochs, {said}: {self.weights}"

    def _repr_html_(self) -> str:
        return self.plot_learning_curve()._repr_html_()


def pretrain(
    datalist: str | Path,
    *,
    output: str | Path = "eval/pretrain",
    config: Paths = (),
    verbose: bool = True,
    **options: Any,
) -> Pretraining:
    """Pretrain an encoder, as by `python -m bundle pretrain`, and say what came of it.

    Args:
        datalist: Made by `python -m bundle cohort` or `phantom`; its `training` is trained on.
        output: Folder that receives checkpoints, history and curves, and the weights as `pretrained.pt`.
        config: Overlays on `configs/pretrain.yaml`, such as `configs/pretext_simclr.yaml`.
        verbose: Log what happens; False: warnings alone.
        options: Of `configs/pretrain.yaml`: `epochs`, `batch_size`, `sigma` (years), `learning_rate`, `seed`,
            `device`, `resume`, `weights`, …. Parts of components, too: `**{"train#trainer#max_epochs": 3}`.

    Raises:
        ValueError: when an option or the datalist is not right; the same sentences as on the command line.
        OSError: when a file is missing, or cannot be written.
        KeyboardInterrupt: when it was stopped; it is saved, and goes on with `resume=True`.

    Example:
        >>> report = pretrain("data/pretraining.json", epochs=100, sigma=5)  # doctest: +SKIP
        >>> report.plot_learning_curve()  # doctest: +SKIP
    """
    files, folder = configs("pretrain.yaml", config), Path(output)
    given = as_options(options, {"output_dir": "output", "datalist": "datalist"})
    places = {"datalist": str(datalist), "output_dir": str(folder), "weights": str(folder / "pretrained.pt")}
    given = {**{name: plain_path(path) for name, path in places.items()}, **given}
    with sentences(), undisturbed(verbose):
        ran = run_config(files, accepted("pretrain", files, given), "pretrain")
        history = ran.get_parsed_content("checkpoints").objects["history"]
        weights = Path(ran.get_parsed_content("weights"))
    return Pretraining(weights, folder, history.table(), read_card(weights), history.levels)
