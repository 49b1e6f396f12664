"""Options of a run: refused where they cannot be, and completed by what the files say that are to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.cli import inputs
from bundle.cli.options import RUNNABLE, merged_config, resolve
from bundle.cli.unused import refuse_half_a_method, refuse_of_another_protocol, refuse_unused


def accepted(
    command: str, files: Sequence[Path], given: Mapping[str, Any], paths: Sequence[Path] = ()
) -> dict[str, Any]:
    """The options of a run, once they were looked at.

    Args:
        command: Command; see `options.command_of`.
        files: The config and its overlays.
        given: Options by their ids.
        paths: Files and folders that are read besides those that options name.

    Raises:
        ValueError: an option, a value or a file is not right; says which and what is expected.
    """
    resolve(files, given, RUNNABLE)
    merged = merged_config(files, given)
    refuse_of_another_protocol(merged, given)
    refuse_unused(merged, given)
    refuse_half_a_method(files)
    return with_what_is_there(command, files, given, paths)


def with_what_is_there(
    command: str, files: Sequence[Path], given: Mapping[str, Any], paths: Sequence[Path] = ()
) -> dict[str, Any]:
    """The options with those that the files to be read imply: weights that come with the package, and what they say.

    The arguments are those of `accepted`, which looks at the options first.
    """
    shipped = inputs.shipped_files(command, merged_config(files, given), given)
    given = {**shipped, **given}
    given |= inputs.located_weights(command, merged_config(files, given))
    read = inputs.input_files(command, merged_config(files, given))
    inputs.require_files(read)
    inputs.require_paths(paths)

    from bundle.cli.from_weights import stated_by_weights

    return {**given, **stated_by_weights(command, files, read, given)}
