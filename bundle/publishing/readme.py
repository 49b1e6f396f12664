"""README.md of a model: every number in it is the card's, or of the metrics of `evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bundle.publishing.tested import LEVEL, Tested
from bundle.scans.profile import modality_of_profile

TAGS = ("monai", "medical", "neuroimaging", "brain", "mri", "y-aware", "contrastive-learning")
TAG = {"gm": "grey-matter", "wm": "white-matter"}  # of modalities, whose own name is the tag of the others
_TASK = "image-classification"


def front_matter(
    card: Mapping[str, Any], tested: Tested | None, title: str, licence: str, datasets: Sequence[str]
) -> dict[str, Any]:
    """What the Hub reads of a README.

    Args:
        card: Card of the model.
        tested: Tested on a test section; None: it was not, and there is no `model-index`.
        title: Title of the model.
        licence: Licence of the weights, as the Hub writes it, such as `apache-2.0`.
        datasets: Datasets that the model was trained on, by their names on the Hub.
    """
    name = modality_of_profile(card["contract"]).name
    own = [TAG.get(name, name), *(["phantom"] if card.get("warning") else [])]
    content: dict[str, Any] = {"license": licence, "library_name": "monai", "pipeline_tag": _TASK}
    content |= {"tags": [*TAGS, *own], **({"datasets": list(datasets)} if datasets else {})}
    if tested is None:
        return content
    metrics = [
        {
            "type": metric.kind,
            "value": metric.value,
            "name": metric.name,
            "args": {"confidence_level": LEVEL, "confidence_interval": [metric.low, metric.high]},
        }
        for metric in tested.metrics
    ]
    about = f"{tested.datalist}, test section, {tested.participants} participants"
    dataset = {"name": f"{about} (phantom)" if tested.warning else about, "type": tested.datalist, "split": "test"}
    result = {"task": {"type": _TASK}, "dataset": dataset, "metrics": metrics}
    content["metrics"] = [metric.kind for metric in tested.metrics]
    return {**content, "model-index": [{"name": title, "results": [result]}]}


def readme(front: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """The text of `README.md`.

    Args:
        front: Front; see `front_matter`.
        content: What the template shows: `card`, `tested`, `title`, `repository` and which files there are.

    Raises:
        ValueError: when huggingface_hub, where it is installed, cannot read it, or reads something else.
    """
    written = yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True)
    text = f"---\n{written}---\n\n{template('README.md.jinja').render(**content)}\n"
    if find_spec("huggingface_hub"):
        _check(text, front)
    return text


def _check(text: str, front: Mapping[str, Any]) -> None:
    from huggingface_hub import ModelCard

    try:
        found = ModelCard(text).data.to_dict()
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"huggingface_hub cannot read the README that was made: {error}.") from error
    lost = [name for name in front if found.get(name) != front[name]]
    if lost:
        raise ValueError(f"huggingface_hub reads other entries than were written to the README: {', '.join(lost)}.")


def template(name: str) -> Any:
    """A template of this room.

    Args:
        name: Name of the file.
    """
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    # Markdown and Python, no HTML: texts of a card go through `line`
    environment = Environment(loader=loader, autoescape=False, trim_blocks=True, undefined=StrictUndefined)
    environment.filters["line"] = _line
    return environment


def _line(text: object) -> str:
    """A text of a card in one line of Markdown, where no sign of it means anything."""
    plain = " ".join(str(text).split())
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#" else sign for sign in plain)
