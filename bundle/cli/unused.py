"""Options that a run would not read, though somebody gave them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.cli.options import OptionError, entries, merged_config, read_config, steps

ROOTS = ("initialize", "run", "finalize", "checks")  # what a run evaluates
OF_SITES = ("site_groups", "min_site", "min_label", "pretrain_on", "diagnoses", "other_sites")  # of `compare`
# Option → another option, and the values of that without which nothing reads it.
ONLY_WITH = {
    "sizes": ("protocol", ("draws",)),
    "draws": ("protocol", ("draws", "folds")),
    "n_folds": ("protocol", ("folds",)),
    **dict.fromkeys(OF_SITES, ("protocol", ("sites",))),
}
SAYING = ("validate#card",)  # says what was done, and does nothing
# Options that others make up for, or that a card says.
NEVER_REFUSED = frozenset({"bundle_root", "dataset_dir", "imports", "method", "class_names"})
# The component that reads an option, in whose place an overlay may have put another.
BELONGS_TO = {
    **dict.fromkeys(("sigma", "temperature", "own_share", "within_share"), "loss"),
    **dict.fromkeys(("lr_step", "lr_factor"), "lr_scheduler"),
    "projector_layers": "network_def",
}
_REFERENCE = re.compile(r"[@%]([\w#:]+)")


def refuse_unused(config: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse options of a command line that nothing of the run reads, such as a sigma beside a loss without kernel.

    Args:
        config: Everything together, as written, with what was given.
        given: The options by their ids.

    Raises:
        OptionError: names the option and what has taken its place.
    """
    read = names_read(config)
    for key in given:
        name = steps(key)[0]
        if name not in read:
            raise OptionError(
                f"--{key} was given, but nothing in this run uses it{_instead(config, name)}. Leave the option out, "
                "or the overlay that put something else in the place of what reads it."
            )


def names_read(config: Mapping[str, Any]) -> set[str]:
    """The options that count in a run: what it evaluates comes to them, or a card says them.

    Args:
        config: Everything together, as written; of one that is not run by itself, as `compare.yaml`, all count.
    """
    if not any(root in config for root in ROOTS):
        return set(config)
    return {*_read(config), *NEVER_REFUSED, *ROOTS}


def refuse_of_another_protocol(config: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse options of a command line that only another protocol reads, such as sizes of draws beside sites.

    Args:
        config: Everything together, as written, with what was given.
        given: The options by their ids.

    Raises:
        OptionError: names the option and the protocol that has it.
    """
    for name in given:
        other, values = ONLY_WITH.get(name, ("", ()))
        if other in config and config[other] not in values:
            raise OptionError(
                f"--{name} was given, but with --{other} {config[other]} nothing uses it. Leave it out, or give "
                f"--{other} {' or '.join(values)}."
            )


def refuse_half_a_method(files: Sequence[Path]) -> None:
    """Refuse overlays that name a method of which another overlay has taken a part away.

    Weights would be called after what did not train them: `pretext_supervised_sex.yaml` gives y-Aware's loss another
    kernel, and behind `pretext_simclr.yaml` no loss reads it.

    Args:
        files: The config and its overlays.

    Raises:
        OptionError: names the overlay and what is lost.
    """
    config = merged_config(files, {})
    base = read_config(files[0])
    named = {path: content for path in files[1:] if "method" in (content := read_config(path))}
    read, set_by = names_read(config), dict[str, Path]()
    for path, content in named.items():
        for key, value in content.items():
            name = steps(key)[0]
            if name in ("method", "_desc_") or name not in base:
                continue
            if name not in read:
                raise OptionError(
                    f"{path} sets {name}, which nothing in this run reads{_instead(config, 'loss')}, so that '"
                    f"{content['method']}' would be trained in part. Leave it out, or the overlay that took its place."
                )
            first = set_by.setdefault(key, path)
            if not key.startswith("+") and named[first][key] != value:
                raise OptionError(
                    f"{first} and {path} both set {key}, so that of '{named[first]['method']}' and "
                    f"'{content['method']}' only one would be trained. Give one of them."
                )


def _read(config: Mapping[str, Any]) -> Iterator[str]:
    """Top-level names that a run comes to, from what it evaluates, by references."""
    todo, seen = [root for root in ROOTS if root in config], set()
    while todo:
        key = todo.pop()
        if key in seen:
            continue
        seen.add(key)
        yield steps(key)[0]
        todo += [found for text in _texts(_at(config, key), key) for found in _references(text)]


def _references(text: str) -> Iterator[str]:
    for found in _REFERENCE.findall(text):
        yield "#".join(steps(found.rstrip("#:")))


def _at(config: Any, key: str) -> Any:
    """What lies at an id; nothing where there is nothing."""
    for step in steps(key):
        config = entries(config).get(step)
    return config


def _texts(content: Any, place: str) -> Iterator[str]:
    """Every text within, but for what only says what was done."""
    if place in SAYING:
        return
    if isinstance(content, str):
        yield content
    for name, item in entries(content).items():
        if name != "_desc_":
            yield from _texts(item, f"{place}#{name}")


def _instead(config: Mapping[str, Any], name: str) -> str:
    """The component that reads no such option, where it can be told."""
    place = BELONGS_TO.get(name, name)
    component = config.get(place)
    return f" (here the {place} is {component['_target_']})" if isinstance(component, Mapping) else ""
