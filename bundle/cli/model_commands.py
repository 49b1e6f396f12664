"""The commands that train, test and use models; nothing heavy is imported before one has to run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle.cli import demo_command, expressions, from_classifier, inputs, publish_command, train_phantom_command
from bundle.cli.accepted import accepted, with_what_is_there
from bundle.cli.help import OptionsHelp
from bundle.cli.options import (
    FOLDER,
    RUNNABLE,
    OptionError,
    check_overrides,
    digest,
    merged_config,
    parse_overrides,
    read_config,
    resolve,
    within,
)
from bundle.cli.pretexts import check_readings, read_networks, read_pretexts
from bundle.cli.unused import OF_SITES, refuse_half_a_method, refuse_of_another_protocol, refuse_unused
from bundle.places import HOME, found

if TYPE_CHECKING:
    from bundle.prediction import Model

SOME_REFUSED = 3  # exit status
_IMAGES = "images of a table of participants that names no files, such as 'mri/mwp1{participant_id}.nii'"
_ANATOMY = "The scans were compared with anatomy alone. Give --model FILE to see whether a model can read them.\n"
_COMPARED = {path.stem: path for path in RUNNABLE[:4]}  # command: config, of a comparison


# pretrain, probe


def _add_config(
    parser: argparse.ArgumentParser, runnable: str, *overlays: str, source: str = "", hidden: Sequence[str] = ()
) -> None:
    files = [FOLDER / name for name in (runnable, *overlays)]
    parser.usage = f"%(prog)s {source}[--config FILE ...] [--OPTION VALUE ...]"
    words = "show this and all options, and exit"
    parser.add_argument("-h", "--help", action=OptionsHelp, files=files, hidden=hidden, help=words)
    parser.add_argument(
        "--config",
        type=found,
        nargs="+",
        default=[],
        metavar="OVERLAY",
        help=f"overlays on configs/{runnable}, such as configs/phantom.yaml",
    )
    parser.add_argument("--dry-run", "--dry_run", action="store_true", help="say what would be done, and do nothing")
    parser.epilog = "Parts of components are options, too: --train#trainer#max_epochs 3."
    parser.set_defaults(runnable=files)


def _add_run(runnable: str, *overlays: str, more: Callable | None = None) -> Callable[[argparse.ArgumentParser], None]:
    def add(parser: argparse.ArgumentParser) -> None:
        _add_config(parser, runnable, *overlays)
        parser.add_argument(
            "--from-run",
            "--from_run",
            type=Path,
            metavar="RECORD",
            help="do again what a run.json, beside a result, says",
        )
        if more is not None:
            more(parser)

    return add


def _files(options: argparse.Namespace) -> list[Path]:
    return [*options.runnable, *[f for f in options.config if f not in options.runnable]]


def _run_config(options: argparse.Namespace, rest: Sequence[str], command: str) -> None:
    given = from_classifier.with_classifier(options, parse_overrides(rest))
    files = _files(options)
    if options.from_run is None:
        given = accepted(command, files, given)
    else:
        files = [options.from_run]
        given |= inputs.located_weights(command, merged_config(files, given))
        _check_record(options, given, command)
    _run_or_preview(options, files, given, command)


def _check_record(options: argparse.Namespace, given: dict[str, Any], command: str) -> None:
    from bundle.cli.run_record import compare_record, read_record

    if options.config:
        raise OptionError("A record holds its overlays; leave --config out, and give single options instead.")
    config, made_by = read_record(options.from_run, command)
    check_overrides(config, given, command)
    merged = merged_config([options.from_run], given)
    inputs.require_files(inputs.input_files(command, merged))
    compare_record(made_by, command, merged, list(given))


def _run_or_preview(options: argparse.Namespace, files: Sequence[Path], given: dict[str, Any], command: str) -> Any:
    """The config with what came of it, or nothing where it was only looked at."""
    if options.dry_run:
        from bundle.cli.preview import preview

        sys.stdout.write(preview(command, files, given))
        return None
    from bundle.cli.run import run_config

    return run_config(files, given, command)


def _pretrain(options: argparse.Namespace, rest: Sequence[str]) -> None:
    _run_config(options, rest, "pretrain")


def _probe(options: argparse.Namespace, rest: Sequence[str]) -> None:
    _run_config(options, rest, "probe")


def _train(options: argparse.Namespace, rest: Sequence[str]) -> None:
    _run_config(options, rest, "train")


def _evaluate(options: argparse.Namespace, rest: Sequence[str]) -> None:
    _run_config(options, rest, "evaluate")


# check, predict, export


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scans", nargs="+", metavar="SCAN", help="scans, folders, datalists, or tables")
    parser.add_argument("--images", metavar="PATTERN", help=_IMAGES)
    parser.add_argument(
        "--model", type=Path, help="classifier: the same verdicts as predict's (default: anatomy alone)"
    )
    parser.add_argument("--output", type=Path, help="also write every check as a table (.tsv)")
    parser.add_argument(
        "--modality", metavar="NAME", help="kind of maps, as `modalities` lists them; a model's card says its own (gm)"
    )
    words = "overlays on configs/inference.json, for a model whose card does not say its preprocessing"
    parser.add_argument("--config", type=found, nargs="+", default=[], metavar="OVERLAY", help=words)


def _check(options: argparse.Namespace, _: Sequence[str]) -> int:
    if options.config and not options.model:
        raise OptionError("--config says how a model sees a scan; give the --model, too, or leave it out.")
    if options.modality and options.model:
        raise OptionError("--model's card says which kind of maps it reads; leave --modality out.")
    files = [FOLDER / "inference.json", *options.config]
    resolve(files, {}, RUNNABLE)

    from bundle.prediction import check_scans, list_scans
    from bundle.scans import Contract

    records = [record for source in options.scans for record in list_scans(source, options.images)]
    if not options.model:
        refused = check_scans(records, Contract(None, options.modality), options.output)
        sys.stdout.write(_ANATOMY)
        return SOME_REFUSED if refused else 0

    from bundle.cli.run import values_of

    given = with_what_is_there("inference", files, {"model": expressions.plain_path(str(options.model))})
    model, dataset = values_of(files, {**given, "scans": []}, "classifier", "dataset")
    return SOME_REFUSED if check_scans(records, dataset.contract, options.output, model, dataset) else 0


def model_of(path: Path) -> Model:
    """A classifier, as `predict` loads it.

    Args:
        path: Path of its weights.
    """
    from bundle.cli.run import value_of

    files = [FOLDER / "inference.json"]
    return value_of(
        files, with_what_is_there("inference", files, {"model": expressions.plain_path(str(path))}), "classifier"
    )


def _add_predict(parser: argparse.ArgumentParser) -> None:
    _add_config(parser, "inference.json", source="SOURCE ", hidden=("dataset_dir", "output_dir", "images", "existing"))
    parser.add_argument("source", metavar="SOURCE", help="a scan, a folder of scans, a datalist, or a table")
    parser.add_argument("--images", metavar="PATTERN", help=_IMAGES)
    parser.add_argument("--output", default="eval/predictions", help="folder (default: %(default)s)")
    existing = parser.add_mutually_exclusive_group()
    for name, words in (("append", "add to the answers of --output"), ("overwrite", "replace the answers of --output")):
        existing.add_argument(f"--{name}", dest="earlier", action="store_const", const=name, help=words)


def _predict(options: argparse.Namespace, rest: Sequence[str]) -> int:
    given = parse_overrides(rest)
    if options.earlier and given.setdefault("existing", options.earlier) != options.earlier:
        raise OptionError(f"--{options.earlier} and --existing {given['existing']} contradict each other; give one.")
    files = _files(options)
    resolve(files, given, RUNNABLE)
    given = with_what_is_there("inference", files, given, [Path(options.source)])

    named = {"dataset_dir": options.source, "output_dir": options.output}
    if options.images:
        named["images"] = options.images
    places = {name: expressions.plain_path(path) for name, path in named.items()}
    ran = _run_or_preview(options, files, {**given, **places}, "inference")
    return SOME_REFUSED if ran and ran.get_parsed_content("table").refused else 0


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, default=Path("models/model.pt"), help="classifier (default: %(default)s)")
    parser.add_argument(
        "--formats", nargs="+", default=["torchscript", "onnx", "torch.export"], help="(default: all three)"
    )


def _export(options: argparse.Namespace, _: Sequence[str]) -> None:
    from bundle.networks.export import export_classifier

    export_classifier(options.model, options.formats)


# convert-weights


def _add_conversion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="weights with a card, or of another project, such as a released .pth")
    words = "folder (default: that of the weights; for those of another project models)"
    parser.add_argument("--output", type=Path, help=words)
    words = "pt or safetensors (default: the other one; for weights of another project pt)"
    parser.add_argument("--format", help=words)


def _convert(options: argparse.Namespace, _: Sequence[str]) -> None:
    from bundle.networks import read_card
    from bundle.networks.conversion import change_format, convert_weights
    from bundle.prediction.training_record import copy_record

    ending = options.format and f".{options.format}"
    if not read_card(options.file):
        convert_weights(options.file, options.output or Path("models"), ending or ".pt")
        return
    target = change_format(options.file, options.output or options.file.parent, ending)
    copy_record(options.file, target)


# package


def _add_package(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=Path("dist"), help="folder (default: %(default)s)")


def _package(options: argparse.Namespace, _: Sequence[str]) -> None:
    from bundle.publishing.package import package

    package(HOME, options.output)


# compare


def _compare(options: argparse.Namespace, rest: Sequence[str]) -> None:
    files = _files(options)
    given = resolve(files, parse_overrides(rest), files[:1])
    refuse_of_another_protocol(merged_config(files, given), given)
    keys = _with_found_overlays(merged_config(files, given))
    if keys["dataset_dir"] == keys.pop("phantom") and not options.dry_run:
        _make_missing_phantom(Path(keys["dataset_dir"]))

    from bundle.cli import sites_command
    from bundle.cli.run_record import write_record
    from bundle.evaluation.plan import Plan, Reading, references_of
    from bundle.evaluation.stored import stored_in

    of_sites = {name: keys.pop(name) for name in OF_SITES}
    protocol, stored = keys.pop("protocol"), stored_in(Path(keys["dataset_dir"]))
    digests = _check_overlays(keys)
    probing = merged_config([_COMPARED["probe"], *map(Path, keys["overlays"])], keys["probing"])
    asked = references_of(probing["references"])
    readings = {name: Reading(one["of"], one.get("probing", {})) for name, one in keys.pop("readings").items()}
    plan = Plan(**keys, readings=readings, configs=_COMPARED, digests=digests, references=asked, stored=stored)
    if protocol == "sites":
        if sites_command.compare_sites(plan, of_sites, options.dry_run):
            write_record(plan.output_dir, "compare", merged_config(files, given))
        return

    from bundle.cli.preview import preview_comparison
    from bundle.cli.run import run_config
    from bundle.evaluation.comparison import Comparison
    from bundle.evaluation.results import write_results

    if options.dry_run:
        sys.stdout.write(preview_comparison(Comparison(plan, run_config)))
        return
    Comparison(plan, run_config).run()
    write_results(plan)
    write_record(plan.output_dir, "compare", merged_config(files, given))


def _with_found_overlays(keys: dict[str, Any]) -> dict[str, Any]:
    """The keys of a comparison, with overlays that come with the package where the user has none of that name."""
    pretexts, options = read_pretexts(keys["pretexts"])
    networks, of_networks = read_networks(keys["networks"])
    overlays = [str(found(path)) for path in keys["overlays"]]
    read = {"pretexts": pretexts, "pretext_options": options, "networks": networks, "network_overlays": of_networks}
    return {**keys, **read, "overlays": overlays}


def _check_overlays(keys: dict[str, Any]) -> dict[str, str]:
    """Check every config that a comparison is to run, and give a digest of what each overlay says."""
    scale = [Path(p) for p in keys["overlays"]]
    runnable = list(_COMPARED.values())
    for name, overlays in keys["pretexts"].items():
        own, files = keys["pretext_options"].get(name, {}), [_COMPARED["pretrain"], *map(Path, overlays), *scale]
        with within("pretraining"):
            resolve(files, {**keys["pretraining"], **own}, runnable)
        refuse_unused(merged_config(files, own), own)
        refuse_half_a_method(files)
    check_readings(keys["readings"])
    for reading in ({}, *keys["readings"].values()):
        with within("probing"):
            resolve([_COMPARED["probe"], *scale], {**keys["probing"], **reading.get("probing", {})}, runnable)
    own_overlays = keys["network_overlays"].values()
    for overlays in ([], *own_overlays):
        with within("fine_tuning"):
            resolve([_COMPARED["train"], *map(Path, overlays), *scale], keys["fine_tuning"], runnable)
    used = {str(p) for overlays in (*keys["pretexts"].values(), *own_overlays, keys["overlays"]) for p in overlays}
    _check_cache(Path(keys["dataset_dir"]), sorted(map(Path, used)))
    return {path: digest(read_config(Path(path))) for path in sorted(used)}


def _check_cache(folder: Path, overlays: Sequence[Path]) -> None:
    from bundle.evaluation.stored import refuse_other_recipe, stored_in

    for path in overlays if stored_in(folder) else ():
        if "preprocessing" in (content := read_config(path)):
            refuse_other_recipe(folder, str(path), content["preprocessing"])


def _make_missing_phantom(folder: Path) -> None:
    if not (folder / "pretraining.json").is_file():
        from bundle.phantom.cohort import make_phantom

        make_phantom(folder, resolution=4.5)


# name → summary, what adds its options, what runs it
COMMANDS: dict[str, tuple[str, Callable, Callable]] = {
    "pretrain": ("pretrain an encoder", _add_run("pretrain.yaml"), _pretrain),
    "probe": ("probe a pretrained encoder", _add_run("probe.yaml"), _probe),
    "train": (
        "fine-tune a classifier, or train one from scratch",
        _add_run("train.json", more=from_classifier.add_option),
        _train,
    ),
    "evaluate": ("test a classifier on the test section", _add_run("train.json", "evaluate.json"), _evaluate),
    "train-phantom": (
        "make the phantom, pretrain on it and probe: the main job, minutes on two cores",
        train_phantom_command.add_options,
        train_phantom_command.run,
    ),
    "demo": (
        "try everything on an invented head: no scan and no model needed",
        demo_command.add_options,
        demo_command.run,
    ),
    "check": ("say whether scans are what a model can read", _add_check, _check),
    "predict": ("predict scans: a table, maps and pages", _add_predict, _predict),
    "export": ("write a classifier for other software", _add_export, _export),
    "package": ("write the bundle as one zip file for the Model Zoo", _add_package, _package),
    "publish": (
        "make what is uploaded to the Hugging Face Hub and the Model Zoo",
        publish_command.add_options,
        publish_command.run,
    ),
    "convert-weights": (
        "rewrite weights as .safetensors or .pt, or those of other projects as ours",
        _add_conversion,
        _convert,
    ),
    "compare": ("compare pretexts on every task", lambda parser: _add_config(parser, "compare.yaml"), _compare),
}
