"""Reading configs as text, so that a mistyped option is an error before anything heavy is imported."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bundle.names import nearest

FOLDER = Path("configs")
RUNNABLE = tuple(
    FOLDER / name for name in ("pretrain.yaml", "probe.yaml", "train.json", "evaluate.json", "inference.json")
)
_OPTION = re.compile(r"^(?P<name>[a-z]\w*): (?P<value>[^#\n]*?)\s*(?:# (?P<comment>.*))?$")
_EXPRESSIONS = ("$", "@", "%")


class OptionError(ValueError):
    """Refusal of a command line option or a config key."""


def read_config(path: Path) -> dict[str, Any]:
    """Read one YAML or JSON config.

    Raises:
        OptionError: when the file is missing or cannot be parsed.
    """
    if not path.is_file():
        known = sorted(p.name for p in FOLDER.glob("*") if p.suffix in (".yaml", ".json"))
        raise OptionError(f"There is no config {path}; the configs are {', '.join(known)}.")
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise OptionError(f"{path} cannot be read: {error}") from error
    return content or {}


def options_of(path: Path) -> list[tuple[str, str, str]]:
    """The plain options at the top level of a config: (name, value as written, comment or entry of `_desc_`)."""
    if path.suffix == ".json":
        config = json.loads(path.read_text(encoding="utf-8"))
        return [(n, json.dumps(v), config["_desc_"].get(n, "")) for n, v in config.items() if _is_plain(n, v, config)]
    lines = path.read_text(encoding="utf-8").splitlines()
    matches = [m for m in map(_OPTION.match, lines) if m and not m["value"].startswith(("[$", "{"))]
    skipped = ("run", "network", "optimizer", "loss", "kernel", "imports")
    return [(m["name"], m["value"], m["comment"] or "") for m in matches if m["name"] not in skipped]


def _is_plain(name: str, value: Any, config: Mapping[str, Any]) -> bool:
    """Whether a top-level entry of a JSON config is an option for people."""
    if name in config["_desc_"]:
        return True
    return not isinstance(value, dict) and not str(value).startswith(("$", "@", "[{", "['$"))


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Turn `--key value`, `--key=value` and `--flag` into a dictionary; values are read as YAML.

    Raises:
        OptionError: for anything that is not an option.
    """
    overrides: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("--") or len(name) < 3:
            raise OptionError(f"Expected an option such as --epochs 20, but found '{name}'.")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        overrides[name[2:].replace("-", "_")] = _parse_value(value)
    return overrides


def _parse_value(text: str) -> Any:
    value = yaml.safe_load(text)
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)  # YAML 1.1 reads 1e-4 as a string
    return value


def check_overlay(base: Mapping[str, Any], overlay: Mapping[str, Any], known: Sequence[str], name: str) -> None:
    """Refuse an overlay that sets something no config has.

    Args:
        base: the runnable config.
        overlay: what is laid over it.
        known: top-level keys of all runnable configs (an overlay may serve several).
        name: of the overlay, for the message.

    Raises:
        OptionError: with the nearest known names.
    """
    for key in overlay:
        root = re.split("#|::", key.lstrip("+"))[0]
        if root not in base and root not in known:
            raise OptionError(f"{name} sets '{key}', which no config has{nearest(root, [*base, *known])}")


def check_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Refuse overrides whose key the config lacks or whose value has another type than the config's.

    Raises:
        OptionError: with the nearest names, or with the type found and the type expected.
    """
    for key, value in overrides.items():
        current = _look_up(config, key)
        if isinstance(value, str) and value.startswith(_EXPRESSIONS):
            raise OptionError(f"--{key} {value}: expressions are for config files; give a plain value.")
        if not _same_type(current, value):
            raise OptionError(f"--{key} is {current!r} in the config, but {value!r} was given; expected the same type.")


def _look_up(config: Any, key: str) -> Any:
    content = config
    for step in re.split("#|::", key):
        names = list(content) if isinstance(content, Mapping) else []
        if step not in names:
            raise OptionError(f"There is no option --{key}{nearest(step, names)}")
        content = content[step]
    return content


def _same_type(current: Any, value: Any) -> bool:
    if current is None or (isinstance(current, str) and current.startswith(_EXPRESSIONS)):
        return True
    if isinstance(current, bool) or isinstance(value, bool):
        return isinstance(current, bool) and isinstance(value, bool)
    if isinstance(current, float) and isinstance(value, str):
        return value in ("scott", "silverman")  # rules that stand for a bandwidth
    return isinstance(value, (int, float) if isinstance(current, float) else type(current))


def number(name: str, text: str) -> float:
    """A number from the command line.

    Raises:
        OptionError: when it is none.
    """
    try:
        return float(text)
    except ValueError:
        raise OptionError(f"--{name} expects a number, but '{text}' was given.") from None


def resolve(files: Sequence[Path], overrides: Mapping[str, Any], runnable: Sequence[Path]) -> dict[str, Any]:
    """Check a runnable config's overlays and overrides against it.

    Args:
        files: the runnable config, then its overlays.
        overrides: from the command line.
        runnable: all runnable configs, whose keys an overlay may set.

    Returns:
        The overrides, unchanged.

    Raises:
        OptionError: see `check_overlay` and `check_overrides`.
    """
    base = read_config(files[0])
    known = [key for path in runnable for key in read_config(path)]
    merged = dict(base)
    for path in files[1:]:
        overlay = read_config(path)
        check_overlay(base, overlay, known, str(path))
        merged |= {key: value for key, value in overlay.items() if key in base}
    check_overrides(merged, overrides)
    return dict(overrides)
