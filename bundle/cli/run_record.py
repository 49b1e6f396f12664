"""What made a result, written beside it as a config that makes it again."""

from __future__ import annotations

import ast
import copy
import logging
import math
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.cli.causes import say_causes_last
from bundle.cli.expressions import parse_yaml
from bundle.cli.inputs import input_files, text_of
from bundle.cli.options import OptionError, check_values, command_of, merged_config, read_config, steps
from bundle.cli.settings import settings_of
from bundle.cli.unused import refuse_half_a_method, refuse_of_another_protocol, refuse_unused
from bundle.files import sha256, write_json
from bundle.former_names import renewed
from bundle.hints import nearest
from bundle.hub import as_address
from bundle.places import CONFIGS
from bundle.provenance import provenance

RECORD = "run.json"  # beside every result
NOT_NAMED = "(DICOM files or an archive: the path may name the patient)"
MADE_BY = "made_by"  # its one entry that is no config
RECIPE = {"_target_": "bundle.cli.run_record.recipe_of_command"}  # where a config asks what its preprocessing says
SETTINGS = {"_target_": "bundle.cli.run_record.settings_of_command"}  # where it asks for all that it says
# Options of `monai.bundle run` itself, and of its tracking.
MONAI_OPTIONS = (
    *("run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file"),
    *("workflow_type", "properties_path", "tracking_uri", "experiment_name", "run_name", "save_execute_config"),
)
logger = logging.getLogger(__name__)


def write_record(folder: str | Path, kind: str, config: Mapping[str, Any]) -> Path | None:
    """Write `run.json`: everything a run was told, and digests of the files it read; of several processes, the first.

    The file is itself a config, with one more entry, `made_by`.

    Args:
        folder: Folder that receives the results.
        kind: The command, as of `command_of`.
        config: All configs and overrides together, as written.

    Returns:
        The file.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        return None
    inputs = {
        name: {"path": as_address(str(path)), "sha256": sha256(path)} for name, path in _inputs(kind, config).items()
    }
    made_by = provenance(config.get("seed", 0), {"kind": kind, "inputs": inputs})
    path = Path(folder) / RECORD
    own = {name: value for name, value in config.items() if name not in (MADE_BY, "_meta_")}
    write_json(path, _without_patient(kind, {MADE_BY: made_by, **_as_text(own)}))
    return path


def _without_patient(kind: str, record: dict[str, Any]) -> dict[str, Any]:
    """A record without the path of DICOM files or an archive, which often is the patient's name."""
    source = record.get("dataset_dir")
    if kind != "inference" or not isinstance(source, str):
        return record
    from bundle.prediction.incoming import may_name_a_patient

    given = text_of(record, source) or source
    return _replaced(record, {given, source}) if may_name_a_patient(given) else record


def _replaced(content: Any, texts: Collection[str]) -> Any:
    if isinstance(content, Mapping):
        return {name: _replaced(value, texts) for name, value in content.items()}
    if isinstance(content, list):
        return [_replaced(value, texts) for value in content]
    for text in texts if isinstance(content, str) else ():
        content = content.replace(text, NOT_NAMED)
    return content


def _as_text(content: Any) -> Any:
    """A config with expressions for NaN and infinity, which JSON cannot say, and addresses for cached weights."""
    if isinstance(content, Mapping):
        return {name: _as_text(value) for name, value in content.items()}
    if isinstance(content, list):
        return [_as_text(value) for value in content]
    if isinstance(content, str):
        return as_address(content)
    return f"$float('{content}')" if isinstance(content, float) and not math.isfinite(content) else content


