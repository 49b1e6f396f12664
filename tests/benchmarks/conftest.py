import sys

import pytest


@pytest.fixture
def show(capsys):
    """Prints in spite of pytest's capture."""

    def write(text):
        with capsys.disabled():
            sys.stdout.write(text)

    return write
