"""The command that makes grey-matter maps of T1w scans; nothing heavy is imported before it has to run."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bundle.cli.options import OptionError

if TYPE_CHECKING:
    from bundle.preparation import Head, Refusal
    from bundle.preparation.run import Report


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `prepare`."""
    parser.add_argument(
        "scans",
        nargs="+",
        type=Path,
        metavar="SCANS",
        help="T1w scans: NIfTI or MGH files, DICOM folders, BIDS datasets, .zip or .tar files, or folders of these; "
        "maps that CAT12, CAT26, T1Prep or deepmriprep have made of them are taken as they are",
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="folder for maps, tables and pages; scans that it holds are kept"
    )
    parser.add_argument("--backend", default="ants", metavar="NAME", help="what prepares them (default: %(default)s)")
    parser.add_argument(
        "--again", action="store_true", help="prepare T1w scans whose map is there, too, in place of taking the map"
    )
    parser.add_argument("--series", type=int, metavar="NUMBER", help="DICOM series to take, where several would do")
    parser.add_argument(
        "--workers", type=int, default=1, help="scans at a time; each needs up to 3 GB (default: %(default)s)"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="threads for each scan; with one, the same scan gives the same map, bit for bit (default: %(default)s)",
    )
    parser.add_argument(
        "--bids",
        action=argparse.BooleanOptionalAction,
        help="write BIDS derivatives, or do not (default: when all scans lie in BIDS datasets)",
    )
    parser.add_argument("--dry-run", action="store_true", help="say which scans were found, and prepare none")


def run(options: argparse.Namespace, _: Sequence[str]) -> int:
    """Run `prepare`."""
    _require_apart(options.output, options.scans)

    from bundle.preparation.run import prepare_scans
    from bundle.preparation.sources import find_heads

    with tempfile.TemporaryDirectory(prefix="yaware-prepare-") as work:
        heads, refusals = find_heads(options.scans, Path(work), options.series, again=options.again)
        if options.dry_run:
            sys.stdout.write(_found(heads, refusals))
            return 0
        report = prepare_scans(
            heads, refusals, options.output, options.backend, options.workers, options.threads, options.bids
        )
    sys.stdout.write(_done(report))
    return report.exit_status


def _require_apart(output: Path, scans: Sequence[Path]) -> None:
    """Refuse an output among the scans: the next run would take its maps for scans."""
    for source in scans:
        if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
            inside = output.resolve().relative_to(source.resolve())
            if inside.parts[:1] != ("derivatives",):
                raise OptionError(
                    f"--output {output} lies inside of {source}, so the next run would take its maps for scans. Give a "
                    f"folder beside it, or of a BIDS dataset {source / 'derivatives' / 'yaware'}."
                )


def _found(heads: Sequence[Head], refusals: Sequence[Refusal]) -> str:
    """What would be prepared, and what not."""
    lines = [
        "\n  ".join([f"{head.name}: would be {'prepared' if head.made is None else 'taken'}", *head.remarks])
        for head in heads
    ]
    lines += [f"{refusal.name}: refused\n  {refusal.reason}" for refusal in refusals]
    return "\n".join([*lines, f"{len(heads)} found, {len(refusals)} refused; nothing was prepared.", ""])


def _done(report: Report) -> str:
    """What became of the scans, and where to look."""
    lines = [
        f"{record.name}: {record.status}\n  " + "\n  ".join(record.reasons)
        for record in report.records
        if record.reasons
    ]
    statuses = Counter(record.status for record in report.records)
    counts = ", ".join(f"{n} {status}" for status, n in statuses.items())
    kept = f" ({report.kept} prepared before)" if report.kept else ""
    lines += [f"{counts or 'No scan was found'}{kept}. Look at {report.output / 'index.html'}.", *_mixed(report)]
    return "\n".join([*lines, ""])


def _mixed(report: Report) -> list[str]:
    """A warning where the maps of a run come from several pipelines."""
    usable = [record.pipeline for record in report.records if record.is_usable]
    counts = Counter(f"{made.get('name', '')} {made.get('version', '')}".strip() for made in usable)
    if len(counts) < 2:
        return []
    said = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
    return [
        f"These maps come from {len(counts)} pipelines: {said}. Maps and head sizes of two pipelines differ, so do not "
        "compare people across them; --again prepares all scans that are there in one way."
    ]
