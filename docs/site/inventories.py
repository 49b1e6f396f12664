"""Where names of other libraries are documented, from short lists: the site builds without a network."""

import zlib
from pathlib import Path

LIBRARIES = {
    "python": "https://docs.python.org/3/",
    "torch": "https://docs.pytorch.org/docs/stable/",
    "monai": "https://docs.monai.io/en/stable/",
    "sklearn": "https://scikit-learn.org/stable/",
    "pandas": "https://pandas.pydata.org/docs/",
    "numpy": "https://numpy.org/doc/stable/",
}
HEADER = """# Sphinx inventory version 2
# Project: {name}
# Version: stable
# The remainder of this file is compressed using zlib.
"""


def mapping(lists: Path, made: Path) -> dict[str, tuple[str, str]]:
    """What intersphinx is told: each library's address and its inventory.

    Args:
        lists: folder of NAME.tsv, with a row for each name (name, role, page).
        made: folder that receives the inventories.
    """
    made.mkdir(parents=True, exist_ok=True)
    return {name: (address, str(_inventory(lists / f"{name}.tsv", made))) for name, address in LIBRARIES.items()}


def _inventory(table: Path, made: Path) -> Path:
    rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines() if line]
    body = "".join(f"{name} py:{role} 1 {page} -\n" for name, role, page in rows)
    target = made / f"{table.stem}.inv"
    target.write_bytes(HEADER.format(name=table.stem).encode() + zlib.compress(body.encode()))
    return target
