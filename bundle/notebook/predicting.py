"""Scans become a table of predictions, as by the command `predict`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from bundle.cli.accepted import with_what_is_there
from bundle.cli.expressions import plain_path
from bundle.cli.options import RUNNABLE, resolve
from bundle.cli.run import run_config
from bundle.files import write_text
from bundle.hints import quoted
from bundle.notebook.running import Paths, as_options, configs, sentences, undisturbed
from bundle.scans.contract import REFUSE

Scans = str | Path | Sequence[str | Path] | pd.DataFrame
COLUMNS = ("file", "participant_id", "age", "sex", "tiv")  # of a table of scans
TABLE_ONLY = {"explain": "none", "report": False}  # where no folder is asked for


def predict(
    scans: Scans,
    model: str | Path | None = None,
    *,
    output: str | Path | None = None,
    images: str | None = None,
    config: Paths = (),
    verbose: bool = False,
    **options: Any,
) -> pd.DataFrame:
    """What a classifier says of scans: a row per scan, in the order they were given.

    The columns and values are those of `predictions.csv` that `python -m bundle predict` writes. A scan that cannot be
    read is a row, too: its `verdict` is `refuse`, its `reasons` say why, and it has no numbers.

    Args:
        scans: A scan; a folder, searched to any depth; a datalist or a table (a file); a list of scans; or a DataFrame
            with a column `file`, and, where they are known, `participant_id`, `age` (years), `sex` (F, M), `tiv` (mL).
        model: The `.pt` file of a classifier, with its card and record beside it. None: `models/model.pt`, the
            demonstration, which knows only a phantom.
        output: Folder that receives everything the command writes, with maps and pages. None: nothing is written, and
            maps of scans that had to be prepared are gone afterwards.
        images: Pattern of the images of a table of participants that names no files, such as
            `mri/mwp1{participant_id}.nii`.
        config: Overlays on `configs/inference.json`.
        verbose: Also log what is no warning.
        options: Options of `configs/inference.json`: `augmentations`, `prevalence`, `device`, `batch_size`,
            `num_workers`, `explain`, `existing`, ….

    Raises:
        ValueError: when the model or an option is not right, there is no scan, or not one of them could be read.
        OSError: when a file is missing, or cannot be written.

    Example:
        >>> table = predict("scans", "eval/schizophrenia/model.pt")  # doctest: +SKIP
        >>> table[["participant_id", "verdict", "predicted", "uncertainty"]]  # doctest: +SKIP
    """
    files = configs("inference.json", config)
    given = as_options(options, {"dataset_dir": "scans", "output_dir": "output"})
    given = {**({} if output else TABLE_ONLY), **given}
    given |= {} if model is None else {"model": plain_path(str(model))}
    with TemporaryDirectory(prefix="yaware_") as work, sentences(), undisturbed(verbose):
        source = _source(scans, Path(work))
        resolve(files, given, RUNNABLE)
        given = with_what_is_there("inference", files, given, [source])
        places = {"dataset_dir": str(source), "output_dir": str(output or Path(work) / "answers")}
        named = {**places, **({"images": images} if images else {})}
        ran = run_config(files, {**given, **{name: plain_path(path) for name, path in named.items()}}, "inference")
        table = _tidy(ran.get_parsed_content("table").table)
    _require_some(table)
    return table


def _source(scans: Scans, work: Path) -> Path:
    """What the command is given; scans that a list or a DataFrame names become a table."""
    if isinstance(scans, (str, Path)):
        return Path(scans)
    table = scans if isinstance(scans, pd.DataFrame) else pd.DataFrame({"file": list(scans)}, dtype=object)
    if "file" not in table:
        raise ValueError(f"The table of scans has no column 'file'; it has {quoted(map(str, table.columns))}.")
    if table.empty:
        raise ValueError("There is no scan: the list, or the table, is empty.")
    if missing := [str(file) for file in table["file"] if not isinstance(file, (str, Path)) or not str(file)]:
        raise ValueError(f"{len(missing)} of {len(table)} scans name no file ({quoted(missing)}); give each its path.")
    told = table[[name for name in COLUMNS if name in table]]
    full = told.assign(file=[str(Path(file).absolute()) for file in told["file"]])
    write_text(work / "scans.tsv", full.to_csv(sep="\t", index=False))
    return work / "scans.tsv"


def _tidy(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a type for each column: numbers, or text, where nothing is said of a refused scan."""
    tidy = table.reset_index(drop=True)
    for name in tidy:
        if tidy[name].dtype.kind not in "fiub":
            numbers = pd.to_numeric(tidy[name], errors="coerce")
            is_text = any(isinstance(value, str) for value in tidy[name])
            tidy[name] = tidy[name].astype("str").where(tidy[name].notna(), "") if is_text else numbers
    return tidy


def _require_some(table: pd.DataFrame) -> None:
    if (table["verdict"] != REFUSE).any():
        return
    said = " ".join(f"{row.file}: {row.reasons}" for row in table.head(3).itertuples())
    more = f" And {len(table) - 3} more." if len(table) > 3 else ""
    raise ValueError(f"Not one of {len(table)} scans could be read. {said}{more}")
