"""What `pip install` gets: the same bytes from the same source, and in them all that the commands need."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT
from tests.test_requirements import PREPARE, listed

pytest.importorskip("hatchling", reason="needs hatchling and its plugins: requirements-dev.txt")
BUILD = "from hatchling.build import build_sdist, build_wheel; build_wheel('dist'); build_sdist('dist')"
LEFT_OUT = shutil.ignore_patterns(
    *(".git", ".venv", ".tox", ".*_cache", "__pycache__", "data", "eval", "dist", "phantom_*", "reference"),
    *("images", "*.pt"),
)
WEIGHTS = ("model.pt", "pretrained.pt")


def built(folder, mask):
    """Build wheel and source distribution in a fresh copy of the repository, whose files have other times and modes."""
    shutil.copytree(ROOT, folder, ignore=LEFT_OUT, copy_function=shutil.copyfile)
    for name in WEIGHTS:  # stand-ins: packing 45 MB takes long
        (folder / "models" / name).write_text(name)
    (folder / "bundle/__pycache__").mkdir()
    (folder / "bundle/__pycache__/files.cpython-311.pyc").write_bytes(b"left over")
    for path in folder.rglob("*"):
        path.chmod(0o777 & ~mask if path.is_dir() else 0o666 & ~mask)
        os.utime(path, (1_500_000_000 + mask, 1_500_000_000 + mask))
    subprocess.run([sys.executable, "-c", BUILD], cwd=folder, check=True, capture_output=True, umask=mask)
    return {path.suffix: path for path in (folder / "dist").iterdir()}


@pytest.fixture(scope="module")
def distribution(tmp_path_factory):
    return built(tmp_path_factory.mktemp("distribution") / "source", 0o022)


@pytest.fixture(scope="module")
def wheel(distribution):
    with zipfile.ZipFile(distribution[".whl"]) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel):
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_string(wheel.read(name).decode())


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_two_builds_give_the_same_bytes(distribution, tmp_path):
    again = built(tmp_path / "elsewhere", 0o077)
    assert set(again) == {".whl", ".gz"}
    assert {ending: digest(path) for ending, path in again.items()} == {e: digest(p) for e, p in distribution.items()}


def test_the_wheel_holds_code_configs_templates_weights_and_licences(wheel):
    names = set(wheel.namelist())
    sources = [path for path in (ROOT / "bundle").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    sources += [path for path in (ROOT / "configs").iterdir() if path.suffix in (".yaml", ".json", ".conf")]
    sources += [ROOT / "models" / name for name in ("model.pt", "model.json", "model_record.npz")]
    sources += [ROOT / "models" / name for name in ("pretrained.pt", "pretrained.json")]
    places = [path.relative_to(ROOT).as_posix() for path in sources]
    assert {place if place.startswith("bundle/") else f"bundle/{place}" for place in places} <= names
    assert all(name.startswith(("bundle/", "brain_mri_yaware-")) for name in names)
    assert not [name for name in names if name.endswith(".pyc") or name.startswith("bundle/models/phantom_")]
    licences = {name.split(".dist-info/licenses/")[1] for name in names if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "docs/data_license.txt"}


def test_the_source_distribution_can_be_built_and_tested(distribution):
    with tarfile.open(distribution[".gz"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {path.name for path in ROOT.glob("requirements*.txt")} | {"constraints.txt", "pyproject.toml", "Makefile"}
    assert wanted | {"LICENSE", "CHANGELOG.md", "docs/README.md", "tests/conftest.py", "models/model.pt"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith(("data/", "eval/", "dist/"))]


def test_the_metadata_ask_for_ranges_and_name_the_licence(metadata):
    asked = [Requirement(text) for text in metadata.get_all("Requires-Dist")]
    always = {each.name: each.specifier for each in asked if each.marker is None}
    extra = {each.name: each.specifier for each in asked if str(each.marker) == 'extra == "prepare"'}
    assert always == listed("requirements.txt")
    assert extra == listed(*PREPARE)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    assert "prepare" in metadata.get_all("Provides-Extra")


def test_the_long_description_links_to_no_page_that_an_index_lacks(metadata):
    text = metadata.get_payload()
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "| are a clinician | howto/clinicians.md; `make prepare`" in text
    assert re.findall(r"\]\((?!https?:)", text) == []
    assert "](howto/clinicians.md)" in (ROOT / "docs/README.md").read_text()


def run(words, site, folder):
    """A command of the installed wheel, from a folder that holds nothing of the repository."""
    environment = {**os.environ, "PYTHONPATH": str(site), "MPLBACKEND": "agg"}
    command = [sys.executable, "-W", "ignore", "-m", "bundle", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    wheel.extractall(folder)
    for name in WEIGHTS:
        shutil.copy(ROOT / "models" / name, folder / "bundle/models")
    return folder


@pytest.mark.long
def test_the_installed_bundle_predicts_from_an_empty_folder(site, tiny_phantom, tmp_path):
    scan = next((tiny_phantom / "alzheimer").glob("*.nii.gz"))
    done = run(["predict", scan, "--output", "answers", "--explain", "none", "--num_workers", "0"], site, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "probability_Alzheimer's disease" in (tmp_path / "answers/predictions.csv").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["answers"]
