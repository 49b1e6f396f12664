"""Pages of the reference that are made of the code, so that they cannot differ from it: commands, configs, rooms."""

import argparse
import importlib
import json
import re
from pathlib import Path
from typing import Any

from bundle.cli.help import PLUMBING, Option, options_of
from bundle.cli.main import _parser
from bundle.places import CONFIGS

ROOMS = (
    *("pretext", "networks", "metrics", "cohort", "scans", "phantom"),
    *("training", "adaptation", "evaluation", "preparation", "prediction", "dicom", "pages"),
)
RUNNABLE = (
    *("pretrain.yaml", "probe.yaml", "train.json", "evaluate.json", "inference.json", "compare.yaml"),
    *("two_modalities.yaml", "probe_two_modalities.yaml"),  # laid over pretrain and probe
    "probe_several_encoders.yaml",
)


def metadata() -> dict[str, Any]:
    """What the bundle says of itself."""
    return json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))


def write(docs: Path) -> None:
    """Write the made pages into docs/reference; a page that is the same keeps its time, so that a build is short."""
    folder = docs / "reference" / "made"
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"commands.md": _commands(), "configs.md": _configs(), "python.rst": _python()}
    pages |= {f"{room}.rst": _room(room) for room in ROOMS}
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


# Commands


def _commands() -> str:
    parser = _parser()
    action = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    summaries = {choice.dest: choice.help for choice in action._choices_actions}
    lines = [
        "# Commands",
        "",
        "`python -m bundle COMMAND`, or `yaware COMMAND` where the bundle is installed. `--help` shows the same.",
        "",
        *_table("command", "what it does", [(f"[`{n}`](#{n})", words) for n, words in summaries.items()]),
        "",
    ]
    for name, command in action.choices.items():
        lines += [f"## {name}", "", f"{command.description}", "", *_options(command)]
    return "\n".join(lines) + "\n"


def _options(command: argparse.ArgumentParser) -> list[str]:
    """Tables of a command's own options and of those of its configs."""
    rows = [(_spelling(action), action.help or "") for action in command._actions if action.dest != "help"]
    lines = [*_table("argument", "meaning", rows), ""]
    files = command.get_default("runnable")
    if files:
        hidden = next(action.hidden for action in command._actions if hasattr(action, "hidden"))
        named = ", ".join(f"`configs/{path.name}`" for path in files)
        lines += [f"Options of {named}:", ""]
        for heading, options in options_of(files).items():
            shown = [option for option in options if option.name not in hidden]
            lines += [f"**{heading}**", "", *_option_table(shown), ""] if shown else []
    return lines


def _spelling(action: argparse.Action) -> str:
    names = [name for name in action.option_strings if "_" not in name] or [action.dest]
    value = action.metavar or ("" if action.nargs == 0 or not action.option_strings else action.dest.upper())
    if action.choices:
        value = "{" + ", ".join(map(str, action.choices)) + "}"
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    return f"`{', '.join(names)} {value if isinstance(value, str) else ' '.join(value)}`".replace(" `", "`")


# Configs


def _configs() -> str:
    lines = [
        "# Configs",
        "",
        "A runnable config says what is done. An overlay is laid over it and changes a few entries: "
        "`--config configs/phantom.yaml configs/pretext_simclr.yaml`. Every option is also one of the command line.",
        "",
        "## Runnable configs",
        "",
    ]
    for name in RUNNABLE:
        lines += [f"### {name}", "", _first_line(CONFIGS / name), ""]
        for heading, options in options_of([CONFIGS / name]).items():
            lines += [f"**{heading}**", "", *_option_table(options), ""] if heading != PLUMBING else []
    overlays = [path for path in sorted(CONFIGS.glob("*.yaml")) if path.name not in RUNNABLE]
    rows = [(f"`{path.name}`", _first_line(path)) for path in overlays]
    lines += ["## Overlays", "", *_table("overlay", "what it is laid on, and what it changes", rows), ""]
    return "\n".join(lines) + "\n"


_OF_JSON = {
    "train.json": "Fine-tuning of a pretrained encoder, or training from scratch.",
    "evaluate.json": "The test of a classifier; laid over `train.json`.",
    "inference.json": "Prediction of scans.",
}


def _first_line(path: Path) -> str:
    """What a config says of itself: its first comment, without the words that every overlay begins with."""
    if path.suffix == ".json":
        return _OF_JSON[path.name]
    words = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").removeprefix("Overlay ")
    return words[0].upper() + words[1:]


# Rooms of the package


def _python() -> str:
    rows = "\n".join(f"   {room}" for room in ROOMS)
    return _titled("Rooms of the package", "=") + (
        "What each room hands on. :doc:`../../howto/python` shows the functions that a notebook begins with.\n\n"
        f".. toctree::\n   :maxdepth: 1\n\n{rows}\n"
    )


def _room(name: str) -> str:
    room = importlib.import_module(f"bundle.{name}")
    public = [item for item in room.__all__ if callable(getattr(room, item))]
    names = "\n".join(f"   {item}" for item in public)
    kinds = "\n".join(
        f".. {'autoclass' if isinstance(getattr(room, item), type) else 'autofunction'}:: {item}\n"
        + ("   :members:\n" if isinstance(getattr(room, item), type) else "")
        for item in public
    )
    return (
        _titled(f"bundle.{name}", "=")
        + f".. automodule:: bundle.{name}\n   :no-members:\n\n.. currentmodule:: bundle.{name}\n\n"
        + f".. autosummary::\n   :nosignatures:\n\n{names}\n\n{kinds}"
    )


# Text


def _titled(title: str, line: str) -> str:
    return f"{title}\n{line * len(title)}\n\n"


def _option_table(options: list[Option]) -> list[str]:
    rows = [(f"`--{option.name}`", f"`{option.default}`", option.words) for option in options]
    return _table("option", "default", "meaning", rows)


def _table(*columns: Any) -> list[str]:
    *headings, rows = columns
    cells = [" | ".join(_cell(cell) for cell in row) for row in rows]
    return [f"| {' | '.join(headings)} |", "|" + " --- |" * len(headings), *[f"| {row} |" for row in cells]]


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", r"\|").replace("%%", "%")
