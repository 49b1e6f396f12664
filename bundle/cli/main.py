"""Command line: `python -m bundle COMMAND --help`, or `yaware COMMAND --help` once it is installed.

Nothing heavy is imported before a command has to run, so that help and refusals are immediate.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from bundle.cli import data_commands, inputs, model_commands
from bundle.cli.causes import sentence_of
from bundle.cli.options import OptionError, check_values, refuse_repeated
from bundle.hints import nearest

COMMANDS = data_commands.COMMANDS | model_commands.COMMANDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        Exit status: 0 done, 1 the input was refused, 2 the command line was, 3 some scans were refused.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    try:
        refuse_repeated(sys.argv[1:] if arguments is None else arguments, options.several)
        _check(options, rest)
        return options.run(options, rest) or 0
    except OptionError as error:
        return _refuse(str(error), 2)
    except (ValueError, OSError, RuntimeError) as error:  # MONAI wraps what a component of a config raises
        sentence = sentence_of(error)
        if sentence is None:
            raise
        return _refuse(sentence, 1)


def _check(options: argparse.Namespace, rest: Sequence[str]) -> None:
    """Refuse options that a command does not have, values that a rule forbids, and files that are missing."""
    if rest and not hasattr(options, "runnable"):
        name = rest[0].partition("=")[0].lstrip("-")
        raise OptionError(f"There is no option {rest[0]}{nearest(name, options.names)}")
    values = {name: value for name, value in vars(options).items() if not isinstance(value, Path)}
    check_values(options.command, values, "--")
    inputs.locate_weights(options.command, vars(options))
    inputs.require_files(inputs.given_files(options.command, vars(options)))
    if options.command != "predict":  # which looks at its options first
        inputs.require_paths(inputs.given_paths(options.command, vars(options)))


def _refuse(sentence: str, status: int) -> int:
    sys.stderr.write(f"error: {sentence}\n")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_program(), description="y-Aware contrastive pretraining for 3D brain MRI.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (summary, add_options, run) in COMMANDS.items():
        command = _command(commands, name, summary, run)
        add_options(command)
        if not any("--help" in action.option_strings for action in command._actions):
            command.add_argument("-h", "--help", action="help", help="show this and exit")
        names = [action.dest.replace("_", "-") for action in command._actions]
        lists = [text for action in command._actions if action.nargs == "+" for text in action.option_strings]
        several = [text.lstrip("-").replace("-", "_") for text in lists]
        command.set_defaults(command=name, names=names, several=several)
    return parser


def _program() -> str:
    """How this was called."""
    name = Path(sys.argv[0]).stem
    return name if name == "yaware" else "python -m bundle"


def _layout(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=34)  # as wide as the terminal


def _command(commands: argparse._SubParsersAction, name: str, summary: str, run: Callable) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        formatter_class=_layout,
        allow_abbrev=False,
        add_help=False,
    )
    parser.set_defaults(run=run)
    return parser


def entry() -> None:
    """What `python -m bundle` and `yaware` start."""
    start(main)


def start(program: Callable[[], int]) -> None:
    """Run a program and exit with its status; a console that lacks a letter shows ? in its place.

    Args:
        program: Reads the command line.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # MONAI's, for a decoder of NVIDIA that nobody asked for, wherever pydicom is installed
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S"
    )
    sys.exit(program())
