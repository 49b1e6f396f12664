"""Reading configs as text, so that a mistyped option is an error before anything heavy is imported."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bundle.cli import rules
from bundle.cli.expressions import ExpressionError, once, parse_yaml, refuse_code
from bundle.hints import nearest
from bundle.places import CONFIGS

FOLDER = CONFIGS
RUNNABLE = tuple(
    FOLDER / name
    for name in (
        *("pretrain.yaml", "probe.yaml", "train.json", "evaluate.json", "inference.json"),
        *("two_modalities.yaml", "probe_two_modalities.yaml"),  # over pretrain and probe, as evaluate is over train
        "probe_several_encoders.yaml",
    )
)
_EXPRESSIONS = rules.EXPRESSIONS
logger = logging.getLogger(__name__)


class OptionError(ValueError):
    """Refusal of a command line option or a config key."""


@contextmanager
def within(part: str) -> Iterator[None]:
    """Say in which part of a comparison's options a refused one stands."""
    try:
        yield
    except OptionError as error:
        raise OptionError(f"In `{part}` of the comparison: {error}") from error


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
        content = json.loads(text, object_pairs_hook=once) if path.suffix == ".json" else parse_yaml(text)
    except (OSError, ValueError, RecursionError) as error:
        raise OptionError(f"{path} cannot be read: {error}") from error
    if not isinstance(content or {}, dict) or not all(isinstance(key, str) for key in content or {}):
        raise OptionError(f"{path} holds no options by name; expected a line such as `epochs: 20`.")
    return content or {}


def refuse_repeated(arguments: Sequence[str], several: Collection[str]) -> None:
    """Refuse an option of several values that is given twice, of which only the last list would count.

    Of any other option the last one counts, as on most command lines, and a warning says so.

    Args:
        arguments: Words of the command line.
        several: Names of the options that take several values, with `_`.

    Raises:
        OptionError: names the option.
    """
    seen = set()
    for word in arguments:
        if not word.startswith("--") or len(word) < 3:
            continue
        written = word.partition("=")[0]
        name = "#".join(steps(written[2:].replace("-", "_")))
        if name in seen and name in several:
            raise OptionError(
                f"{written} is given twice, and only the values of one of both would count. Give it once, with all its "
                "values after it."
            )
        if name in seen:
            logger.warning(f"{written} is given more than once: the last one counts.")
        seen.add(name)


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
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise OptionError(f"The value {text[:60]!r} cannot be read: {error}") from error
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)  # YAML 1.1 reads 1e-4 as a string
    return value


def check_overlay(base: Mapping[str, Any], overlay: Mapping[str, Any], known: Sequence[str], name: str) -> None:
    """Refuse an overlay that sets something no config has, or gives an option a value of another type.

    Args:
        base: The runnable config and the overlays before this one.
        overlay: What is laid over it.
        known: Top-level keys of all runnable configs (an overlay may serve several).
        name: Name of the overlay, for the message.

    Raises:
        OptionError: with the nearest known names, or with the type found and the type expected.
    """
    for key, value in overlay.items():
        root, *path = steps(key)
        if root == "_desc_":
            continue
        if root not in base and root not in known:
            raise OptionError(f"{name} sets '{key}', which no config has{nearest(root, [*base, *known])}")
        if path and root in base:
            _check_entry(base, overlay, key, name)
        elif root in base and not key.startswith("+") and not _fits(root, base[root], value):
            raise OptionError(f"{name} sets {key} to {value!r}, but it is {base[root]!r}; expected the same type.")


def _check_entry(base: Mapping[str, Any], overlay: Mapping[str, Any], key: str, name: str) -> None:
    """Refuse a nested entry whose place there is not, or a new one that neither a component nor a reference takes."""
    *path, last = steps(key)
    place: Any = base
    for step in path:
        place = entries(place)
        if step not in place:
            raise OptionError(f"{name} sets '{key}', but there is no '{step}'{nearest(step, place)}")
        place = place[step]
    referred = f"@{'#'.join([*path, last])}" in json.dumps([base, overlay]).replace("::", "#")
    if last not in entries(place) and not referred and not (isinstance(place, Mapping) and "_target_" in place):
        raise OptionError(f"{name} sets '{key}', which nothing uses{nearest(last, entries(place))}")


