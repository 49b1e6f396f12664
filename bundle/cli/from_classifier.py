"""`train --from MODEL`: a classifier of one question starts that of another."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from bundle.cli import inputs
from bundle.cli.expressions import plain_path
from bundle.cli.options import OptionError
from bundle.hub import located


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add `--from` to `train`."""
    words = "classifier of another question, whose encoder training starts from; its head is left out"
    parser.add_argument("--from", dest="classifier", metavar="MODEL", help=words)


def with_classifier(options: argparse.Namespace, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run, with the classifier that `--from` names as the weights to start from.

    Args:
        options: The command line, as parsed; of other commands it has no such option.
        given: Options of the config.

    Raises:
        OptionError: `--weights` was given, too.
        ValueError: the file is missing, or no classifier's.
    """
    model = getattr(options, "classifier", None)
    if model is None:
        return dict(given)
    if "weights" in given:
        raise OptionError("--from and --weights both say what training starts from; give one of them.")
    path = located(model)
    inputs.require_files({"from": path})

    from bundle.networks import require_classifier_weights

    require_classifier_weights(path)
    return {**given, "weights": plain_path(str(path))}
