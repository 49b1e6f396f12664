"""Command line: `python -m bundle COMMAND --help`.

Nothing heavy is imported before a command has to run, so that help and refusals are immediate.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bundle import configs

logger = logging.getLogger("bundle")
COLUMNS = ("participant", "session", "age", "sex", "site", "tiv", "label", "split", "study")
RUNNABLE = ("pretrain.yaml", "probe.yaml", "train.json", "evaluate.json", "inference.json")
SOME_REFUSED = 3  # exit status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        Exit status: 0 done, 1 the input was refused, 2 the command line was, 3 some scans were refused.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and not hasattr(options, "runnable"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return options.run(options, rest) or 0
    except configs.OptionError as error:
        return _refuse(error, 2)
    except (ValueError, OSError) as error:
        return _refuse(error, 1)
    except RuntimeError as error:  # MONAI wraps what a component of a config raises
        cause = _wrapped(error)
        if not isinstance(cause, (ValueError, OSError)):
            raise
        return _refuse(cause, 1)


def _refuse(error: BaseException, status: int) -> int:
    sys.stderr.write(f"error: {error}\n")
    return status


def _wrapped(error: BaseException) -> BaseException:
    """The first refusal below the wrappers; what it was raised from is no refusal."""
    while not isinstance(error, (ValueError, OSError)) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bundle", description="y-Aware contrastive pretraining for 3D brain MRI."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_phantom(_command(commands, "phantom", "make the embedded synthetic cohort", _phantom))
    _add_cohort(_command(commands, "cohort", "make a checked datalist from a table and images", _cohort))
    _add_positives(_command(commands, "positives", "show how many positives each sigma gives", _positives))
    _add_config(_command(commands, "pretrain", "pretrain an encoder", _pretrain), "pretrain.yaml")
    _add_config(_command(commands, "probe", "probe a pretrained encoder", _probe), "probe.yaml")
    _add_config(_command(commands, "train", "fine-tune a classifier, or train one from scratch", _train), "train.json")
    evaluate = _command(commands, "evaluate", "test a classifier on the test section", _evaluate)
    _add_config(evaluate, "train.json", "evaluate.json")
    _add_check(_command(commands, "check", "say whether scans are what a model can read", _check))
    _add_predict(_command(commands, "predict", "predict scans: a table, maps and pages", _predict))
    _add_export(_command(commands, "export", "write a classifier for other software", _export))
    _add_package(_command(commands, "package", "write the bundle as one zip file for the Model Zoo", _package))
    _add_conversion(_command(commands, "convert-weights", "rewrite weights of other projects as ours", _convert))
    _add_config(_command(commands, "compare", "compare pretexts on every task", _compare), "compare.yaml")
    return parser


def _command(commands: argparse._SubParsersAction, name: str, summary: str, run: Callable) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


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


def _phantom(options: argparse.Namespace, _: Sequence[str]) -> None:
    from bundle.phantom import make_phantom

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
    from bundle.cohort import CohortError, read_cohort, write_datalist, write_excluded

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
    from bundle import splits

    if options.exclude_studies:
        records, _ = splits.hold_out_sites(records, options.exclude_studies, column="study")
    if options.split_column:
        return splits.split_by_column(records)
    fractions = {name: configs.number("fractions", value) for name, value in _pairs(options.fractions).items()}
    if not options.test_sites:
        return splits.split_by_participant(records, fractions, seed=options.seed)
    if "test" in fractions:
        raise configs.OptionError(
            "The test section is either --test-sites or a share in --fractions, but both were given."
        )
    rest, held_out = splits.hold_out_sites(records, options.test_sites)
    return {**splits.split_by_participant(rest, fractions, seed=options.seed), "test": held_out}


def _pairs(items: Sequence[str]) -> dict[str, str]:
    for item in items:
        if "=" not in item:
            raise configs.OptionError(f"Expected NAME=VALUE, but found '{item}'.")
    return dict(item.rsplit("=", 1) for item in items)


def _label(text: str) -> int:
    if text not in ("0", "1"):
        raise configs.OptionError(f"A label is 0 (control) or 1 (patient), but '{text}' was given.")
    return int(text)


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

    from bundle.cohort import load_section
    from bundle.kernels import BANDWIDTH_RULES, GaussianKernel, bandwidth, positives_report

    ages = [r["age"] for r in load_section(options.datalist, "training")]
    rows = []
    for text in options.sigma:
        sigma = bandwidth(text if text in BANDWIDTH_RULES else configs.number("sigma", text), ages)
        kernel = GaussianKernel(sigma)
        report = positives_report(kernel, torch.tensor(ages)[:, None], options.batch_size)
        rows.append({"sigma": text, "years": sigma, **report})
    table = pd.DataFrame(rows).to_markdown(index=False, floatfmt=".2f")
    sys.stdout.write(
        f"Effective positives per anchor in batches of {options.batch_size} of {len(ages)} training subjects, out of "
        f"{2 * options.batch_size - 1} other views (1 is SimCLR):\n\n{table}\n"
    )


# pretrain, probe


def _add_config(parser: argparse.ArgumentParser, runnable: str, *overlays: str) -> None:
    path = configs.FOLDER / runnable
    listed = "\n".join(f"  {f'--{n} {v}':<36} {c}" for n, v, c in configs.options_of(path)) if path.is_file() else ""
    parser.epilog = f"options of {path}, with their defaults (nested ones as --train#trainer#max_epochs):\n{listed}"
    parser.add_argument(
        "--config", type=Path, nargs="+", default=[], metavar="OVERLAY", help="overlays, such as configs/phantom.yaml"
    )
    parser.set_defaults(runnable=[path, *(configs.FOLDER / name for name in overlays)])


def _run_config(options: argparse.Namespace, rest: Sequence[str], workflow_type: str) -> None:
    files = [*options.runnable, *[f for f in options.config if f not in options.runnable]]
    overrides = configs.resolve(files, configs.parse_overrides(rest), [configs.FOLDER / name for name in RUNNABLE])
    from bundle.workflow import run_config

    run_config(files, overrides, workflow_type)


def _pretrain(options: argparse.Namespace, rest: Sequence[str]) -> None:
    _run_config(options, rest, "train")


def _probe(options: argparse.Namespace, rest: Sequence[str]) -> None:
    _run_config(options, rest, "infer")


def _train(options: argparse.Namespace, rest: Sequence[str]) -> None:
    _run_config(options, rest, "train")


def _evaluate(options: argparse.Namespace, rest: Sequence[str]) -> None:
    _run_config(options, rest, "train")


# check, predict, export


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scans", nargs="+", metavar="SCAN", help="scans, folders, or tables with a column 'file'")
    parser.add_argument("--model", type=Path, help="classifier whose card says what it was trained on (default: none)")
    parser.add_argument("--output", type=Path, help="also write every check as a table (.tsv)")


def _check(options: argparse.Namespace, _: Sequence[str]) -> int:
    from bundle.checkpoints import classifier_card
    from bundle.contract import Contract
    from bundle.prediction import check_scans

    contract = Contract(classifier_card(options.model).get("contract") if options.model else None)
    return SOME_REFUSED if check_scans(options.scans, contract, options.output) else 0


def _add_predict(parser: argparse.ArgumentParser) -> None:
    _add_config(parser, "inference.json")
    parser.add_argument("source", help="a scan, a folder of scans, or a table with a column 'file'")
    parser.add_argument("--output", default="eval/predictions", help="folder (default: %(default)s)")


def _predict(options: argparse.Namespace, rest: Sequence[str]) -> int:
    given = configs.parse_overrides(rest)
    files = [*options.runnable, *options.config]
    configs.resolve(files, given, [configs.FOLDER / name for name in RUNNABLE])

    from bundle.prediction import count_refused, network_of
    from bundle.workflow import run_config, value_of

    model = value_of(files, given, "model")
    places = {"dataset_dir": options.source, "output_dir": options.output}
    run_config(files, {**network_of(model), **given, **places}, "infer")
    return SOME_REFUSED if count_refused(options.output) else 0


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, default=Path("models/model.pt"), help="classifier (default: %(default)s)")
    parser.add_argument(
        "--formats", nargs="+", default=["torchscript", "onnx", "torch.export"], help="(default: all three)"
    )


def _export(options: argparse.Namespace, _: Sequence[str]) -> None:
    from bundle.export import export_classifier

    export_classifier(options.model, options.formats)


# convert-weights


def _add_conversion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="such as DenseNet121_BHB-10K_yAwareContrastive.pth")
    parser.add_argument("--output", type=Path, default=Path("models"), help="folder (default: %(default)s)")


def _convert(options: argparse.Namespace, _: Sequence[str]) -> None:
    from bundle.conversion import convert_weights

    convert_weights(options.file, options.output)


# package


def _add_package(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=Path("dist"), help="folder (default: %(default)s)")


def _package(options: argparse.Namespace, _: Sequence[str]) -> None:
    from bundle.package import package

    package(Path(), options.output)


# compare


def _compare(options: argparse.Namespace, rest: Sequence[str]) -> None:
    keys = configs.read_config(options.runnable[0])
    for path in [f for f in options.config if f not in options.runnable]:
        own = configs.read_config(path)
        configs.check_overlay(keys, own, [], str(path))
        keys |= own
    overrides = configs.parse_overrides(rest)
    configs.check_overrides(keys, overrides)
    keys |= overrides
    if keys["dataset_dir"] == keys.pop("phantom"):
        _make_missing_phantom(Path(keys["dataset_dir"]))

    from bundle.comparison import Comparison
    from bundle.findings import write_findings
    from bundle.plan import Plan

    plan = Plan(**keys)
    Comparison(plan).run()
    write_findings(plan)


def _make_missing_phantom(folder: Path) -> None:
    if not (folder / "pretraining.json").is_file():
        from bundle.phantom import make_phantom

        make_phantom(folder, resolution=4.5)


if __name__ == "__main__":
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S"
    )
    sys.exit(main())
