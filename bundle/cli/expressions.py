"""What may come from a command line: values, and never code. MONAI's configs are code; a value given to one is not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

import yaml

_MARKS = ("$", "%", "@")  # of an expression, of another file's content, of a reference
_REFERENCE = re.compile(r"@[A-Za-z_]\w*(?:(?:#|::)\w+)*")
# Layers, losses, optimisers and kernels: classes that compute. One step below these modules and capitalised, so that no
# name leads through a module to what it imports, such as torch.nn.functional.torch.load.
_PARTS = (
    *("torch.nn", "torch.optim", "torch.optim.lr_scheduler", "monai.losses", "monai.networks.nets", "monai.optimizers"),
    *("bundle.networks", "bundle.pretext"),
)
_TARGET = re.compile(rf"(?:{'|'.join(map(re.escape, _PARTS))})\.[A-Z]\w*")
_KEYS = ("_target_", "_desc_", "_disabled_")  # of MONAI's keys: `_mode_` and `_requires_` would run something
# Sexagesimal and octal numbers of YAML 1.1.
_SURPRISE = re.compile(r"[-+]?(?:[1-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?|0[0-7_]+)")
DEEPEST = 50  # brackets in brackets; PyYAML's time grows with their square
MOST = 10_000  # values; YAML's references make billions of a few lines


class ExpressionError(ValueError):
    """A value that would run code, or has no end."""


class RepeatedKeyError(ValueError):
    """A mapping that names something twice."""


def once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping of its entries, none of which may be there twice: JSON and YAML would keep the last one without a word.

    Raises:
        RepeatedKeyError: names the key.
    """
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise RepeatedKeyError(f"it has '{key}' twice in one mapping, of which only one would count; keep one")
        found[key] = value
    return found


def parse_yaml(text: str) -> Any:
    """Read YAML that holds plain values alone.

    Numbers that YAML 1.1 reads otherwise than people do are refused: `1:30` is 90 there, and `012` is 10.

    Raises:
        ValueError: when it cannot be parsed, is nested too deeply, unfolds to more than 10,000 values, or holds such a
            number, or the same key twice in one mapping.
    """
    if text.count("[") + text.count("{") > DEEPEST and _depth(text) > DEEPEST:
        raise ValueError(f"it has more than {DEEPEST} brackets inside each other")
    try:
        value = yaml.safe_load(text)
    except Exception as error:  # beside its own errors, PyYAML raises those of the conversions it tries
        raise ValueError(f"it is not valid YAML ({type(error).__name__}: {' '.join(str(error).split())})") from error
    for _ in _inside(value):
        pass
    _refuse_repeated_keys(text)
    _refuse_surprises(text)
    return value


def _refuse_repeated_keys(text: str) -> None:
    """Refuse a mapping that has a key twice; the text has been parsed already."""
    todo, seen = [yaml.compose(text, Loader=yaml.SafeLoader)], set[int]()
    while todo:
        node = todo.pop()
        if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            once((key.value, None) for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            todo += [part for pair in node.value for part in pair]
        else:
            todo += node.value


def _refuse_surprises(text: str) -> None:
    """Refuse plain scalars that are numbers in YAML 1.1 alone; the text has been parsed already."""
    if not _SURPRISE.search(text):
        return
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if isinstance(token, yaml.ScalarToken) and token.plain and _SURPRISE.fullmatch(token.value):
            number = yaml.safe_load(token.value)
            raise ValueError(
                f"{token.value} is the number {number} in YAML; write {number} if it is meant, or '\"{token.value}\"' "
                "for a text"
            )


def _depth(text: str) -> int:
    return max(accumulate((c in "[{") - (c in "]}") for c in text))


def refuse_code(name: str, value: Any) -> None:
    """Refuse a value of a command line that MONAI would run, at any depth.

    Expressions (`$…`) and contents of other files (`%…`) are refused. References (`@optimizer`) and `_target_` are
    allowed inside objects and lists, where a part of a config is replaced; a target must be a class of those modules of
    torch, MONAI and this bundle that only compute.

    Args:
        name: Name of the option.
        value: Value, as parsed.

    Raises:
        ExpressionError: says what was found.
    """
    for key, found in _inside(value):
        _check_entry(name, key, found)
        marked = isinstance(found, str) and found.startswith(_MARKS)
        if marked and (found is value or not _REFERENCE.fullmatch(found)):
            raise ExpressionError(f"--{name} {found}: expressions are for config files; give a plain value.")


def _check_entry(name: str, key: Any, found: Any) -> None:
    if isinstance(key, str) and (key.startswith((*_MARKS, "+")) or (key.startswith("_") and key not in _KEYS)):
        raise ExpressionError(f"--{name} has an entry '{key}', which is for config files; leave it out.")
    if key == "_target_" and not (isinstance(found, str) and _TARGET.fullmatch(found)):
        raise ExpressionError(
            f"--{name} names the target {str(found)[:80]!r}. From a command line only classes of "
            f"{', '.join(_PARTS)} are taken; write anything else into an overlay of your own."
        )


def _inside(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every value at any depth with its key, without recursion."""
    todo: list[tuple[Any, Any]] = [(None, value)]
    for count in range(MOST + 1):
        if not todo:
            return
        key, found = todo.pop()
        yield key, found
        if isinstance(found, Mapping):
            todo += found.items()
        elif isinstance(found, (list, tuple, set)):
            todo += [(None, item) for item in found]
        if len(todo) > MOST or count == MOST:
            raise ExpressionError(f"A value holds more than {MOST:,} others; expected a plain one.")


def plain_path(path: str) -> str:
    """A path as a config takes it: a file may be named like an expression.

    Example:
        >>> plain_path("$HOME.nii")
        './$HOME.nii'
        >>> plain_path("scans")
        'scans'
    """
    return f"./{path}" if path.startswith(_MARKS) else path
