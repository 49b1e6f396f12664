"""The images and the lock: what is copied is there, both images run the same steps, and no machine is named."""

import json
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.test_requirements import HUB_FILE, PREPARE, distribution, listed, pinned

sys.path.insert(0, str(ROOT / "containers"))
from rehearse import Rehearsal, instructions

DOCKERFILE = (ROOT / "containers/Dockerfile").read_text()
DEFINITION = (ROOT / "containers/yaware.def").read_text()
LOCK = (ROOT / "requirements-lock.txt").read_text()
STEP = re.compile(r"install\.sh (\w+)")


def copied():
    """What the Dockerfile copies out of the bundle's folder."""
    copies = [rest.split()[:-1] for word, rest in instructions(DOCKERFILE) if word == "COPY" and "--from" not in rest]
    return {name for names in copies for name in names}


def test_what_is_copied_is_there_and_let_in():
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name in copied():
        assert (ROOT / name).exists(), name
        assert name in let_in or re.fullmatch(r"requirements.*\.txt", name), f".dockerignore keeps {name} out"


def test_both_images_copy_the_same_and_run_the_same_steps():
    files = re.search(r"%files\n(.*?)\n\n", DEFINITION, re.DOTALL)[1]
    assert {line.split()[0] for line in files.splitlines()} == copied()
    known = set(re.findall(r"^(\w+)\) #", (ROOT / "containers/install.sh").read_text(), re.MULTILINE))
    steps = [step for word, rest in instructions(DOCKERFILE) if word == "RUN" for step in STEP.findall(rest)]
    assert set(steps) == known
    assert STEP.findall(DEFINITION) == [step for step in steps if step != "system"]  # Apptainer has no users
    bases = set(re.findall(r"debian:\S+", DOCKERFILE + DEFINITION))
    assert len(bases) == 1


def test_the_steps_are_a_script_that_the_shell_can_read():
    subprocess.run(["sh", "-n", str(ROOT / "containers/install.sh")], check=True)


def test_the_image_has_the_version_of_the_bundle():
    version = json.loads((ROOT / "configs/metadata.json").read_text())["version"]
    assert f'version="{version}"' in DOCKERFILE
    assert f"image.version {version}" in DEFINITION


def test_the_rehearsal_knows_every_instruction():
    words = {word for word, _ in instructions(DOCKERFILE)} - {"LABEL", "HEALTHCHECK", "CMD"}
    assert all(hasattr(Rehearsal, f"_{word.lower()}") for word in words)


def test_the_lock_has_the_versions_of_the_results_and_a_digest_of_each_file():
    entries = re.findall(
        r"^([A-Za-z0-9._-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", LOCK, re.MULTILINE
    )
    locked = {distribution(name): version for name, version, _ in entries}
    assert len(locked) == len(entries) == LOCK.count("==")
    pins = pinned("constraints.txt")
    assert set(pins) == set(listed("requirements.txt", *PREPARE, HUB_FILE))
    assert {name: locked.get(name) for name in pins} == pins


@pytest.mark.parametrize("text", [LOCK, DOCKERFILE, DEFINITION, (ROOT / "containers/install.sh").read_text()])
def test_nothing_of_one_machine_is_left(text):
    assert not re.search(r"https?:|file:|\+cpu|--(extra-)?index-url [^\"]|--find-links", text)
