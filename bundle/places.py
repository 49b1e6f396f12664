"""Where configs and demonstration weights lie: beside the package, or inside it once it is installed."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
HOME = _PACKAGE if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent
CONFIGS = HOME / "configs"


def found(path: str | Path) -> Path:
    """A path from where the user stands, or the file of that name that comes with the package.

    Args:
        path: Such as `configs/phantom.yaml`; an absolute one, and one at which something lies, stays as it is.
    """
    path = Path(path)
    beside = HOME / path
    return beside if not path.is_absolute() and not path.exists() and beside.is_file() else path
