"""Whether the components of a config take the arguments that they are given, and what they refer to is there."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from pydoc import locate
from typing import Any

from monai.bundle import ComponentLocator, ConfigParser, ReferenceResolver

from bundle.cli.unused import ROOTS
from bundle.hints import nearest

_OVERLAY = re.compile(r"#\s*(?:Overlay|Laid over)(?: on)? ([^:]*\.(?:yaml|json))\b")  # the first line of an overlay
_HANDED_ON = re.compile(r"super\(\)\.__init__\([^)]*\*\*kwargs")


def check_components(config: Mapping[str, Any]) -> None:
    """Refuse a component that there is not, or an argument that a component does not have.

    MONAI says so only when it comes to make the component, which may be after an epoch.

    Args:
        config: Everything together, as written.

    Raises:
        ValueError: names component and argument, with the nearest names.
    """
    locator = ComponentLocator()
    for place, component in _components(config):
        target = component["_target_"]
        if str(target).startswith(("$", "@", "%")):
            continue
        made = locate(_full_name(str(target), locator))
        if made is None:
            raise ValueError(f"{place} is a '{target}', but there is no such component.")
        _check_arguments(place, component, made)


def check_references(config: Mapping[str, Any], files: Sequence[Path]) -> None:
    """Refuse a run that comes to a reference to an entry that there is not, as that of an overlay on another config.

    MONAI says so only when it comes to the entry, which is after a run has begun.

    Args:
        config: Everything together, as written.
        files: The config and its overlays, for the message.

    Raises:
        ValueError: names the entry, what it refers to, and the file that says so.
    """
    parser = ConfigParser(copy.deepcopy(dict(config)))
    parser.parse()
    items = parser.ref_resolver.items
    todo, seen = [root for root in ROOTS if root in items], set[str]()
    while todo:
        place = todo.pop()
        if place in seen:
            continue
        seen.add(place)
        for name in ReferenceResolver.find_refs_in_config(items[place].get_config(), place):
            if name not in items:
                raise ValueError(
                    f"`{place.replace('::', '#')}` refers to `{name.replace('::', '#')}`, which {files[0]} does not "
                    f"have{_said_by(name, files[1:])}."
                )
            todo.append(name)


def _said_by(name: str, overlays: Sequence[Path]) -> str:
    """Which overlay refers to a name, and on what config it says that it is laid."""
    for path in overlays:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if re.search(rf"@{re.escape(name.replace('::', '#'))}\b", text):
            base = _OVERLAY.match(text)
            told = f" is an overlay on {base[1]} and" if base else ""
            return f": {path}{told} asks for it. Give it to the command of its config, or leave it out"
    return ""


def _full_name(target: str, locator: ComponentLocator) -> str:
    if "." in target:
        return target
    module = locator.get_component_module_name(target)
    return f"{module if isinstance(module, str) else (module or ['monai'])[0]}.{target}"


def _check_arguments(place: str, component: Mapping[str, Any], made: Any) -> None:
    known = _arguments(made)
    for argument in component:
        if known is not None and not argument.startswith("_") and argument not in known:
            raise ValueError(
                f"{place} gives {component['_target_']} an argument '{argument}', which it does not have"
                f"{nearest(argument, known)}"
            )


def _arguments(made: Any) -> set[str] | None:
    """Names of a component's arguments, with those it hands on to its base class; None where any may be given."""
    known: set[str] = set()
    for owner in inspect.getmro(made)[:-1] if inspect.isclass(made) else [made]:
        try:
            parameters = inspect.signature(owner).parameters.values()
            source = inspect.getsource(owner.__init__) if inspect.isclass(owner) else ""
        except (OSError, TypeError, ValueError):  # written in C, or made while running
            return None
        known |= {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return known
        if not _HANDED_ON.search(source):
            return None
    return None


def _components(content: Any, place: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(content, Mapping):
        if "_target_" in content:
            yield place, content
        for name, item in content.items():
            yield from _components(item, f"{place}#{name}".lstrip("#"))
    elif isinstance(content, list):
        for number, item in enumerate(content):
            yield from _components(item, f"{place}#{number}")
