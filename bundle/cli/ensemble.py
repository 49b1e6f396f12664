"""`train --ensemble K`: a run for each member, one after another, and one that joins them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.cli.expressions import plain_path
from bundle.cli.inputs import text_of
from bundle.cli.options import OptionError
from bundle.cli.rules import SEED_LIMIT
from bundle.cli.run_record import merged_as_written, write_record
from bundle.cli.settings import settings_of
from bundle.files import read_json, write_json
from bundle.training.resume import newest_content

Run = Callable[[Sequence[Path], Mapping[str, Any], str], Any]
DONE = "member.json"  # in the folder of a member, once it is trained: the settings of its run
_NETWORK = {"_target_": "bundle.networks.Ensemble"}
logger = logging.getLogger(__name__)


def members_asked(command: str, config: Mapping[str, Any]) -> int:
    """How many members a training is asked for; 0 where it is a usual one.

    Args:
        command: Command; an evaluation of an ensemble is a usual one.
        config: Everything together, as written.
    """
    asked = config.get("ensemble") if command == "train" else None
    return int(asked) if isinstance(asked, int) else 0


def train_ensemble(run: Run, files: Sequence[Path], overrides: Mapping[str, Any], members: int) -> Any:
    """Train the members with seed, seed + 1, …, each into a folder of its own, then join them.

    Every member is a usual classifier, `member_K/NAME` with card and record. With `resume`, members that are trained
    are left as they are, and the one that was interrupted goes on from its checkpoint.

    Args:
        run: Runs configs with options, as a command; see `run.run_config`.
        files: The config and its overlays, or the record of a run.
        overrides: Id → value, already checked.
        members: How many.

    Returns:
        The config with what came of the joining.

    Raises:
        OptionError: for a seed too large, or paths that only an evaluation shows.
    """
    config = merged_as_written(files, overrides)
    folder, model = (_path(config, name) for name in ("output_dir", "model"))
    seed = config["seed"]
    if not isinstance(seed, int) or seed + members - 1 > SEED_LIMIT:
        raise OptionError(f"seed is {seed!r}, but an ensemble needs the whole numbers from it on, up to {SEED_LIMIT}.")
    paths = []
    for number in range(members):
        own = folder / f"member_{number}"
        paths.append(own / model.name)
        places = {"output_dir": plain_path(str(own)), "model": plain_path(str(paths[-1]))}
        _train_member(run, files, {**overrides, **places, "seed": seed + number, "ensemble": None}, number, members)
    joined = run(files, {**overrides, **_joining(config, folder, paths), "ensemble": None}, "train")
    write_record(folder, "train", config)
    auc = joined.get_parsed_content("validate#evaluator").state.metrics["val_auc"]
    logger.info(f"Ensemble of {members} members: ROC-AUC {auc:.4f} on validation: {model}")
    return joined


def _path(config: Mapping[str, Any], name: str) -> Path:
    text = text_of(config, config[name])
    if text is None:
        raise OptionError(f"{name} is {config[name]!r}, but an ensemble needs it as a plain path; give --{name}.")
    return Path(text)


def _train_member(run: Run, files: Sequence[Path], options: Mapping[str, Any], number: int, members: int) -> None:
    """Train a member, unless a run that goes on finds it trained with the same settings."""
    config = merged_as_written(files, options)
    folder, model = Path(text_of(config, config["output_dir"]) or ""), Path(text_of(config, config["model"]) or "")
    settings, done = settings_of("train", config), folder / DONE
    if config.get("resume") and done.is_file() and model.is_file() and read_json(done) == settings:
        logger.info(f"Member {number} of 0 to {members - 1}: trained already, {model}")
        return
    done.unlink(missing_ok=True)
    logger.info(f"Member {number} of 0 to {members - 1}: seed {config['seed']}, {folder}")
    begun = bool(config.get("resume")) and newest_content(folder) is not None
    run(files, {**options, "resume": begun}, "train")
    write_json(done, settings)


def _joining(config: Mapping[str, Any], folder: Path, paths: Sequence[Path]) -> dict[str, Any]:
    """What turns the config of a training into one that joins members and validates the ensemble."""
    files = [plain_path(str(path)) for path in paths]
    record = next(step for step in config["finalize"] if step["_target_"] == "bundle.prediction.write_record")
    members = {"_target_": "bundle.networks.members_of", "folder": plain_path(str(folder)), "paths": files}
    return {
        "resume": False,
        "network_def": {
            "_target_": "bundle.networks.Ensemble",
            "network": config["network_def"],
            "members": len(files),
        },
        "validate#card#ensemble": members,
        "validate#handlers": [
            {"_target_": "StatsHandler", "name": "validation", "iteration_log": False},
            {
                "_target_": "bundle.training.EnsembleWeights",
                "path": "@model",
                "module": "@network",
                "card": "@validate#card",
                "storage": "@storage",
            },
        ],
        "training": [
            "@checks",
            {"_target_": "bundle.networks.load_members", "ensemble": "@network_def", "paths": files},
            "$@validate#evaluator.run()",
        ],
        "finalize": [record],
    }
