"""Ten thousand people are handled in seconds, and in memory that hardly grows; tests/load.py measures."""

from pathlib import Path

import pytest

from tests.load import PEOPLE, measured

SECONDS, MEBIBYTES = 30, 64  # of each step; most take less than one second and 10 MiB


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured as Linux tells it")
def test_ten_thousand_people_take_seconds_and_little_memory(tmp_path):
    found = measured("cohort", tmp_path)
    assert (found["records"], found["loaded"]) == (PEOPLE, 0.7 * PEOPLE)
    assert {step: seconds for step, (seconds, _) in found["steps"].items() if seconds > SECONDS} == {}
    assert {step: growth for step, (_, growth) in found["steps"].items() if growth > MEBIBYTES} == {}
