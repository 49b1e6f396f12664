"""The recipes of docs/howto/extend.md are written to files as they stand there, and trained with."""

import re
import sys

import pytest

from bundle.cli.main import main
from bundle.networks import read_card
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "howto" / "extend.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n# my_lab.py\n(.*?)```", PAGE, re.DOTALL)
OVERLAYS = dict(re.findall(r"```yaml\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
LONGEST = 20  # lines of a recipe
SMALL = ["--init_features", "8", "--growth_rate", "4", "--block_config", "[1, 1]"]
QUICK = ["--epochs", "1", "--batch_size", "8", "--num_workers", "0"]


@pytest.fixture
def laboratory(tmp_path, monkeypatch):
    """A folder as a user has it: a module and overlays."""
    (tmp_path / "my_lab.py").write_text("".join(PYTHON))
    for name, text in OVERLAYS.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("my_lab", None)


def test_recipes_are_short():
    assert len(PYTHON) == 4
    assert [len(text.splitlines()) for text in [*PYTHON, *OVERLAYS.values()] if len(text.splitlines()) > LONGEST] == []


@pytest.mark.parametrize(
    ("overlay", "said"),
    [
        ("own_kernel.yaml", ("loss", "BoxKernel")),
        ("own_loss.yaml", ("loss", "WeightedDistance")),
        ("own_views.yaml", ("config", "Gain")),
        ("own_encoder.yaml", ("encoder", "SmallEncoder")),
    ],
)
def test_a_recipe_trains_and_its_card_says_so(overlay, said, laboratory, tiny_phantom):
    options = [*QUICK, *(SMALL if overlay != "own_encoder.yaml" else [])]
    files = ["--datalist", str(tiny_phantom / "pretraining.json"), "--output_dir", "out", "--weights", "out/own.pt"]
    status = main(["pretrain", "--config", "configs/phantom.yaml", overlay, *files, *options])
    assert status == 0
    card = read_card(laboratory / "out" / "own.pt")
    assert said[1] in str(card[said[0]])
