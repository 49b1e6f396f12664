"""What `import bundle` hands out, and what it costs."""

import importlib
import json
import pydoc
import re
import subprocess
import sys

import pytest

import bundle
from bundle.later import PLACES, ROOMS
from tests.conftest import ROOT

HEAVY = ("torch", "monai", "numpy", "pandas", "sklearn", "matplotlib", "bundle.networks")


def in_a_fresh_python(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_importing_the_package_imports_nothing_heavy():
    code = "import bundle, sys, json; dir(bundle); print(json.dumps(list(sys.modules)))"
    assert not set(in_a_fresh_python(code)) & set(HEAVY)


def test_a_table_and_its_images_are_read_without_waiting_for_torch():
    code = "import bundle.cohort.table, bundle.cohort.published, sys, json; print(json.dumps(list(sys.modules)))"
    assert not set(in_a_fresh_python(code)) & {"torch", "monai", "sklearn", "nilearn", "openpyxl"}


def test_what_the_cohort_hands_on_later_is_that_of_its_file():
    for name, place in PLACES["bundle.cohort"].items():
        assert getattr(importlib.import_module("bundle.cohort"), name) is getattr(importlib.import_module(place), name)
    assert set(PLACES["bundle.cohort"]) <= set(bundle.cohort.__all__)


def test_a_room_is_there_without_being_imported_by_name():
    code = "import bundle, json; print(json.dumps(bundle.metrics.holm([0.01, 0.04]).tolist()))"
    assert in_a_fresh_python(code) == [0.02, 0.04]


def test_every_name_is_there_and_listed():
    assert set(bundle.__all__) == set(PLACES["bundle"])
    assert {*bundle.__all__, *ROOMS} <= set(dir(bundle))
    for name in bundle.__all__:
        assert getattr(bundle, name).__doc__


def test_the_names_of_the_rooms_are_the_same_functions():
    from bundle.evaluation import probe
    from bundle.prediction import predict
    from bundle.pretext import pretrain

    assert (probe, predict, pretrain) == (bundle.probe, bundle.predict, bundle.pretrain)


def test_help_lists_each_with_a_line():
    said = pydoc.render_doc(bundle, renderer=pydoc.plaintext)
    for name in bundle.__all__:
        assert re.search(rf"^ +bundle\.{name}\([\w, ]+\) +\w", said, re.MULTILINE), name


@pytest.mark.parametrize("module", PLACES)
def test_a_name_that_is_not_there_is_said_as_python_says_it(module):
    room = sys.modules[module] if module in sys.modules else __import__(module, fromlist=["x"])
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nothing'"):
        room.nothing  # noqa: B018
    assert not hasattr(room, "nothing")
