"""The command that makes a datalist from a table and images; nothing heavy is imported before it has to run."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle.cli.options import OptionError, number, read_config
from bundle.places import found

if TYPE_CHECKING:
    from bundle.cohort.conditions import Condition
    from bundle.scans.modality import Modality

logger = logging.getLogger("bundle")
COLUMNS = ("participant", "session", "age", "sex", "site", "tiv", "label", "split", "study")
FRACTIONS = ("training=0.8", "validation=0.2")
_UNKNOWN = ("n/a", "na", "unknown", "null")  # to what a word of the table may lead


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cohort`."""
    parser.add_argument("--table", type=Path, required=True, help="participants.tsv, .csv or .xlsx")
    parser.add_argument(
        "--images",
        required=True,
        help="pattern of the images from the table's folder, such as 'mri/mwp1{participant_id}.nii'",
    )
    parser.add_argument("--output", type=Path, required=True, help="the datalist to write (.json)")
    _add_reading(parser)
    _add_sections(parser)
    parser.add_argument("--workers", type=int, default=2, help="readers (default: %(default)s)")


def _add_reading(parser: argparse.ArgumentParser) -> None:
    for name in COLUMNS:
        words = f"column of the table that holds the {name}" + (", or none" if name not in ("split", "study") else "")
        parser.add_argument(f"--{name}-column", metavar="NAME", help=words)
    parser.add_argument("--age-unit", metavar="UNIT", default="", help="years, months, weeks or days (default: years)")
    parser.add_argument(
        "--label-values", nargs="+", default=[], metavar="NAME=0|1|n/a", help="diagnosis → 0 control, 1 patient"
    )
    parser.add_argument("--sex-values", nargs="+", default=[], metavar="CODE=F|M|n/a", help="sex codes of the table")
    parser.add_argument(
        "--modality",
        default="gm",
        metavar="NAME|FILE",
        help="kind of maps, as `modalities` lists them, or a config that states one's own (default: %(default)s)",
    )
    parser.add_argument(
        "--channels",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="of a modality of several files a scan, such as gm_wm: pattern of each channel after --images",
    )
    parser.add_argument(
        "--missing-channels",
        default="refuse",
        metavar="WAY",
        help="rows without one of --channels: refuse, or keep with null in its place (default: %(default)s)",
    )
    parser.add_argument(
        "--shape", type=int, nargs=3, help="expected voxels (default: of the modality, 121 145 121 of gm)"
    )
    parser.add_argument(
        "--regrid",
        type=Path,
        metavar="FOLDER",
        help="bring images whose axes, offset or extent differ from most onto one grid, and keep them there",
    )
    parser.add_argument(
        "--prepare",
        type=Path,
        metavar="FOLDER",
        help="the images are T1w scans (NIfTI, DICOM folders, archives): make maps of them there first",
    )
    parser.add_argument(
        "--skip-invalid", action="store_true", help="leave bad subjects out and list them in excluded.tsv"
    )


