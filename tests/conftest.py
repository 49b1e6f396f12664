"""Where everything lies, and what many tests share: a tiny phantom and models trained on it, each made once.

With pytest-xdist, several processes run the tests. What is costly is made by the first that needs it, under a lock, and
read by all; nobody writes to it.
"""

import json
import logging
import multiprocessing
import os
import runpy
import shutil
import socket
import sys
import traceback
from collections import Counter
from pathlib import Path

import pytest

from tests.browser import QUIET

ROOT = Path(__file__).parents[1]
TASK, OVERLAY = "configs/task_alzheimer.yaml", "configs/phantom.yaml"
SMALL = ["--init_features", "8", "--growth_rate", "4", "--block_config", "[1, 1, 1, 1]"]
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:  # before torch is imported, and for the processes that tests start: each worker has its share of cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // WORKERS)))


def pytest_collection_modifyitems(items):
    """Files with most tests marked `long` begin, so that no worker ends with one of them while the others wait."""
    long = Counter(item.path for item in items if item.get_closest_marker("long"))
    items.sort(key=lambda item: -long[item.path])  # within a file the order stays


def listing(folder):
    """Every file of a folder with its time of change."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """`made_once(name, make)`: a folder that `make(folder)` has filled, once for all processes that run the tests."""
    from filelock import FileLock

    base, made = tmp_path_factory.getbasetemp(), {}
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder_of(name, make):
        folder, done = base / f"shared_{name}", base / f"shared_{name}.json"
        with FileLock(base / f"shared_{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.write_text(json.dumps(listing(folder)))
        made[folder] = json.loads(done.read_text())
        return folder

    yield folder_of
    changed = [str(folder) for folder, before in made.items() if listing(folder) != before]
    assert not changed, f"a test has written to what all tests share: {changed}"


@pytest.fixture(scope="session")
def tiny_phantom(made_once):
    """A phantom that takes seconds: 6 mm, 64 healthy subjects, 40 per task."""
    from bundle.phantom.cohort import make_phantom

    size = {"resolution": 6.0, "n_pretraining": 64, "n_per_task": 40}
    return made_once("phantom", lambda folder: make_phantom(folder, **size, workers=2, progress=False))


def with_full_paths(datalist):
    """What a datalist holds, with images by their full paths: it can be changed and written elsewhere."""
    content = json.loads(datalist.read_text())
    for section in ("training", "validation", "test"):
        for record in content[section]:
            record["image"] = str(datalist.parent / record["image"])
    return content


def run(command, phantom, folder, *more):
    """Train or evaluate a small classifier from the command line."""
    from bundle.cli.main import main

    data = ["--dataset_dir", str(phantom), "--output_dir", str(folder), "--model", str(folder / "model.pt")]
    overlays = [] if "--config" in more else ["--config", TASK, OVERLAY]
    return main([command, *overlays, *data, *SMALL, *more])


def run_monai(*arguments, folder=ROOT):
    """`python -m monai.bundle …` as a user types it, in this process: one of its own takes seconds to import torch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["monai.bundle", *map(str, arguments)])
        patch.setattr(sys, "path", [*sys.path])
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)


def forked(function, *arguments, processes=1):
    """Call a function in processes of their own, which are copies of this one and so need not import torch again.

    Several form a group of torch.distributed, as those that torchrun starts. What they say, where one fails, is the
    reason.
    """
    import tempfile

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryFile("w+") as said:
        fork = multiprocessing.get_context("fork").Process
        group = [
            fork(target=_work, args=(said, rank, processes, port, function, *arguments)) for rank in range(processes)
        ]
        for process in group:
            process.start()
        for process in group:
            process.join()
        said.seek(0)
        assert [process.exitcode for process in group] == [0] * processes, said.read()[-3000:]


def _work(said, rank, processes, port, function, *arguments):
    if processes > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE=str(processes), RANK=str(rank))
        os.environ.update(LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(processes))
    try:
        function(*arguments)
    except BaseException:
        said.write(traceback.format_exc())
        said.flush()
        raise


@pytest.fixture(scope="session")
def encoder(tiny_phantom, made_once):
    """An encoder that was never trained, with a card that knows one participant."""
    import torch

    from bundle.cohort.datalist import load_section
    from bundle.cohort.overlap import fingerprints
    from bundle.networks.encoders import DenseNetEncoder
    from bundle.networks.weights import save_weights

    def make(folder):
        torch.manual_seed(0)
        known = load_section(tiny_phantom / "pretraining.json", "training")[:1]
        save_weights(
            folder / "encoder.pt", DenseNetEncoder(1, 8, 4, (1, 1, 1, 1)), {"fingerprints": fingerprints(known)}
        )

    return made_once("encoder", make) / "encoder.pt"


@pytest.fixture(scope="session")
def trained(tiny_phantom, encoder, made_once):
    """A folder with a classifier that was really trained, for a moment: model.pt, its card and its record."""

    def make(folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            assert run("train", tiny_phantom, folder, "--weights", str(encoder), "--epochs", "2") == 0

    return made_once("trained", make)


@pytest.fixture(scope="session")
def real_maps():
    """Real grey-matter maps: a folder with participants.tsv and mwp1sub-XX_T1w.nii.gz."""
    folder = Path(os.environ.get("YAWARE_TEST_DATA", "")) / "ds002748_gm"
    if not os.environ.get("YAWARE_TEST_DATA") or not folder.is_dir():
        pytest.skip("needs real grey-matter maps: set YAWARE_TEST_DATA to a folder that holds ds002748_gm")
    return folder


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium; nothing is loaded from a network."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: requirements-dev.txt")
    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("needs the browser Chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=chromium, args=[f"--{option}" for option in QUIET])
        yield running
        running.close()


@pytest.fixture
def show(browser):
    """`show(path)`: the page in a tab of its own, which may ask for nothing and complain about nothing."""
    tabs, said, asked = [], [], []

    def opened(path, width=1200, **options):
        tab = browser.new_page(viewport={"width": width, "height": 800}, **options)
        tabs.append(tab)
        tab.on("console", lambda message: message.type == "error" and said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(path.as_uri())
        return tab

    yield opened
    for tab in tabs:
        tab.close()
    assert said == []
    assert [url[:60] for url in asked if not url.startswith(("file:", "data:"))] == []


@pytest.fixture(autouse=True)
def own_logging():
    """Undo what a bundle's logging.conf does to the root logger: its handler writes to a captured stream."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:], logging.root.level = handlers, level