def digest(config: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that change when what a config says changes; comments and layout do not count."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def steps(key: str) -> list[str]:
    """The ids that lead to an entry: `train#sampler#seed` becomes train, sampler, seed."""
    return re.split("#|::", key.lstrip("+"))


def entries(content: Any) -> dict[str, Any]:
    """What lies in a mapping by key, or in a list by position; nothing in anything else."""
    if isinstance(content, list):
        return {str(place): item for place, item in enumerate(content)}
    return dict(content) if isinstance(content, Mapping) else {}


def check_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any], command: str = "") -> None:
    """Refuse overrides whose key the config lacks, whose value has another type than the config's, or breaks a rule.

    Raises:
        OptionError: with the nearest names, or with the type found and the type expected.
    """
    for key, value in overrides.items():
        current = _look_up(config, key)
        try:
            refuse_code(key, value)
        except ExpressionError as error:
            raise OptionError(str(error)) from error
        if not _fits(key, current, value):
            raise OptionError(f"--{key} is {current!r} in the config, but {value!r} was given; expected the same type.")
    check_values(command, overrides, "--")


def _look_up(config: Any, key: str) -> Any:
    content = config
    for step in steps(key):
        found = entries(content)
        if step not in found:
            raise OptionError(f"There is no option --{key}{nearest(step, found)}")
        content = found[step]
    return content


def _fits(key: str, current: Any, value: Any) -> bool:
    """Whether a value may take the place of another; of an option with a rule, the rule judges."""
    written = isinstance(value, str) and value.startswith(_EXPRESSIONS)
    component = isinstance(value, (Mapping, list)) and "_target_" in json.dumps(value)
    return key in rules.OPTIONS or written or component or _same_type(current, value)


def _same_type(current: Any, value: Any) -> bool:
    if current is None or (isinstance(current, str) and current.startswith(_EXPRESSIONS)):
        return True
    if isinstance(current, bool) or isinstance(value, bool):
        return isinstance(current, bool) and isinstance(value, bool)
    if isinstance(current, Mapping) or isinstance(value, Mapping):
        return isinstance(current, Mapping) and isinstance(value, Mapping)
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
    """Check a runnable config's overlays and overrides against it, and all values against the rules.

    Args:
        files: The runnable config, then its overlays.
        overrides: Options, from the command line.
        runnable: All runnable configs, whose keys an overlay may set.

    Returns:
        The overrides, unchanged.

    Raises:
        OptionError: see `check_overlay`, `check_overrides` and `check_values`.
    """
    command = command_of(files)
    known = [key for path in runnable for key in read_config(path)]
    merged: dict[str, Any] = {}
    for path in files:
        content = read_config(path)
        if merged:
            check_overlay(merged, content, known, str(path))
        check_values(command, content, f"{path}: ")
        _lay(merged, content, anything=not merged or _is_runnable(path))
    check_overrides(merged, overrides, command)
    return dict(overrides)


def check_values(command: str, values: Mapping[str, Any], source: str) -> None:
    """Refuse values that a rule forbids.

    Args:
        command: Command; see `command_of`.
        values: Option → value.
        source: Beginning of the message, such as "--".

    Raises:
        OptionError: with what is expected.
    """
    if fault := next(rules.faults(command, values), None):
        raise OptionError(source + fault)


def merged_config(files: Sequence[Path], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What configs come to together, as written; entries that only other configs have are left out."""
    merged: dict[str, Any] = {}
    for path in files:
        _lay(merged, read_config(path), anything=not merged or _is_runnable(path))
    _lay(merged, overrides, anything=True)
    return merged


def _is_runnable(path: Path) -> bool:
    return path.name in {known.name for known in RUNNABLE}


def _lay(config: dict[str, Any], overlay: Mapping[str, Any], anything: bool) -> None:
    """Lay one config over another, in place; `anything`: also what the other lacks."""
    for key, value in overlay.items():
        *path, last = steps(key)
        if not anything and steps(key)[0] not in config:
            continue
        place: Any = config
        for step in path:
            place = place[int(step) if isinstance(place, list) else step]
        name = int(last) if isinstance(place, list) else last
        place[name] = _added(place[name], value) if key.startswith("+") else copy.deepcopy(value)


def _added(held: Any, more: Any) -> Any:
    return {**held, **more} if isinstance(held, Mapping) else [*held, *more]


def command_of(files: Sequence[Path]) -> str:
    """The command whose configs these are: pretrain, probe, train, evaluate, inference or compare."""
    runnable = [path.stem for path in files if _is_runnable(path)]
    return "evaluate" if "evaluate" in runnable else (runnable or [files[0].stem])[0]
