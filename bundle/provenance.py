"""What made a result: command, seed, commit, versions and inputs."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

from bundle.places import HOME

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


def _commit() -> str | None:
    """The commit of the bundle's own repository; None where it is installed without one, or there is no git."""
    if not (HOME / ".git").exists():
        return None
    command = ["git", "-C", str(HOME), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    except FileNotFoundError:
        return None
