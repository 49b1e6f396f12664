"""A thousand predictions, and many epochs: memory and open files stay as they were; tests/load.py measures.

What memory grows by is compared with what it would be if every scan, or every epoch's volumes, were kept.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tests.load import EPOCHS, FIRST_EPOCHS, FIRST_SCANS, SCANS, measured

pytestmark = [
    pytest.mark.bench,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="memory is measured as Linux tells it"),
]
HANDLES = 2


def mebibytes(folder):
    """Of one volume in memory."""
    scan = next((folder / "alzheimer").glob("*.nii.gz"))
    return np.prod(nib.load(scan).shape) * 4 / 2**20


def test_a_thousand_predictions_are_all_written_and_memory_does_not_grow(tiny_phantom, trained, tmp_path):
    found = measured("predictions", tiny_phantom, trained, tmp_path)
    answers = pd.read_csv(tmp_path / "answers" / "predictions.csv")
    assert len(answers) == answers["participant_id"].nunique() == SCANS
    assert (answers["verdict"] != "refuse").all()
    assert answers.filter(like="probability_").notna().all(axis=None)
    kept = (SCANS - 2 * FIRST_SCANS) * mebibytes(tiny_phantom)
    assert found["growth"] < kept / 3
    assert found["handles"] <= HANDLES


def test_many_epochs_leave_memory_and_open_files_as_they_were(tiny_phantom, tmp_path):
    found = measured("epochs", tiny_phantom, tmp_path)
    assert found["epochs"] == EPOCHS
    kept = (EPOCHS - 2 * FIRST_EPOCHS) * 64 * mebibytes(tiny_phantom)  # 64 subjects an epoch
    assert found["growth"] < kept / 10
    assert found["handles"] <= HANDLES
