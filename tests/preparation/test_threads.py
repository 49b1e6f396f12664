import logging
import os

import pytest
import torch

from bundle.preparation.anatomy import find_templates
from bundle.preparation.threads import VARIABLES, set_threads


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    threads = torch.get_num_threads()
    for name in VARIABLES:
        monkeypatch.setenv(name, os.environ.get(name, ""))
    yield
    torch.set_num_threads(threads)


def test_threads_are_set_before_ants_runs(monkeypatch):
    monkeypatch.setattr("bundle.preparation.threads._used", [])
    set_threads(2)
    assert [os.environ[name] for name in VARIABLES] == ["2"] * len(VARIABLES)
    assert torch.get_num_threads() == 2


def test_a_number_that_comes_too_late_is_said(monkeypatch, caplog):
    monkeypatch.setattr("bundle.preparation.threads._used", [1])
    monkeypatch.setenv(VARIABLES[0], "1")
    with caplog.at_level(logging.WARNING):
        set_threads(2)
    assert "already runs with 1 threads" in caplog.text
    assert os.environ[VARIABLES[0]] == "1"


def test_no_threads_are_refused():
    with pytest.raises(ValueError, match="expected at least 1"):
        set_threads(0)


def test_templates_that_are_not_installed_are_asked_for(monkeypatch):
    monkeypatch.setattr("bundle.preparation.anatomy.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"templates of deepmriprep.*make prepare"):
        find_templates()
