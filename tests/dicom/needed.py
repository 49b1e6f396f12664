"""What requirements-prepare.txt brings; where it is not installed, every test that imports this is skipped."""

import pytest

pydicom = pytest.importorskip("pydicom")
hd = pytest.importorskip("highdicom")
pytest.importorskip("fpdf")
