"""`publish`: what is uploaded to the Hugging Face Hub and the Model Zoo; nothing heavy is imported before."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bundle.places import HOME, found


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `publish`."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="new folder that gets huggingface/ and model_zoo/")
    words = "classifier with its card (default: %(default)s, the demonstration)"
    parser.add_argument("--model", type=Path, default=found("models/model.pt"), help=words)
    words = "metrics.json of `evaluate` on this model; without, the README says that it was not evaluated"
    parser.add_argument("--metrics", type=Path, help=words)
    parser.add_argument("--encoder", type=Path, help="pretrained encoder to be published beside the classifier")
    words = "publish, or leave-out, what describes single participants of the training (for a phantom: publish)"
    parser.add_argument("--participants", help=words)
    words = "licence of the weights, as the Hub writes it, such as cc-by-nc-4.0 (for a phantom: apache-2.0)"
    parser.add_argument("--license", metavar="LICENCE", help=words)
    parser.add_argument("--datasets", nargs="+", default=[], help="names on the Hub of what it was trained on")
    parser.add_argument("--repository", default="", metavar="OWNER/NAME", help="its name on the Hub, for the README")
    parser.add_argument("--title", default="", help="title of the README (default: made from the classes)")
    parser.add_argument("--no-zip", "--no_zip", action="store_true", help="leave the Model Zoo's file out")


def run(options: argparse.Namespace, _: Sequence[str]) -> None:
    """Make the folders."""
    from bundle.publishing import Choices, publish

    choices = Choices(
        options.participants,
        options.license,
        tuple(options.datasets),
        options.repository,
        options.title,
        options.no_zip,
    )
    publish(options.folder, HOME, options.model, options.metrics, options.encoder, choices)
