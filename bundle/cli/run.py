"""Running a config as `python -m monai.bundle run` does, and reading what one of its entries comes to."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow, ReferenceResolver

from bundle.cli.components import check_components, check_references
from bundle.cli.ensemble import members_asked, train_ensemble
from bundle.cli.options import FOLDER
from bundle.cli.run_record import RECIPE, SETTINGS, as_today, merged_as_written, write_record, written_at
from bundle.cli.settings import settings_of
from bundle.networks import steps_of

WORKFLOW_TYPES = {"pretrain": "train", "train": "train", "evaluate": "train", "probe": "infer", "inference": "infer"}


def run_config(files: Sequence[Path], overrides: Mapping[str, Any], command: str) -> ConfigParser:
    """Run a config as `python -m monai.bundle run` does: initialize, run, finalize.

    The record is written once the inputs were accepted; it takes the place of that of an earlier run. That of answers
    is written after them: where a run fails, the earlier answers and their record stay.

    Args:
        files: A runnable config and its overlays, or the record of a run.
        overrides: Id → value, already checked.
        command: Command; see `options.command_of`.

    Returns:
        The config with what came of it.
    """
    written = merged_as_written(files, overrides)
    if members := members_asked(command, written):
        return train_ensemble(run_config, files, overrides, members)
    stated = stated_by_config(written, command)
    defaults = {"meta_file": str(FOLDER / "metadata.json"), "logging_file": str(FOLDER / "logging.conf")}
    workflow = ConfigWorkflow(
        [str(f) for f in files],
        workflow_type=WORKFLOW_TYPES[command],
        **(defaults if files[0].parent != FOLDER and FOLDER.is_dir() else {}),
        **overrides,
    )
    config = as_today(copy.deepcopy(dict(workflow.parser.get())))
    workflow.parser.set({**copy.deepcopy(config), **stated})
    check_components(config)
    check_references(config, files)
    workflow.initialize()
    if "checks" in config:  # before anything is written; other software initialises a config without data
        workflow.parser.get_parsed_content("checks")
    folder = workflow.parser.get_parsed_content("output_dir")
    if command != "inference":
        write_record(folder, command, config)
    workflow.run()
    workflow.finalize()
    if command == "inference":
        write_record(folder, command, config)
    return workflow.parser


def stated_by_config(config: Mapping[str, Any], command: str) -> dict[str, Any]:
    """What a config asks of itself, as text: the preprocessing for the card, and the settings for checkpoints.

    Args:
        config: Everything together, as written.
        command: Command; see `options.command_of`.
    """
    stated: dict[str, Any] = {}
    if config.get("recipe") == RECIPE:
        stated["recipe"] = _as_text(steps_of(config["preprocessing"]))
    if config.get("second_recipe") == {**RECIPE, "name": "second_preprocessing"}:
        stated["second_recipe"] = _as_text(steps_of(written_at(config, "second_preprocessing")))
    if config.get("settings") == SETTINGS:
        stated["settings"] = _as_text(settings_of(command, config))
    return stated


def _as_text(value: Any) -> dict[str, Any]:
    """A value that a config hands on as it is, where it would make components of what it holds."""
    return {"_target_": "json.loads", "s": json.dumps(value)}


def value_of(files: Sequence[Path], overrides: Mapping[str, Any], name: str) -> Any:
    """What one entry of a config comes to."""
    return values_of(files, overrides, name)[0]


def values_of(files: Sequence[Path], overrides: Mapping[str, Any], *names: str) -> list[Any]:
    """What some entries of a config come to, with what they share."""
    parser = ConfigParser(ConfigParser.load_config_files([str(f) for f in files]))
    parser.update(dict(overrides))
    return [parser.get_parsed_content(name) for name in names]


def recipe_of(files: Sequence[Path], name: str) -> dict[str, Any]:
    """One entry of a config and all it refers to, as written: where these are the same, so is what it comes to."""
    parser = ConfigParser(ConfigParser.load_config_files([str(f) for f in files]))
    parser.parse()
    recipe: dict[str, Any] = {}
    todo = [name]
    while todo:
        key = todo.pop()
        if not any(key == k or key.startswith(f"{k}::") for k in recipe):  # a part of what is there already
            recipe[key] = parser[key]
            todo += ReferenceResolver.find_refs_in_config(recipe[key], key)
    return recipe
