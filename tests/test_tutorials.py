"""The tutorials are scripts that run anywhere, and notebooks that open on their own."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SCRIPTS = sorted((ROOT / "docs/examples").glob("[0-9]_*.py"))
FASTEST = ["1_loss_by_hand", "5_predict"]
LIMIT = 600  # seconds; on a machine that does other things, too


def run(script, folder):
    """Run a script as somebody does who has the bundle installed, in an empty folder; nothing is left there."""
    folder.mkdir()
    known = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "TQDM_DISABLE": "1"}
    command = [sys.executable, "-W", "ignore", str(script)]
    ran = subprocess.run(command, cwd=folder, env=known, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def notebooks():
    for name in ("jupytext", "sphinx_gallery"):
        pytest.importorskip(name, reason="requirements-docs.txt is not installed")
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs/site/notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_six_and_each_says_what_not_to_conclude():
    assert [path.name[0] for path in SCRIPTS] == list("123456")
    for script in SCRIPTS:
        text = script.read_text(encoding="utf-8")
        assert text.startswith(f'"""\n{script.name[0]}. ')
        assert "# What not to conclude\n" in text
        assert 'plt.style.use("bundle.yaware")' in text


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_pages_that_a_tutorial_names_are_there(script):
    for target in re.findall(r":doc:`(?:[^<`]*<)?([^>`]+)>?`", script.read_text(encoding="utf-8")):
        written = (script.parent / target).with_suffix(".py"), (ROOT / "docs/tutorials" / target).resolve()
        assert written[0].is_file() or written[1].with_suffix(".md").is_file(), target


@pytest.mark.long
@pytest.mark.parametrize("name", FASTEST)
def test_a_tutorial_runs_as_a_plain_script(name, tmp_path):
    run(ROOT / f"docs/examples/{name}.py", tmp_path / "empty")


def test_notebooks_have_the_same_code_and_say_how_to_install(notebooks, tmp_path):
    import nbformat

    for path, script in zip(notebooks.write(tmp_path), SCRIPTS, strict=True):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        title, installing = notebook.cells[:2]
        assert title.source.startswith(f"# {script.name[0]}. ")
        assert "pip install" in installing.source
        text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        assert not re.search(r":\w+:`|^[-=]{4,}$|::$", text, re.MULTILINE)  # left over from reStructuredText
        code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
        lines = [line for line in script.read_text(encoding="utf-8").split('"""\n', 2)[2].splitlines() if line.strip()]
        assert [x for x in code.splitlines() if x.strip()] == [x for x in lines if not x.startswith("#")]


@pytest.mark.long
def test_a_notebook_runs_in_an_empty_folder(notebooks, tmp_path):
    import jupytext

    path = notebooks.write(tmp_path / "notebooks")[0]
    jupytext.write(jupytext.read(path), tmp_path / "script.py", fmt="py:percent")
    run(tmp_path / "script.py", tmp_path / "empty")
