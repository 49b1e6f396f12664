"""The BIDS App: `yaware-bids BIDS_DIR OUTPUT_DIR participant|group`; nothing heavy is imported before it has to run."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bundle.cli import inputs
from bundle.cli.causes import sentence_of
from bundle.cli.main import main as run_command
from bundle.cli.main import start
from bundle.cli.options import FOLDER, OptionError, read_config
from bundle.places import found

MODEL = Path("models/model.pt")  # found beside the package
logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one level of the BIDS App.

    Returns:
        Exit status: 0 done, 1 the input was refused, 2 the command line was, 3 some scans were refused.
    """
    options = _parser().parse_args(arguments)
    try:
        _check(options)
        return _group(options) if options.level == "group" else _participants(options)
    except OptionError as error:
        return _refuse(str(error), 2)
    except (ValueError, OSError, RuntimeError) as error:
        sentence = sentence_of(error)
        if sentence is None:
            raise
        return _refuse(sentence, 1)


def _refuse(sentence: str, status: int) -> int:
    sys.stderr.write(f"error: {sentence}\n")
    return status


def _parser() -> argparse.ArgumentParser:
    version = read_config(FOLDER / "metadata.json")["version"]
    parser = argparse.ArgumentParser(
        prog="yaware-bids",
        description="Grey-matter maps and a classifier's answers for the T1w scans of a BIDS dataset; research only.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("bids_dir", type=Path, metavar="BIDS_DIR", help="the dataset; nothing is written there but OUTPUT_DIR")
    add("output_dir", type=Path, metavar="OUTPUT_DIR", help="folder that receives BIDS derivatives")
    levels = "participant: prepare and predict the scans of each; group: a table and an index of all"
    add("level", choices=("participant", "group"), help=levels)
    for kind, prefix in (("participant", "sub-"), ("session", "ses-")):
        words = f"{kind}s to predict, with or without {prefix} (default: all)"
        add(f"--{kind}-label", f"--{kind}_label", nargs="+", default=[], metavar="LABEL", help=words)
    words = "folders with maps that CAT12, T1Prep or deepmriprep have made (default: BIDS_DIR/derivatives)"
    add("-d", "--derivatives", type=Path, nargs="+", metavar="FOLDER", help=words)
    add("--model", type=Path, metavar="FILE", help="classifier (default: the shipped one, which knows a phantom only)")
    add("-w", "--work-dir", "--work_dir", type=Path, metavar="FOLDER", help="keeps what is done if the run is stopped")
    words = "processors that may be used (default: all)"
    add("--n-cpus", "--n_cpus", "--nprocs", type=int, metavar="N", help=words)
    words = "do not ask for dataset_description.json"
    add("--skip-bids-validation", "--skip_bids_validation", "--skip-bids-validator", action="store_true", help=words)
    add("-v", "--version", action="version", version=f"yaware-bids {version}")
    parser.set_defaults(program_version=version)
    return parser


def _check(options: argparse.Namespace) -> None:
    """Refuse what cannot be, before anything heavy is imported."""
    inputs.require_paths([options.bids_dir, *(options.derivatives or [])])
    if options.n_cpus is not None and options.n_cpus < 1:
        raise OptionError(f"--n-cpus is {options.n_cpus}, but a whole number of at least 1 is expected.")
    options.model = options.model or found(MODEL)
    inputs.require_files({"model": options.model})
    dataset, output = options.bids_dir.resolve(), options.output_dir.resolve()
    if output.is_relative_to(dataset) and output.relative_to(dataset).parts[:1] != ("derivatives",):
        raise OptionError(
            f"OUTPUT_DIR {options.output_dir} lies inside of {options.bids_dir}, which is read only. Give a folder "
            f"beside it, or {options.bids_dir / 'derivatives' / 'yaware'}."
        )
    if output.exists() and not output.is_dir():
        raise OptionError(
            f"OUTPUT_DIR {options.output_dir} is a file, but derivatives need a folder; give another one."
        )


def _participants(options: argparse.Namespace) -> int:
    """Prepare and predict the scans of participants, and write their derivatives."""
    from bundle.prediction.bids_dataset import require_dataset, scans_of, table_of
    from bundle.prediction.bids_derivatives import describe, write_scans

    if not options.skip_bids_validation:
        require_dataset(options.bids_dir)
    places = options.derivatives or [options.bids_dir / "derivatives"]
    labels = options.participant_label, options.session_label
    scans = scans_of(options.bids_dir, *labels, places, options.output_dir.resolve())
    _limit(options.n_cpus)
    with _work_folder(options.work_dir, [scan.name for scan in scans]) as work:
        table = work / "scans.tsv"
        table_of(scans, options.bids_dir).to_csv(table, sep="\t", index=False)
        answers = work / "answers"
        words = ["predict", str(table), "--output", str(answers), "--overwrite", "--model", str(options.model)]
        status = run_command([*words, "--num_workers", "0"])
        if status not in (0, 3):
            return status
        describe(options.output_dir, options.program_version)
        write_scans(scans, options.bids_dir, answers, options.output_dir)
    logger.info("%d scans: %s", len(scans), options.output_dir)
    return status


@contextlib.contextmanager
def _work_folder(work: Path | None, names: Sequence[str]) -> Iterator[Path]:
    """A folder for these scans: of a run that is repeated the same one, where a folder was given."""
    if work is None:
        with tempfile.TemporaryDirectory(prefix="yaware_bids_") as folder:
            yield Path(folder)
        return
    own = work / f"yaware_{hashlib.sha256(' '.join(names).encode()).hexdigest()[:12]}"
    own.mkdir(parents=True, exist_ok=True)
    yield own


def _limit(processors: int | None) -> None:
    """Leave this process and those that it starts so many processors, where the system can."""
    if processors is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:processors])


def _group(options: argparse.Namespace) -> int:
    """Write the table and the index of all participants."""
    from bundle.cli.model_commands import model_of
    from bundle.prediction.bids_derivatives import write_group

    count = write_group(options.output_dir, model_of(options.model))
    logger.info("%d scans: %s", count, options.output_dir / "index.html")
    return 0


def entry() -> None:
    """What `yaware-bids` starts."""
    start(main)


if __name__ == "__main__":
    entry()
