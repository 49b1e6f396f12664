import logging
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def tiny_phantom(tmp_path_factory):
    """A phantom that takes seconds: 6 mm, 64 healthy subjects, 40 per task."""
    from bundle.phantom.cohort import make_phantom

    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder, resolution=6.0, n_pretraining=64, n_per_task=40, workers=2, progress=False)
    return folder


@pytest.fixture(scope="session")
def real_maps():
    """Real grey-matter maps: a folder with participants.tsv and mwp1sub-XX_T1w.nii.gz."""
    folder = Path(os.environ.get("YAWARE_TEST_DATA", "")) / "ds002748_gm"
    if not os.environ.get("YAWARE_TEST_DATA") or not folder.is_dir():
        pytest.skip("needs real grey-matter maps: set YAWARE_TEST_DATA to a folder that holds ds002748_gm")
    return folder


@pytest.fixture(autouse=True)
def own_logging():
    """Undo what a bundle's logging.conf does to the root logger: its handler writes to a captured stream."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:], logging.root.level = handlers, level
