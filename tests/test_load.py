"""The steps from a table to everything that reads a datalist; tests/benchmarks/test_cohort.py measures them."""

from pathlib import Path

import pytest

from tests.load import cohort_steps, write_cohort


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured as Linux tells it")
def test_all_steps_take_everybody(tmp_path):
    found = cohort_steps(write_cohort(tmp_path / "cohort", 200))
    assert (found["records"], found["loaded"]) == (200, 140)
