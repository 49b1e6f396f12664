"""What made a result: command, seed, commit, versions and inputs."""

from __future__ import annotations

import ast
import hashlib
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bundle.places import HOME

PACKAGE = Path(__file__).parent
PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy", "scikit-learn")


def provenance(seed: int, inputs: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """What made a result: command, seed, commit, versions and inputs."""
    return {
        "command": " ".join(["python", *sys.orig_argv[1:]]),
        "seed": seed,
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        **inputs,
    }


def code_digest(*rooms: str) -> str:
    """Sixteen hexadecimal digits that change when the code of some rooms does; comments and docstrings do not count.

    Args:
        rooms: Folders of the package, such as `pretext`.

    Example:
        >>> len(code_digest("metrics"))
        16
    """
    digest = hashlib.sha256()
    for path in sorted(path for room in rooms for path in (PACKAGE / room).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:16]


def _commit() -> str | None:
    """The commit of the bundle's own repository; None where it is installed without one, or there is no git."""
    if not (HOME / ".git").exists():
        return None
    command = ["git", "-C", str(HOME), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    except FileNotFoundError:
        return None
