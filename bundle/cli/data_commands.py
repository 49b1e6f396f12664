"""The commands that make and describe data; nothing heavy is imported before one has to run."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bundle.cli import cohort_command, prepare_command
from bundle.cli.options import FOLDER, RUNNABLE, number, resolve
from bundle.places import found

# phantom


def _add_phantom(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=Path("data/phantom"), help="folder (default: %(default)s)")
    parser.add_argument("--resolution", type=float, default=4.5, help="voxel size, mm (default: %(default)s)")
    parser.add_argument("--pretraining", type=int, default=1500, help="healthy subjects (default: %(default)s)")
    parser.add_argument(
        "--per-task", type=int, default=400, help="subjects of each diagnosis task (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--workers", type=int, default=None, help="processes (default: one per core)")
    _add_dry_run(parser)


def _add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", "--dry_run", action="store_true", help="say what would be done, and do nothing")


def _phantom(options: argparse.Namespace, _: Sequence[str]) -> None:
    if options.dry_run:
        from bundle.cli.preview import preview_phantom

        sys.stdout.write(preview_phantom(options.output, options.resolution, options.pretraining, options.per_task))
        return
    from bundle.phantom.cohort import make_phantom

    make_phantom(
        options.output,
        resolution=options.resolution,
        n_pretraining=options.pretraining,
        n_per_task=options.per_task,
        seed=options.seed,
        workers=options.workers,
    )


# split


def _add_split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rule", type=found, required=True, help="rule of the split, such as configs/splits/cnp.json")
    parser.add_argument("--table", type=Path, required=True, help="participants.tsv, .csv or .xlsx")
    parser.add_argument("--output", type=Path, required=True, help="the list to write (.tsv)")
    for name in ("participant", "site"):
        parser.add_argument(f"--{name}-column", metavar="NAME", help=f"column of the table that holds the {name}")


def _split(options: argparse.Namespace, _: Sequence[str]) -> None:
    from bundle.cohort.published import write_split

    given = {"participant_id": options.participant_column, "site": options.site_column}
    counts = write_split(options.table, options.rule, options.output, {k: v for k, v in given.items() if v})
    sys.stdout.write(f"{options.output}: {', '.join(f'{count} {name}' for name, count in counts.items())}\n")


# check-cohort


def _add_check_cohort(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--datalist", type=Path, required=True, help="all its sections are checked")
    parser.add_argument(
        "--with",
        type=Path,
        nargs="+",
        default=[],
        dest="others",
        metavar="OTHER",
        help="datalists that must not share participants with it",
    )
    parser.add_argument(
        "--weights", type=Path, nargs="+", default=[], help="models whose cards say on whom they were trained"
    )
    parser.add_argument("--skip-images", action="store_true", help="compare ids and file names, read no image")
    parser.add_argument("--output", type=Path, help="a table of the findings (.tsv or .json; default: none)")
    parser.add_argument("--workers", type=int, default=4, help="readers (default: %(default)s)")


def _check_cohort(options: argparse.Namespace, _: Sequence[str]) -> int:
    from bundle.cohort.audit import audit, say, write_findings

    findings = audit(options.datalist, options.others, options.weights, not options.skip_images, options.workers)
    say(findings)
    if options.output:
        write_findings(options.output, findings)
    return int(any(finding.severity == "error" for finding in findings))


# cache


def _add_cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--datalist", type=Path, required=True, help="all its sections are cached")
    parser.add_argument("--output", type=Path, default=Path("data/cache"), help="folder (default: %(default)s)")
    parser.add_argument(
        "--config",
        type=found,
        nargs="+",
        default=[],
        metavar="OVERLAY",
        help="overlays on configs/pretrain.yaml, whose preprocessing is applied, such as configs/resolution_4mm.yaml",
    )
    parser.add_argument(
        "--storage",
        default="float16",
        help="float16, or uint8: half the size, 255 steps between the extremes of a volume (default: %(default)s)",
    )
    parser.add_argument("--workers", type=int, default=None, help="processes (default: one per core)")
    _add_dry_run(parser)


def _cache(options: argparse.Namespace, _: Sequence[str]) -> None:
    files = [FOLDER / "pretrain.yaml", *options.config]
    resolve(files, {}, RUNNABLE)
    if options.dry_run:
        from bundle.cli.preview import preview_cache

        sys.stdout.write(preview_cache(options.datalist, options.output, options.storage))
        return

    from bundle.cli.run import recipe_of, value_of
    from bundle.cohort.cache import fill_cache

    name = "preprocessing"
    made = {"preprocessing": value_of(files, {}, name), "recipe": recipe_of(files, name)}
    fill_cache(options.datalist, options.output, **made, storage=options.storage, workers=options.workers)


# positives


def _add_positives(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--datalist", type=Path, required=True, help="its training section is the table")
    parser.add_argument(
        "--sigma",
        nargs="+",
        default=["1", "2", "5", "10", "20", "scott", "silverman"],
        help="bandwidths in years, or rules (default: 1 2 5 10 20 scott silverman)",
    )
    parser.add_argument("--batch-size", type=int, default=64, help="subjects per batch (default: %(default)s)")


def _positives(options: argparse.Namespace, _: Sequence[str]) -> None:
    import pandas as pd
    import torch

    from bundle.cohort.datalist import load_section
    from bundle.cohort.quantities import require_plausible
    from bundle.pretext.kernels import BANDWIDTH_RULES, GaussianKernel, bandwidth, positives_report

    records = load_section(options.datalist, "training")
    require_plausible(records, str(options.datalist))
    ages = [record["age"] for record in records]
    known = sum(not math.isnan(age) for age in ages)
    if not known:
        raise ValueError(
            f"No age is known of the {len(ages)} training subjects of {options.datalist}, and sigma is a distance in "
            "age. Make the datalist again from a table with ages (`python -m bundle cohort --age-column NAME`)."
        )
    batch = min(options.batch_size, len(ages))
    rows = []
    for text in options.sigma:
        sigma = bandwidth(text if text in BANDWIDTH_RULES else number("sigma", text), ages)
        kernel = GaussianKernel(sigma)
        report = positives_report(kernel, torch.tensor(ages)[:, None], batch)
        rows.append({"sigma": text, "years": sigma, **report})
    table = pd.DataFrame(rows).to_markdown(index=False, floatfmt=".2f")
    unknown = f" ({len(ages) - known} of unknown age)" if known < len(ages) else ""
    sys.stdout.write(
        f"Effective positives per anchor in batches of {batch} of {len(ages)} training subjects{unknown}, out of "
        f"{2 * batch - 1} other views (1 is SimCLR):\n\n{table}\n"
    )


# modalities


def _add_modalities(parser: argparse.ArgumentParser) -> None:
    """The command has no options."""


def _modalities(*_: object) -> None:
    from bundle.scans.modality import table_of_modalities

    sys.stdout.write(f"{table_of_modalities()}\n")


# name → summary, what adds its options, what runs it
COMMANDS: dict[str, tuple[str, Callable, Callable]] = {
    "prepare": (
        "make grey-matter maps of T1w scans, with quality control",
        prepare_command.add_options,
        prepare_command.run,
    ),
    "phantom": ("make the embedded synthetic cohort", _add_phantom, _phantom),
    "cohort": ("make a checked datalist from a table and images", cohort_command.add_options, cohort_command.run),
    "modalities": ("list the kinds of maps that are known", _add_modalities, _modalities),
    "split": ("write who is in which section by a published rule", _add_split, _split),
    "check-cohort": ("look for leaks, duplicates and confounds in a datalist", _add_check_cohort, _check_cohort),
    "cache": ("preprocess a cohort once, for pretraining on thousands", _add_cache, _cache),
    "positives": ("show how many positives each sigma gives", _add_positives, _positives),
}
