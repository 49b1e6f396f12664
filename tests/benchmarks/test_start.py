"""Help and refusals come at once: much sooner than what has to import torch.

    make bench

prints seconds; what is asserted are ratios to the import of torch in the same run.
"""

import subprocess
import sys

import pytest

from tests.benchmarks.measure import seconds, table
from tests.conftest import ROOT

pytestmark = pytest.mark.bench
TORCH = ["-c", "import torch"]
COMMANDS = {
    "help": ["-m", "bundle", "--help"],
    "help of pretrain": ["-m", "bundle", "pretrain", "--help"],
    "a refusal": ["-m", "bundle", "pretrain", "--config", "configs/phantom.yaml", "--epochs", "0"],
    "Python alone": ["-c", "pass"],
}


def test_help_and_refusals_take_a_fraction_of_the_import_of_torch(show):
    def started(words):
        return seconds(lambda: subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, check=False))

    torch, took = started(TORCH), {name: started(words) for name, words in COMMANDS.items()}
    rows = [(name, f"{t:.2f}", f"{t / torch:.2f}") for name, t in {"import torch": torch, **took}.items()]
    show(table("Until a command answers", ["", "s", "of the import of torch"], rows))
    assert max(took.values()) < 0.4 * torch
