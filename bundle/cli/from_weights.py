"""What weights say themselves, so that nobody has to say it again: architecture and preprocessing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.cli.options import merged_config, read_config
from bundle.networks import architecture_of, as_config, network_of, read_card, refuse_other_preprocessing, steps_of

_OPTION = {"probe": "weights", "train": "weights", "evaluate": "model", "inference": "model"}


def stated_by_weights(command: str, files: Sequence[Path], read: Mapping[str, Path], given: Mapping[str, Any]) -> dict:
    """Options that the weights of a command set: a card, or the weights themselves, say how they were trained.

    Args:
        command: probe, train, evaluate or inference; other commands start from no weights.
        files: the config and its overlays.
        read: the files that the command reads, by the names of their options; without `weights`: from scratch.
        given: options of the command line, which stay as they are.

    Returns:
        option → value.

    Raises:
        ValueError: an overlay says another preprocessing than the card.
    """
    path = read.get(_OPTION.get(command, ""))
    if path is None:
        return {}
    own = [*given, *(key for file in files[1:] if file.suffix != ".json" for key in read_config(file))]
    stated: dict[str, Any] = {}
    if command == "probe" or "network_def" in own:
        pass  # the probe's own config asks the weights; an overlay may make a network that no card may state
    elif command == "train":
        stated = architecture_of(path)
    else:
        stated = network_of(path)
    if steps := read_card(path).get("preprocessing_steps"):
        if any("preprocessing" in read_config(file) for file in files[1:] if file.suffix != ".json"):
            refuse_other_preprocessing(path, steps_of(merged_config(files, given)["preprocessing"]))
        stated["preprocessing"] = as_config(steps)
    return {name: value for name, value in stated.items() if name not in given}
