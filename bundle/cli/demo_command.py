"""A clinic's first day: an invented head is prepared, predicted and shown; nothing heavy is imported before."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

HEAD, MAP = "sub-invented_T1w.nii.gz", "sub-phantom_gm.nii.gz"
VOXELS = 1.5  # mm of the head
SEED = 1  # of a phantom whose people were not in the training of the shipped model


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `demo`."""
    parser.add_argument("--output", type=Path, default=Path("eval/demo"), help="folder (default: %(default)s)")
    parser.add_argument("--no-browser", "--no_browser", action="store_true", help="name the page, and do not open it")


def run(options: argparse.Namespace, _: Sequence[str]) -> int:
    """Make a head and a map, predict them as any other scans, and open their page."""
    from bundle.cli.main import main
    from bundle.extras import require

    require("ants", "The demonstration")
    require("deepbet", "The demonstration")
    scans, answers = options.output / "scans", options.output / "answers"
    _say(f"1. An invented T1w head and a map of the phantom are made: {scans}")
    _make(scans)
    _say("2. The head is prepared (about a minute), and both are predicted by the shipped model.")
    status = main(["predict", str(scans), "--output", str(answers), "--overwrite"])
    pages = answers / "index.html", answers / "prepared" / "index.html"
    if not all(page.is_file() for page in pages):
        return status or 1
    _say(
        "3. Look at the answers, and at the preparation. Both brains are nobody's, and the model knows only a phantom:"
    )
    _say("   it answers for the map. It cannot answer for the head, which is unlike the scans that it was trained on.")
    sys.stdout.write("".join(f"   {page.absolute().as_uri()}\n" for page in pages))
    _say(f"The same with a scan of yours: {_program()} predict SCAN --output ANSWERS --model MODEL")
    if not options.no_browser:
        webbrowser.open(pages[0].absolute().as_uri())
    return status


def _make(scans: Path) -> None:
    """Write the head and the map."""
    import shutil
    from tempfile import TemporaryDirectory

    import nibabel as nib

    from bundle.files import replacing
    from bundle.phantom.cohort import make_phantom
    from bundle.phantom.head import make_head

    with replacing(scans / HEAD) as temporary:
        nib.save(make_head(VOXELS)[0], temporary)
    with TemporaryDirectory(prefix="yaware_demo_") as folder, replacing(scans / MAP) as temporary:
        make_phantom(Path(folder), resolution=4.5, n_pretraining=8, n_per_task=8, seed=SEED, progress=False)
        shutil.copy(next(Path(folder).glob("alzheimer/*.nii.gz")), temporary)


def _program() -> str:
    return "yaware" if Path(sys.argv[0]).stem == "yaware" else "python -m bundle"


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()
