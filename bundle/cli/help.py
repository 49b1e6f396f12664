"""What `--help` lists: the options that a person sets, in the groups of a config's headings."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bundle.cli.inputs import text_of
from bundle.cli.options import merged_config, read_config
from bundle.cli.unused import names_read

PLUMBING = "Plumbing"  # the heading from which on a config has nothing for people
_COMMENT = re.compile(r"\s+#\s*(?P<words>.*)")


@dataclass(frozen=True)
class Option:
    """One option of a config.

    Attributes:
        name: Id of the option.
        default: Default, as a person writes it on the command line.
        words: What it is, with its unit.
    """

    name: str
    default: str
    words: str


Groups = dict[str, list[Option]]


class OptionsHelp(argparse.Action):
    """`--help` of a command that runs configs: their options are read only now.

    Args:
        files: The runnable config, and what is laid over it.
        hidden: Options that the command sets in another way.
    """

    def __init__(
        self,
        option_strings: Sequence[str],
        dest: str,
        files: Sequence[Path],
        hidden: Sequence[str],
        help: str,  # noqa: A002
    ) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)
        self.files, self.hidden = files, hidden

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print all options and exit."""
        for heading, options in options_of(self.files).items():
            group = parser.add_argument_group(heading)
            for option in (option for option in options if option.name not in self.hidden):
                written = option.default.replace("%", "%%")
                group.add_argument(f"--{option.name}", metavar=written, help=option.words.replace("%", "%%"))
        parser.print_help()
        parser.exit()


def options_of(files: Sequence[Path]) -> Groups:
    """The options of configs that are laid over each other, by heading; each stands once, with its last default.

    Options that a run does not read, such as those of training in `evaluate`, are left out.

    Args:
        files: The runnable config first.
    """
    config: dict[str, Any] = {}
    for path in files:
        config |= read_config(path)
    groups: Groups = {}
    for path in files:
        described = _of_json(path) if path.suffix == ".json" else _of_yaml(path)
        for heading, name, words in described:
            for options in groups.values():
                options[:] = [option for option in options if option.name != name]
            groups.setdefault(heading, []).append(Option(name, _written(config, config[name]), words))
    read = names_read(merged_config(files, {}))
    counting = {heading: [one for one in options if one.name in read] for heading, options in groups.items()}
    return {heading: options for heading, options in counting.items() if options}


def _of_json(path: Path) -> Iterator[tuple[str, str, str]]:
    """Heading, name and words of each option: the two levels of `_desc_`."""
    for heading, options in read_config(path)["_desc_"].items():
        yield from ((heading, name, words) for name, words in options.items())


def _of_yaml(path: Path) -> Iterator[tuple[str, str, str]]:
    """Heading, name and words of each option above the plumbing: comments at the places that PyYAML's nodes mark."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    content = yaml.compose(text, Loader=yaml.SafeLoader)
    heading = ""
    for key, value in content.value if content else ():
        heading = _heading(lines, key.start_mark.line) or heading
        if heading == PLUMBING:
            return
        beside = value.end_mark if value.end_mark.line == key.start_mark.line else key.end_mark
        comment = _COMMENT.fullmatch(lines[beside.line][beside.column :].removeprefix(":"))
        yield heading, key.value, comment["words"] if comment else ""


def _heading(lines: Sequence[str], number: int) -> str:
    """The comment that stands right above a line, below an empty one; a colon and what follows is left out."""
    above = lines[number - 1] if number else ""
    after_a_gap = number >= 2 and not lines[number - 2].strip()
    return above.removeprefix("# ").partition(":")[0] if above.startswith("# ") and after_a_gap else ""


def _written(config: dict[str, Any], value: Any) -> str:
    """A default as a person would write it; what only an evaluation shows is chosen by itself: `auto`."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_written(config, item)}" for name, item in value.items()) + "}"
    if isinstance(value, str):
        return (text_of(config, value) or "auto").removeprefix("./") if value else '""'
    return json.dumps(value, ensure_ascii=False)