def _add_sections(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--split",
        type=found,
        metavar="FILE",
        help="published split: a list of participants (.tsv), or a rule (.json), such as configs/splits/abide1.tsv",
    )
    parser.add_argument(
        "--fractions",
        nargs="+",
        default=[],
        metavar="SECTION=SHARE",
        help="random split by participant (default: training=0.8 validation=0.2)",
    )
    parser.add_argument(
        "--test-sites", nargs="+", default=[], metavar="SITE", help="sites held out as the test section"
    )
    words = "only scans that fulfil each of these take part, such as 'age<14' or 'sex=F'"
    parser.add_argument("--where", nargs="+", default=[], metavar="CONDITION", help=words)
    words = "scans that fulfil each of these are the test section, such as 'age>=14'"
    parser.add_argument("--test-where", nargs="+", default=[], metavar="CONDITION", help=words)
    parser.add_argument("--exclude-studies", nargs="+", default=[], metavar="STUDY", help="left out, such as abide1")
    parser.add_argument(
        "--hold-out",
        type=Path,
        nargs="+",
        default=[],
        metavar="DATALIST",
        help="leave out whom these datalists test on",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split (default: %(default)s)")


def run(options: argparse.Namespace, _: Sequence[str]) -> None:
    """Read, check and split a cohort, write the datalist, and say last what is unknown in it."""
    _require_one_way(options)
    from bundle.cohort.datalist import RECORD_KEYS, write_datalist
    from bundle.cohort.participants import CohortError
    from bundle.cohort.table import read_cohort, unknown_sentences, write_excluded

    modality = _modality(options)
    names = {"participant": "participant_id", "session": "session_id"}
    columns = {names.get(name, name): value for name in COLUMNS if (value := getattr(options, f"{name}_column"))}
    where, test_where = (_conditions(texts) for texts in (options.where, options.test_where))
    asked = {name for condition in (*where, *test_where) for name in condition.columns}
    records, problems = read_cohort(
        options.table,
        options.images,
        columns=columns,
        label_values={k: _label(v) for k, v in _pairs(options.label_values).items()} or None,
        sex_values={k: _or_unknown(v) for k, v in _pairs(options.sex_values).items()} or None,
        expected_shape=options.shape or list(modality.grids[0].shape),
        age_unit=options.age_unit,
        regrid=options.regrid,
        prepare=_preparing(options.prepare, options.workers) if options.prepare else None,
        kept=sorted(asked),
        workers=options.workers,
        modality=None if modality.name == "gm" else modality,
        channels=options.channels,
        missing_channels=options.missing_channels,
    )
    if problems and not options.skip_invalid:
        raise CohortError(problems)
    excluded = options.output.with_name("excluded.tsv")
    write_excluded(excluded, problems)
    sections = _sections(records, options, where, test_where)
    told = {*RECORD_KEYS, "channels", *columns}  # columns that only a condition reads are not written
    sections = {name: [{k: r[k] for k in r if k in told} for r in items] for name, items in sections.items()}
    extra = {"modality": modality.card}
    write_datalist(options.output, sections, description=_description(options), extra=extra)
    counts = ", ".join(f"{len(items)} {name}" for name, items in sections.items())
    logger.info(f"Wrote {options.output}: {counts}; {len(problems)} problem(s) of scans left out are in {excluded}.")
    for sentence in unknown_sentences(records):
        logger.warning(sentence)


def _modality(options: argparse.Namespace) -> Modality:
    """The modality that was named, or that a config states; without a usual grid it needs a shape."""
    from bundle.scans.modality import modality_of

    stated: Any = options.modality
    if Path(stated).suffix in (".yaml", ".yml", ".json"):
        stated = read_config(found(stated)).get("modality")
        if stated is None:
            raise OptionError(f"--modality names {options.modality}, which states no `modality`; name another file.")
    modality = modality_of(stated, "--modality")
    if not modality.grids and not options.shape:
        raise OptionError(f"A {modality.words} has no usual grid; say how many voxels the images have: --shape D H W.")
    if options.prepare and modality.name != "gm":
        raise OptionError(f"--prepare makes grey-matter maps, but --modality says {modality.name}; give one of them.")
    if options.regrid and modality.channels:
        raise OptionError(
            f"--regrid moves one image of a scan, and {modality.plural} have several; bring all onto one grid before."
        )
    return modality


def _require_one_way(options: argparse.Namespace) -> None:
    """Refuse two ways of dividing the participants, of which one would be ignored."""
    ways = ("split_column", "split", "test_sites", "test_where", "fractions")
    given = [f"--{name.replace('_', '-')}" for name in ways if getattr(options, name)]
    if len(given) > 1 and given not in (["--test-sites", "--fractions"], ["--test-where", "--fractions"]):
        raise OptionError(f"{' and '.join(given)} are several ways to divide the participants; give one of them.")


def _conditions(texts: Sequence[str]) -> list[Condition]:
    from bundle.cohort.conditions import condition_of

    try:
        return [condition_of(text) for text in texts]
    except ValueError as error:
        raise OptionError(str(error)) from error


def _description(options: argparse.Namespace) -> str:
    """What the datalist says of itself: the table, and the conditions."""
    parts = {"where": options.where, "tested where": options.test_where}
    said = "".join(f"; {word} {' and '.join(texts)}" for word, texts in parts.items() if texts)
    return f"made from {options.table.name}{said}"


def _preparing(folder: Path, workers: int) -> Any:
    """What makes maps of the images of a table, in a folder that keeps them."""
    from tempfile import TemporaryDirectory

    from bundle.cohort.table import Ready
    from bundle.preparation.rows import one_head, prepare_rows
    from bundle.scans.names import safe_names

    def prepare(paths: Mapping[int, Path], ids: Mapping[int, str]) -> dict[int, Ready]:
        wanted = safe_names([ids[row] for row in paths], [str(path) for path in paths.values()])
        names = dict(zip(paths, wanted, strict=True))
        with TemporaryDirectory(prefix="yaware_cohort_") as work:
            found = {name: one_head(name, paths[row], Path(work)) for row, name in names.items()}
            made = prepare_rows(found, folder, workers=workers)
        ready = {}
        for row, name in names.items():
            record = made[name]
            image = str((folder / record.map["file"]).absolute()) if record.is_usable else ""
            fault = "" if record.is_usable else f"could not be prepared: {' '.join(record.reasons)}"
            ready[row] = Ready(image, record.volumes.get("tiv"), fault)
        return ready

    return prepare


def _sections(
    records: list[dict], options: argparse.Namespace, where: Sequence[Condition], test_where: Sequence[Condition]
) -> dict[str, list[dict]]:
    from bundle.cohort import populations, published, splits

    splits.say_spellings(records)
    if options.exclude_studies:
        records, _ = splits.hold_out_sites(records, options.exclude_studies, column="study")
    if options.hold_out:
        records = _without_tested(records, options.hold_out)
    records = populations.scans_where(records, where)
    if options.split_column:
        return splits.split_by_column(records)
    if options.split:
        return published.split_by_file(records, options.split)
    fractions = {name: number("fractions", value) for name, value in _pairs(options.fractions or FRACTIONS).items()}
    if not (options.test_sites or test_where):
        return splits.split_by_participant(records, fractions, seed=options.seed)
    if "test" in fractions:
        name = "--test-sites" if options.test_sites else "--test-where"
        raise OptionError(f"The test section is either {name} or a share in --fractions, but both were given.")
    if test_where:
        rest, held_out = populations.hold_out_where(records, test_where)
    else:
        rest, held_out = splits.hold_out_sites(records, options.test_sites)
    return {**splits.split_by_participant(rest, fractions, seed=options.seed), "test": held_out}


def _without_tested(records: list[dict], datalists: Sequence[Path]) -> list[dict]:
    from bundle.cohort.datalist import load_section
    from bundle.cohort.splits import hold_out_people

    for path in datalists:
        records = hold_out_people(records, load_section(path, "test", cached=None), str(path))
    return records


def _pairs(items: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for item in items:
        name, sign, value = item.rpartition("=")
        if not sign:
            raise OptionError(f"Expected NAME=VALUE, but found '{item}'.")
        if pairs.setdefault(name, value) != value:
            raise OptionError(f"'{name}' was given twice, as {pairs[name]} and as {value}.")
    return pairs


def _label(text: str) -> int | None:
    if _or_unknown(text) is None:
        return None
    if text not in ("0", "1"):
        raise OptionError(f"A label is 0 (control), 1 (patient) or n/a (unknown), but '{text}' was given.")
    return int(text)


def _or_unknown(text: str) -> Any:
    return None if text.lower() in _UNKNOWN else text
