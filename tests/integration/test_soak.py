"""A thousand predictions, and many epochs: memory and open files stay as they were; tests/load.py measures."""

from pathlib import Path

import pandas as pd
import pytest

from tests.load import EPOCHS, SCANS, measured

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="memory is measured as Linux tells it"),
]
HANDLES = 2


def test_a_thousand_predictions_are_all_written_and_memory_does_not_grow(tiny_phantom, trained, tmp_path):
    found = measured("predictions", tiny_phantom, trained, tmp_path)
    table = pd.read_csv(tmp_path / "answers" / "predictions.csv")
    assert len(table) == table["participant_id"].nunique() == SCANS
    assert (table["verdict"] != "refuse").all()
    assert table.filter(like="probability_").notna().all(axis=None)
    assert found["growth"] < 24  # MiB over 600 scans: 40 KiB a scan, a third of a volume
    assert found["handles"] <= HANDLES


def test_many_epochs_leave_memory_and_open_files_as_they_were(tiny_phantom, tmp_path):
    found = measured("epochs", tiny_phantom, tmp_path)
    assert found["epochs"] == EPOCHS
    assert found["growth"] < 24  # MiB over 32 epochs: three quarters of a MiB an epoch
    assert found["handles"] <= HANDLES
