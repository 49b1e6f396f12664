"""What made a result: command, seed, commit, versions and inputs."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy", "scikit-learn")


def provenance(seed: int, inputs: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """What made a result: command, seed, commit, versions and inputs."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "command": " ".join(["python", *sys.orig_argv[1:]]),
        "seed": seed,
        "commit": commit or None,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        **inputs,
    }
