"""A page that is one file: its texts are escaped, and nothing but its own style and script may run or load."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

SHARED = Path(__file__).parent / "templates"
STYLE = "style.css"
GENERATOR = "brain_mri_yaware_classification"  # by which a page of ours is known


def filled(templates: Path, name: str, script: str, content: Mapping[str, Any]) -> str:
    """Fill a template; everything that is not a template's own is escaped.

    Args:
        templates: Folder of the templates of a room; those of this room are found, too.
        name: Name of the template.
        script: File among the templates that runs in the page; "" = none.
        content: What the template shows.

    Raises:
        jinja2.TemplateError: When there is no such template or script.
    """
    environment = _environment(templates)
    policy = f"default-src 'none'; img-src data:; style-src {_digest(environment, STYLE)}"
    policy += f"; script-src {_digest(environment, script)}" if script else ""
    own = {"script": script, "generator": GENERATOR, "policy": f"{policy}; base-uri 'none'"}
    return environment.get_template(name).render(**content, **own)


@cache
def _environment(templates: Path) -> Environment:
    """The templates of a room and the shared ones, each compiled once."""
    return Environment(loader=FileSystemLoader([templates, SHARED]), autoescape=True, trim_blocks=True)


def _digest(environment: Environment, name: str) -> str:
    """How a Content-Security-Policy names an inline text."""
    text = environment.get_template(name).render()
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
