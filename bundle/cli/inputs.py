"""Files that a command reads: which they are, without evaluating a config, and whether they are there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.cli.expressions import plain_path
from bundle.cli.rules import EXPRESSIONS, inside
from bundle.hints import nearest
from bundle.hub import located
from bundle.places import found

_TERM = r"@\w+|'[^']*'"
_SUM = re.compile(rf"[$]?(?:{_TERM})(?:\s*\+\s*(?:{_TERM}))*")
# Options of a command that name a file it reads.
INPUTS = {
    "pretrain": ("datalist", "start", "second_datalist", "second_start"),
    "probe": ("weights", "age_datalist", "tasks", "second_weights", "second_age_datalist", "second_tasks"),
    "train": ("datalist", "weights"),
    "evaluate": ("datalist", "model"),
    "inference": ("model",),
    "cache": ("datalist",),
    "positives": ("datalist",),
    "check-cohort": ("datalist",),
    "cohort": ("table", "split"),
    "split": ("table", "rule"),
    "check": ("model",),
    "export": ("model",),
    "convert-weights": ("file",),
    "publish": ("model", "metrics", "encoder"),
}
# Options that name several files, and those that name files or folders.
LISTED = {"check-cohort": ("others", "weights"), "cohort": ("hold_out",)}
PLACES = {"check": ("scans",), "predict": ("source",), "prepare": ("scans",)}
# Options that name weights; `file`: of convert-weights.
WEIGHTS = ("weights", "model", "encoder", "file", "start", "second_start", "second_weights")
FROM_SCRATCH = ("weights", "start", "second_start")  # of these, `scratch` is no file
_MAKERS = {
    "datalist": "Datalists are made by `python -m bundle cohort`, or by `phantom`.",
    "weights": "Weights are made by `python -m bundle pretrain`.",
    "start": "Weights are made by `python -m bundle pretrain`.",
    "second_datalist": "Datalists are made by `python -m bundle cohort`, one a modality, or by `phantom --second fa`.",
    "second_start": "Weights are made by `python -m bundle pretrain`.",
    "from": "Classifiers are made by `python -m bundle train`.",
    "model": "Classifiers are made by `python -m bundle train`.",
}


def text_of(config: Mapping[str, Any], value: Any) -> str | None:
    """The text that a plain value, a reference or a sum of texts comes to, without evaluating anything; else None.

    Example:
        >>> text_of({"root": "."}, "$@root + '/data'")
        './data'
    """
    if not isinstance(value, str):
        return None
    if not value.startswith(EXPRESSIONS):
        return value
    if not _SUM.fullmatch(value):
        return None
    found = []
    for term in re.findall(_TERM, value):
        rest = {name: content for name, content in config.items() if name != term[1:]}
        found.append(text_of(rest, config.get(term[1:])) if term.startswith("@") else term[1:-1])
    return None if None in found else "".join(map(str, found))


def input_files(command: str, config: Mapping[str, Any]) -> dict[str, Path]:
    """Files that a command reads, by the names of their options; those that only an evaluation shows are left out."""
    if command == "compare":
        folder = Path(str(config["dataset_dir"]))
        return {name: folder / f"{name}.json" for name in ("pretraining", *config["tasks"])}
    wanted: dict[str, Any] = {}
    todo = {name: config.get(name) for name in INPUTS.get(command, ())}
    while todo:
        name, value = todo.popitem()
        if isinstance(value, Mapping):  # tasks, and the datalists of a task
            todo |= inside(name, value)
        else:
            wanted[name] = value
    texts = {name: str(v) if isinstance(v, Path) else text_of(config, v) for name, v in wanted.items()}
    return {name: _place(name, text) for name, text in texts.items() if text and not _is_from_scratch(name, text)}


def _is_from_scratch(name: str, text: str) -> bool:
    return name in FROM_SCRATCH and text == "scratch"


def _place(name: str, text: str | Path) -> Path:
    """A path; of weights the file, which may lie in a published folder or on the Hugging Face Hub."""
    return located(text) if name.split()[0] in WEIGHTS else Path(text)


def located_weights(command: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Options that name weights in a folder or on the Hub, with the file in their place.

    Args:
        command: Command that the files belong to.
        config: Configs and options together, as written.
    """
    texts = {name: text_of(config, config.get(name)) for name in INPUTS.get(command, ()) if name in WEIGHTS}
    found = {name: (text, located(text)) for name, text in texts.items() if text and text != "scratch"}
    return {name: plain_path(str(path)) for name, (text, path) in found.items() if path != Path(text)}


def locate_weights(command: str, options: dict[str, Any]) -> None:
    """Put files in the place of weights in a folder or on the Hub, among the options of a command line.

    Args:
        command: Name of the command.
        options: Options, as parsed; changed in place.
    """
    for name in {*INPUTS.get(command, ()), *LISTED.get(command, ())} & set(WEIGHTS):
        value = options.get(name)
        if isinstance(value, list):
            options[name] = [located(path) for path in value]
        elif isinstance(value, Path):
            options[name] = located(value)


def shipped_files(command: str, config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    """Files that a command reads by default, and that come with the package: weights, where the user has none.

    Args:
        command: Command that the files belong to.
        config: Configs and options together, as written.
        given: Options that the user gave, which stay as they are.
    """
    read = {name: (path, found(path)) for name, path in input_files(command, config).items() if name not in given}
    return {name: str(beside) for name, (path, beside) in read.items() if beside != path}


def given_files(command: str, options: Mapping[str, Any]) -> dict[str, Path]:
    """Files that the options of a command line name, by the options' names.

    Args:
        command: Name of the command.
        options: Options, as parsed.
    """
    single = {name: options.get(name) for name in INPUTS.get(command, ())}
    several = {f"{name} {n}": p for name in LISTED.get(command, ()) for n, p in enumerate(options.get(name) or (), 1)}
    return {name: Path(path) for name, path in {**single, **several}.items() if path}


def given_paths(command: str, options: Mapping[str, Any]) -> list[Path]:
    """Files or folders that a command line names.

    Args:
        command: Name of the command.
        options: Options, as parsed.
    """
    values = [options.get(name) for name in PLACES.get(command, ())]
    return [Path(path) for value in values if value for path in (value if isinstance(value, list) else [value])]


def require_paths(paths: Sequence[Path]) -> None:
    """Refuse when a file or folder that is to be read is missing.

    Raises:
        FileNotFoundError: with the nearest names beside it.
    """
    for path in paths:
        if not _exists(path):
            beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
            hint = nearest(path.name, beside) if beside else "."
            raise FileNotFoundError(f"{path} does not exist{hint}")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # what cannot be looked at is said when it is read
        return True


def require_files(files: Mapping[str, Path]) -> None:
    """Refuse when a file that is to be read is missing.

    Raises:
        FileNotFoundError: with the nearest names of files beside it.
    """
    for name, path in files.items():
        if path.is_file():
            continue
        maker = _MAKERS.get(name, "")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"`{name}` is {path}, but there is no folder {path.parent}. {maker}".rstrip())
        beside = [other.name for other in path.parent.iterdir() if other.suffix == path.suffix]
        hint = nearest(path.name, beside) if beside else f"; its folder holds no {path.suffix or 'such'} file."
        raise FileNotFoundError(f"`{name}` is {path}, but there is no such file{hint} {maker}".rstrip())
