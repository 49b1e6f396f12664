"""The main job of `make train` without the repository: a phantom, an encoder pretrained on it, and its probe."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

OVERLAY = ["--config", "configs/phantom.yaml"]
QUICK = {  # options that make each command take seconds; nothing is learnt then
    "phantom": ["--resolution", "6", "--pretraining", "64", "--per-task", "40"],
    "pretrain": ["--epochs", "1"],
    "probe": ["--sizes", "[10]", "--draws", "1"],
}
logger = logging.getLogger(__name__)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `train-phantom`."""
    words = "folder that receives data, models and eval (default: where you stand)"
    parser.add_argument("--output", type=Path, default=Path(), metavar="FOLDER", help=words)
    words = "a cohort and a training so small that they only show that everything runs: a minute"
    parser.add_argument("--quick", action="store_true", help=words)


def run(options: argparse.Namespace, _: Sequence[str]) -> int:
    """Run the three commands one after the other; what is done already is kept."""
    from bundle.cli.main import main

    root = ["--bundle_root", str(options.output)]
    commands = {
        "phantom": ["--output", str(options.output / "data" / "phantom")],
        "pretrain": [*OVERLAY, *root, "--resume"],
        "probe": [*OVERLAY, *root],
    }
    for command, words in commands.items():
        if command == "probe" and _is_probed(options.output):
            break
        if status := main([command, *words, *(QUICK[command] if options.quick else [])]):
            return status
    logger.info("Next: yaware cohort --help, on your own cohort, or  tensorboard --logdir %s", options.output / "eval")
    return 0


def _is_probed(root: Path) -> bool:
    """Whether the results that lie there are those of the weights; what made them is written last."""
    weights, results = root / "models" / "phantom_pretrained.pt", root / "eval" / "probe"
    done = results / "provenance.json"
    if not done.is_file() or done.stat().st_mtime < weights.stat().st_mtime:
        return False
    logger.info("The encoder is probed already: %s", results / "table.md")
    return True
