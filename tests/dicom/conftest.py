"""A series, the objects that are written of it, and slices of a brain, each made once."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def series(made_once):
    """A folder with the files of one series."""
    from tests.dicom.examples import write_scan

    return made_once("dicom_series", write_scan)


@pytest.fixture(scope="session")
def written(series, made_once):
    """A folder with the objects of an answer that has everything."""
    from bundle.dicom import write_objects
    from tests.dicom.examples import given

    return made_once("dicom_objects", lambda folder: write_objects(given(), series, folder))


@pytest.fixture(scope="session")
def brain():
    """Slices with a map over them, as a page shows them."""
    from bundle.prediction.slices import Overlay, drawn
    from bundle.scans.grid import REFERENCE, templates

    x, y, z = np.indices(REFERENCE.shape)
    warm, cold = (np.exp(-((x - at) ** 2 + (y - 70) ** 2 + (z - 50) ** 2) / 200) for at in (40, 80))
    overlay = Overlay.of((warm - 0.4 * cold).astype(np.float32), REFERENCE, "percentage points", 12.0)
    return drawn(templates(REFERENCE)["grey matter"], REFERENCE.matrix, overlay)