def read_record(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A record's config, and what it says of its making.

    Args:
        path: A `run.json`.
        kind: The command that is to run it.

    Raises:
        OptionError: when it is no record, or of another command.
    """
    config = read_config(path)
    made_by = config.pop(MADE_BY, None)
    if not isinstance(made_by, dict) or "kind" not in made_by:
        raise OptionError(f"{path} is no record of a run; expected a {RECORD}, which lies beside each result.")
    if made_by["kind"] != kind:
        raise OptionError(f"{path} is the record of `{made_by['kind']}`, not of `{kind}`; run that command.")
    return config, made_by


def compare_record(made_by: Mapping[str, Any], kind: str, config: Mapping[str, Any], given: Sequence[str]) -> None:
    """Refuse to repeat a run on other inputs, and warn of other software.

    Other data give another result, whatever the numbers look like; other versions mostly differ in the last digits.

    Args:
        made_by: Provenance of the record.
        kind: The command.
        config: The record's, with overrides.
        given: Options that were given again, whose files may be others.

    Raises:
        ValueError: names the files that changed.
    """
    now = _inputs(kind, config)
    held = {n: i for n, i in made_by["inputs"].items() if n.split("#")[0] not in given and "dataset_dir" not in given}
    changed = [f"{now[n]} (`{n}`)" for n, i in held.items() if n in now and sha256(now[n]) != i["sha256"]]
    if changed:
        options = ", ".join(sorted({f"--{name.split('#')[0]}" for name in held}))
        raise ValueError(
            f"What the run read has changed since: {', '.join(changed)}. Bring the old content back, or give {options} "
            "to run on the new one."
        )
    current = provenance(0)
    here = {**current["packages"], "python": current["python"], "commit": current["commit"]}
    there = {**made_by["packages"], "python": made_by["python"], "commit": made_by["commit"]}
    if other := [f"{name} {there.get(name)} → {here[name]}" for name in here if here[name] != there.get(name)]:
        logger.warning(f"Other software than the run's: {', '.join(other)}; results may differ.")


def _inputs(kind: str, config: Mapping[str, Any]) -> dict[str, Path]:
    return {name: path for name, path in input_files(kind, config).items() if path.is_file()}


# Under `python -m monai.bundle run`, which accepts every name


def check_command() -> None:
    """Refuse options of `python -m monai.bundle run` that no config has, or whose values a rule forbids.

    MONAI takes them for new entries, which nothing reads. Where MONAI was not started from the command line, such as
    by `create_workflow` or a federated client, there is nothing to look at.

    Raises:
        OptionError: with the nearest names.
    """
    found = monai_command()
    if found is None:
        return
    say_causes_last()
    files, overrides = found
    merged = merged_config(files, {})
    for key in overrides:
        root = steps(key)[0]
        if root not in merged:
            raise OptionError(f"There is no option --{key}{nearest(root, merged)}")
    check_values(command_of(files), overrides, "--")
    refuse_unused(merged_as_written(files, overrides), overrides)
    refuse_of_another_protocol(merged, overrides)
    refuse_half_a_method(files)


def record_command(folder: str | Path) -> None:
    """Write the record of `python -m monai.bundle run`; nothing where MONAI was not started from the command line.

    Args:
        folder: Folder that receives the results.
    """
    if found := monai_command():
        files, overrides = found
        config = merged_as_written(files, overrides)
        write_record(folder, config.get(MADE_BY, {}).get("kind") or command_of(files), config)


def recipe_of_command(name: str = "preprocessing") -> list[dict[str, Any]] | None:
    """The steps of the preprocessing of `python -m monai.bundle run`; None where MONAI was not started from there.

    Args:
        name: Id of the preprocessing.
    """
    if found := monai_command():
        from bundle.networks import steps_of

        return steps_of(written_at(merged_as_written(*found), name))
    return None


def written_at(config: Mapping[str, Any], name: str) -> Any:
    """What stands at a top-level id, or at the one that it refers to, such as `@preprocessing`."""
    value = config.get(name)
    return (
        written_at(config, value[1:]) if isinstance(value, str) and value[1:] in config and value[0] == "@" else value
    )


def settings_of_command() -> dict[str, Any] | None:
    """The settings of `python -m monai.bundle run`; None where MONAI was not started from there."""
    if found := monai_command():
        files, overrides = found
        config = merged_as_written(files, overrides)
        return settings_of(config.get(MADE_BY, {}).get("kind") or command_of(files), config)
    return None


def merged_as_written(files: Sequence[Path], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What configs and overrides come to together, as MONAI merges them, before anything is evaluated."""
    from monai.bundle import ConfigParser

    parser = ConfigParser(ConfigParser.load_config_files([str(f) for f in files]))
    parser.update(dict(overrides))
    return as_today(copy.deepcopy(dict(parser.get())))


def as_today(config: dict[str, Any]) -> dict[str, Any]:
    """A config with today's names; the study of an earlier probe, which had other arguments, is today's.

    Args:
        config: Config, as written, such as a record of an earlier version.
    """
    if config.get("study", {}).get("_target_") == "bundle.workflow.ProbeStudy":
        today = read_config(CONFIGS / "probe.yaml")
        config = {**today, **config, "study": today["study"], "torch_device": config["device"]}
    return renewed(config)


def monai_command() -> tuple[list[Path], dict[str, Any]] | None:
    """Configs and overrides of this process, where it is `python -m monai.bundle run`."""
    program, *arguments = sys.argv or [""]
    if Path(program).parts[-3:] != ("monai", "bundle", "__main__.py") or arguments[:1] != ["run"]:
        return None
    options = _fire_options(arguments[1:])
    if path := options.get("args_file"):
        options = {**read_config(Path(path)), **options}
    files = options.get("config_file", [])
    overrides = {name: value for name, value in options.items() if name not in MONAI_OPTIONS}
    return ([Path(f) for f in ([files] if isinstance(files, str) else files)], overrides) if files else None


def _fire_options(arguments: Sequence[str]) -> dict[str, Any]:
    """Options as Fire reads them: values are Python literals, else text."""
    options: dict[str, Any] = {}
    rest = list(arguments)
    while rest and rest[0] != "--":  # behind it are Fire's own
        name, equals, value = rest.pop(0).partition("=")
        if not re.match(r"--?[A-Za-z_+]", name):
            continue  # a positional argument: the id to run
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "True"
        options[name.lstrip("-").replace("-", "_")] = _literal(value)
    return options


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        try:
            return parse_yaml(text) if text[:1] in "[{" else text
        except ValueError:
            return text
