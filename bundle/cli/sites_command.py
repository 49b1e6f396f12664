"""What `compare` does with the protocol `sites`: its plan with the cost, the runs, the tables."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.cli.cost import estimate
from bundle.cli.preview import Row, as_text, state_of
from bundle.cli.run import run_config
from bundle.evaluation.plan import Plan
from bundle.evaluation.site_groups import SiteRules
from bundle.evaluation.site_protocol import KINDS, SiteProtocol
from bundle.evaluation.site_results import write_site_results
from bundle.people import person_of

logger = logging.getLogger("bundle")


def compare_sites(plan: Plan, options: Mapping[str, Any], dry_run: bool) -> bool:
    """Compare over sites, or say what that would be.

    Args:
        plan: What is compared.
        options: Values of the options in `unused.OF_SITES`.
        dry_run: Whether it is only looked at.

    Returns:
        Whether there are results now.
    """
    protocol = SiteProtocol(plan, SiteRules(**options), run_config)
    protocol.check()
    rows = list(planned(protocol))
    if dry_run:
        protocol.rehearse()
        sys.stdout.write(as_text([*rows, *estimate(protocol), ("output", state_of(Path(plan.output_dir)))]))
        return False
    for name, content in rows:
        logger.info(f"{name}: {content}" if name else content)
    protocol.run()
    write_site_results(protocol)
    return True


def planned(protocol: SiteProtocol) -> Iterator[Row]:
    """The groups with their people, and the runs."""
    for held in protocol.groups:
        name, sections = held.group.name, held.sections
        parts = [f"{task} {_labels(sections[task]['test'])}" for task in held.tasks]
        healthy = [len(_people(sections["pretraining"][part])) for part in ("training", "validation")]
        parts.append(f"pretraining without it {healthy[0]} + {healthy[1]} people (training + validation)")
        sites = ", ".join(held.group.sites)
        yield name, "; ".join([*([] if sites == name else [sites]), *parts])
        yield from (("", sentence) for sentence in held.left_out)
    units = protocol.all_units()
    counts, done = Counter(u.kind for u in units), Counter(u.kind for u in units if u.is_done)
    runs = ", ".join(f"{counts[kind]} of {kind} ({done[kind]} done)" for kind in KINDS if counts[kind])
    yield "runs", f"{len(units)} in {len(protocol.tested)} groups: {runs}"


def _labels(records: Sequence[Mapping[str, Any]]) -> str:
    labels = Counter({person_of(r["participant_id"]): r["label"] for r in records}.values())
    return f"{labels[0]} + {labels[1]} people (label 0 + 1)"


def _people(records: Sequence[Mapping[str, Any]]) -> set[str]:
    return {person_of(r["participant_id"]) for r in records}
