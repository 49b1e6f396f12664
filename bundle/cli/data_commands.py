"""The commands that make and describe data; nothing heavy is imported before one has to run."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bundle.cli.options import FOLDER, RUNNABLE, OptionError, number, resolve
from bundle.places import found

logger = logging.getLogger("bundle")
COLUMNS = ("participant", "session", "age", "sex", "site", "tiv", "label", "split", "study")


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


# cohort


def _add_cohort(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--table", type=Path, required=True, help="participants.tsv or .csv")
    parser.add_argument(
        "--images",
        required=True,
        help="pattern of the images from the table's folder, such as 'mri/mwp1{participant_id}.nii'",
    )
    parser.add_argument("--output", type=Path, required=True, help="the datalist to write (.json)")
    for name in COLUMNS:
        parser.add_argument(f"--{name}-column", metavar="NAME", help=f"column of the table that holds the {name}")
    parser.add_argument(
        "--label-values", nargs="+", default=[], metavar="NAME=0|1", help="diagnosis → 0 control, 1 patient"
    )
    parser.add_argument("--sex-values", nargs="+", default=[], metavar="CODE=F|M", help="sex codes of the table")
    parser.add_argument(
        "--shape", type=int, nargs=3, default=[121, 145, 121], help="expected voxels (default: 121 145 121)"
    )
    parser.add_argument(
        "--fractions",
        nargs="+",
        default=["training=0.8", "validation=0.2"],
        metavar="SECTION=SHARE",
        help="random split by participant (default: training=0.8 validation=0.2)",
    )
    parser.add_argument(
        "--test-sites", nargs="+", default=[], metavar="SITE", help="sites held out as the test section"
    )
    parser.add_argument("--exclude-studies", nargs="+", default=[], metavar="STUDY", help="left out, such as abide1")
    parser.add_argument(
        "--skip-invalid", action="store_true", help="leave bad subjects out and list them in excluded.tsv"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="readers (default: %(default)s)")


def _cohort(options: argparse.Namespace, _: Sequence[str]) -> None:
    from bundle.cohort.datalist import write_datalist
    from bundle.cohort.participants import CohortError
    from bundle.cohort.table import read_cohort, write_excluded

    names = {"participant": "participant_id", "session": "session_id"}
    columns = {names.get(name, name): value for name in COLUMNS if (value := getattr(options, f"{name}_column"))}
    records, problems = read_cohort(
        options.table,
        options.images,
        columns=columns,
        label_values={k: _label(v) for k, v in _pairs(options.label_values).items()} or None,
        sex_values=_pairs(options.sex_values) or None,
        expected_shape=options.shape,
        workers=options.workers,
    )
    if problems and not options.skip_invalid:
        raise CohortError(problems)
    excluded = options.output.with_name("excluded.tsv")
    write_excluded(excluded, problems)
    sections = _sections(records, options)
    write_datalist(options.output, sections, description=f"made from {options.table.name}")
    counts = ", ".join(f"{len(items)} {name}" for name, items in sections.items())
    logger.info(f"Wrote {options.output}: {counts}; {len(problems)} problem(s) of scans left out are in {excluded}.")


def _sections(records: list[dict], options: argparse.Namespace) -> dict[str, list[dict]]:
    from bundle.cohort import splits

    if options.exclude_studies:
        records, _ = splits.hold_out_sites(records, options.exclude_studies, column="study")
    if options.split_column:
        return splits.split_by_column(records)
    fractions = {name: number("fractions", value) for name, value in _pairs(options.fractions).items()}
    if not options.test_sites:
        return splits.split_by_participant(records, fractions, seed=options.seed)
    if "test" in fractions:
        raise OptionError("The test section is either --test-sites or a share in --fractions, but both were given.")
    rest, held_out = splits.hold_out_sites(records, options.test_sites)
    return {**splits.split_by_participant(rest, fractions, seed=options.seed), "test": held_out}


def _pairs(items: Sequence[str]) -> dict[str, str]:
    for item in items:
        if "=" not in item:
            raise OptionError(f"Expected NAME=VALUE, but found '{item}'.")
    return dict(item.rsplit("=", 1) for item in items)


def _label(text: str) -> int:
    if text not in ("0", "1"):
        raise OptionError(f"A label is 0 (control) or 1 (patient), but '{text}' was given.")
    return int(text)


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
    from bundle.pretext.kernels import BANDWIDTH_RULES, GaussianKernel, bandwidth, positives_report

    ages = [r["age"] for r in load_section(options.datalist, "training")]
    rows = []
    for text in options.sigma:
        sigma = bandwidth(text if text in BANDWIDTH_RULES else number("sigma", text), ages)
        kernel = GaussianKernel(sigma)
        report = positives_report(kernel, torch.tensor(ages)[:, None], options.batch_size)
        rows.append({"sigma": text, "years": sigma, **report})
    table = pd.DataFrame(rows).to_markdown(index=False, floatfmt=".2f")
    sys.stdout.write(
        f"Effective positives per anchor in batches of {options.batch_size} of {len(ages)} training subjects, out of "
        f"{2 * options.batch_size - 1} other views (1 is SimCLR):\n\n{table}\n"
    )


# name → summary, what adds its options, what runs it
COMMANDS: dict[str, tuple[str, Callable, Callable]] = {
    "phantom": ("make the embedded synthetic cohort", _add_phantom, _phantom),
    "cohort": ("make a checked datalist from a table and images", _add_cohort, _cohort),
    "check-cohort": ("look for leaks, duplicates and confounds in a datalist", _add_check_cohort, _check_cohort),
    "cache": ("preprocess a cohort once, for pretraining on thousands", _add_cache, _cache),
    "positives": ("show how many positives each sigma gives", _add_positives, _positives),
}
