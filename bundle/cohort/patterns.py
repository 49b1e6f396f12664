"""Which image belongs to which row of a table: patterns of file names with ids in braces."""

from __future__ import annotations

import glob
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bundle.people import BIDS_PREFIXES, without_prefix

_FIELD = re.compile(r"\{([^{}]*)\}")
_GLOB_TOKEN = re.compile(r"\*\*/|\*+|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)


def pattern_fields(pattern: str) -> list[str]:
    """Return the names in braces of an image pattern, in order.

    Args:
        pattern: Such as `"sub-{participant_id}/**/*gm*.npy"`.

    Example:
        >>> pattern_fields("sub-{participant_id}/ses-{session_id}/*.nii.gz")
        ['participant_id', 'session_id']
    """
    return _FIELD.findall(pattern)


def expand_pattern(pattern: str, row: Mapping[str, str]) -> str:
    """Write a row's values into the pattern, for people to read; no path is built from it.

    Args:
        pattern: The image pattern.
        row: Value of every field of the pattern.

    Example:
        >>> expand_pattern("sub-{participant_id}_*.nii", {"participant_id": "sub-02"})
        'sub-02_*.nii'
    """

    def value(match: re.Match[str]) -> str:
        prefix = BIDS_PREFIXES.get(match[1], "")
        written = prefix and pattern[: match.start()].endswith(prefix)
        return without_prefix(match[1], row[match[1]]) if written else row[match[1]]

    return _FIELD.sub(value, pattern)


def find_images(
    pattern: str, root: Path, rows: Sequence[Mapping[str, str] | None]
) -> tuple[list[list[Path]], list[Path]]:
    """Assign the files below a folder to the rows whose ids stand in their paths.

    The folder is listed once, with a wildcard in place of every field, and each file found is then
    compared with the rows. Hence no path is ever built from an id, and an id cannot leave the
    folder. An id matches with and without its BIDS prefix. Beside a wildcard it must be whole:
    with `*{participant_id}*`, participant 1 does not get the scan of participant 11.

    Args:
        pattern: Relative to `root` or absolute, with at least one field in braces; `*`, `?`, `[…]` and `**`
            are wildcards.
        root: Folder that a relative pattern starts from.
        rows: Per row the values of the fields, or None for a row that is not to be matched.

    Returns:
        The files of every row, and the files that belong to no row; sorted.
    """
    fields = pattern_fields(pattern)
    key = "participant_id" if "participant_id" in fields else fields[0]
    matchers = [None if row is None else re.compile(_row_regex(pattern, row)) for row in rows]
    index: defaultdict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        if row is not None:
            index[without_prefix(key, row[key])].append(number)
    found: list[list[Path]] = [[] for _ in rows]
    orphans = []
    lengths = {len(core) for core in index}
    for name in _listing(pattern, root):
        near = [n for core in _substrings(name, lengths) & index.keys() for n in index[core]]
        owners = [n for n in near if (regex := matchers[n]) and regex.fullmatch(name)]
        for number in owners:
            found[number].append(root / name)
        if not owners:
            orphans.append(root / name)
    return found, orphans


def _listing(pattern: str, root: Path) -> list[str]:
    # "?*" and not "*": a field beside a wildcard must not become the recursive "**".
    wild = _FIELD.sub("?*", pattern)
    # glob rather than Path.glob: it leaves out hidden files (macOS writes "._sub-01.nii").
    names = glob.iglob(wild, root_dir=root, recursive=True)  # noqa: PTH207
    return sorted({name for name in names if (root / name).is_file()})


def _substrings(name: str, lengths: Iterable[int]) -> set[str]:
    return {name[i : i + n] for n in lengths for i in range(len(name) - n + 1)}


def _row_regex(pattern: str, row: Mapping[str, str]) -> str:
    parts = _FIELD.split(pattern)  # literal, field, literal, field, …, literal
    regex = [_translate(parts[0])]
    for before, name, after in zip(parts[0::2], parts[1::2], parts[2::2], strict=False):
        core = without_prefix(name, row[name])
        prefix = f"(?:{BIDS_PREFIXES[name]})?" if name in BIDS_PREFIXES else ""
        if before.endswith(("*", "?", "]")) and core[:1].isalnum():
            prefix += f"(?<!{_kind(core, core[0])})"
        regex += [prefix, re.escape(core)]
        if after.startswith(("*", "?", "[")) and core[-1:].isalnum():
            regex.append(f"(?!{_kind(core, core[-1])})")
        regex.append(_translate(after))
    return "".join(regex)


def _kind(core: str, end: str) -> str:
    """Characters that would continue an id: mwp1 holds no participant 1, but mwp1ann holds ann."""
    if core.isdigit():
        return r"[^\W_]"
    return r"\d" if end.isdigit() else r"[^\W\d_]"


def _translate(literal: str) -> str:
    wild = {"**/": r"(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}

    def token(match: re.Match[str]) -> str:
        text = match[0]
        if len(text) > 1 and text[0] == "[":
            return "[" + text[1:-1].replace("\\", r"\\").replace("!", "^", text[1] == "!") + "]"
        return wild.get(text) or re.escape(text)

    return _GLOB_TOKEN.sub(token, literal)
