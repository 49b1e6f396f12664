"""Names of components in records and caches that were written when all modules were flat, and what they are now."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Former module: the place where a config finds its names now.
_PLACES = {
    **dict.fromkeys(("contract", "volumes"), "scans"),
    **dict.fromkeys(("networks", "checkpoints"), "networks"),
    **dict.fromkeys(("kernels", "losses", "rivals", "views", "corruptions", "pretexts"), "pretext"),
    **dict.fromkeys(("cohort", "folds", "overlap", "splits", "storage"), "cohort"),
    **dict.fromkeys(("allocator", "distributed", "engines", "handlers", "resume", "safety"), "training"),
    **dict.fromkeys(("familiarity", "pages", "prediction"), "prediction"),
    "runs": "cli.run_record",
}
# Names of the former module `workflow`, which was several things.
_WORKFLOW = {
    "provenance": "provenance",
    "report_evaluation": "evaluation",
    "report_training": "training",
    "warning_of": "cohort",
}
_NAME = re.compile(r"\bbundle\.([a-z_]+)\.([A-Za-z_]\w*)")


def renewed(content: Any) -> Any:
    """The content of a config with today's names, in every text at any depth; what has today's stays as it is.

    Args:
        content: Plain values, as of JSON.

    Example:
        >>> renewed({"_target_": "bundle.views.TwoViews", "seed": 0})
        {'_target_': 'bundle.pretext.TwoViews', 'seed': 0}
    """
    if isinstance(content, Mapping):
        return {name: renewed(value) for name, value in content.items()}
    if isinstance(content, list):
        return [renewed(value) for value in content]
    return _NAME.sub(_current, content) if isinstance(content, str) else content


def _current(match: re.Match[str]) -> str:
    module, name = match.groups()
    place = _WORKFLOW.get(name) if module == "workflow" else _PLACES.get(module)
    return f"bundle.{place}.{name}" if place else match[0]
