"""What weights say themselves, so that nobody has to say it again: architecture and preprocessing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.cli.options import RUNNABLE, merged_config, read_config, steps
from bundle.cli.run_record import monai_command
from bundle.networks import architecture_of, as_config, network_of, read_card, refuse_other_preprocessing, steps_of
from bundle.networks.preprocessing import LOADERS

_OPTION = {"probe": "weights", "train": "weights", "evaluate": "model", "inference": "model"}


def stated_by_weights(command: str, files: Sequence[Path], read: Mapping[str, Path], given: Mapping[str, Any]) -> dict:
    """Options that the weights of a command set: a card, or the weights themselves, say how they were trained.

    Args:
        command: `probe`, `train`, evaluate or inference; other commands start from no weights.
        files: The config and its overlays.
        read: The files that the command reads, by the names of their options; without `weights`: from scratch.
        given: Options of the command line, which stay as they are.

    Returns:
        option → value.

    Raises:
        ValueError: an overlay, or an option, says another preprocessing or grid than the card.
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
    card = read_card(path)
    if command == "inference":
        grid = {f"grid_{name}": value for name, value in card.get("contract", {}).get("grid", {}).items()}
        _refuse_others(path, {**stated, **grid}, given)
    if listed := card.get("preprocessing_steps"):
        _refuse_other_preprocessing(path, files, given)
        stated["preprocessing"] = as_config(listed)
    return {name: value for name, value in stated.items() if name not in given}


def _refuse_other_preprocessing(path: Path, files: Sequence[Path], given: Mapping[str, Any]) -> None:
    runnable = {file.name for file in RUNNABLE}
    overlays = [file for file in files[1:] if file.name not in runnable]
    said = [*given, *(name for file in overlays for name in read_config(file))]
    if not any(steps(name)[0] == "preprocessing" for name in said):
        return
    recipe = steps_of(merged_config(files, given)["preprocessing"])
    if recipe is None:
        raise ValueError(
            f"The card of {path} says how its images are preprocessed, and an overlay says it with code that cannot be "
            "compared. Leave the overlay of the preprocessing out; the card suffices."
        )
    refuse_other_preprocessing(path, recipe)


def _refuse_others(path: Path, stated: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse options that say another architecture or grid than the card."""
    for name, value in stated.items():
        if name in given and given[name] != value:
            raise ValueError(
                f"--{name} is {given[name]}, but the card of {path} says {value}; leave the option out, because the "
                "card suffices."
            )


def preprocessing_of_card(model: str) -> Any:
    """What a card says is done to a volume that lies on its grid: transforms, or None where the card says nothing.

    Under `python -m monai.bundle run`, what its command line says is compared with the card first.

    Args:
        model: The file of weights.

    Raises:
        ValueError: see `stated_by_weights`.
    """
    from monai.bundle import ConfigParser

    if found := monai_command():
        files, overrides = found
        stated_by_weights("inference", files, {"model": Path(model)}, overrides)
    stated = read_card(model).get("preprocessing_steps")
    if not stated:
        return None
    loading = [place for place, step in enumerate(stated) if step["_target_"] in LOADERS]
    later = stated[loading[-1] + 1 if loading else 0 :]
    placed = [step for step in later if step["_target_"] != "EnsureChannelFirstd"]  # a volume on the grid has a channel
    return ConfigParser({"steps": as_config(placed)}).get_parsed_content("steps")
