"""A clinic's first day: an invented head is prepared, predicted and shown; nothing heavy is imported before."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

HEAD = "sub-invented_T1w.nii.gz"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `demo`."""
    parser.add_argument("--output", type=Path, default=Path("eval/demo"), help="folder (default: %(default)s)")
    parser.add_argument("--no-browser", "--no_browser", action="store_true", help="name the page, and do not open it")


def run(options: argparse.Namespace, _: Sequence[str]) -> int:
    """Make the head, predict it as any other scan, and open its page."""
    from bundle.cli.main import main
    from bundle.extras import require
    from bundle.files import replacing

    require("ants", "The demonstration")
    require("deepbet", "The demonstration")
    import nibabel as nib

    from bundle.phantom.head import make_head

    scan, answers = options.output / "scans" / HEAD, options.output / "answers"
    _say(f"1. An invented T1w head is made: {scan}")
    with replacing(scan) as temporary:
        nib.save(make_head(resolution=1.0)[0], temporary)
    _say("2. It is prepared (brain, tissues, template: about a minute) and predicted by the shipped model.")
    command = ["predict", str(scan), "--output", str(answers), "--overwrite"]
    status = main(command)
    pages = answers / "index.html", answers / "prepared" / "index.html"
    if not all(page.is_file() for page in pages):
        return status or 1
    _say("3. Look at the answer, and at the preparation. The head is nobody's, and the model knows only a phantom.")
    sys.stdout.write("".join(f"   {page.absolute().as_uri()}\n" for page in pages))
    _say(f"The same with a scan of yours: {_program()} predict SCAN --output ANSWERS --model MODEL")
    if not options.no_browser:
        webbrowser.open(pages[0].absolute().as_uri())
    return status


def _program() -> str:
    return "yaware" if Path(sys.argv[0]).stem == "yaware" else "python -m bundle"


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()
