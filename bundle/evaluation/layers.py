"""What each block of an encoder reads: names, a table and a figure of a probe after every block."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd
from torch import nn

from bundle.evaluation.features import Extractor, Images
from bundle.evaluation.layers_figure import block_curves
from bundle.evaluation.plan import CALIBRATED, VOXELS
from bundle.files import write_text

AUC, AGE = "ROC-AUC", "age error, years"
COLUMNS = ["measure", "task", "n", "method", "block", "value", "low", "high"]
CAUTION = (
    "These are test subjects: the block that reads best here was not chosen beforehand. To report one block, choose it "
    "on other people."
)


def block_name(method: str, number: int) -> str:
    """How tables call a block before the last; the last keeps the method's name alone.

    Args:
        method: Name of the encoder.
        number: Number of the block, from 1 on; −1 for the last.
    """
    return method if number == -1 else f"{method}, block {number}"


def extractors_of(images: Images, encoders: Mapping[str, nn.Module], blocks: Sequence[int]) -> dict[str, Extractor]:
    """What computes the features of each encoder and, but of the calibrated one, of some of its blocks.

    Args:
        images: How images become features.
        encoders: Method → encoder.
        blocks: Blocks before the last.
    """
    found: dict[str, Extractor] = {}
    for method, encoder in encoders.items():
        if blocks and method != CALIBRATED:
            named = images.blocks(encoder, blocks)
            found |= {block_name(method, number): extractor for number, extractor in named.items()}
        else:
            found[method] = images.encoder(encoder)
    return found


def layers_table(
    summary: pd.DataFrame, ages: pd.DataFrame, methods: Collection[str], blocks: Sequence[int], last: int
) -> pd.DataFrame:
    """ROC-AUC at the largest N and age error by block: a tidy row per measure, task, method and block.

    Args:
        summary: Summary, as `probing.summarize` returns it.
        ages: Age errors, as of `knowledge.age_errors_of`; may be empty.
        methods: Encoders whose blocks were probed.
        blocks: Blocks before the last.
        last: Number of the last block.

    Returns:
        Columns `COLUMNS`; voxels, which have no blocks, have an empty block.
    """
    names = {block_name(method, n): (method, n) for method in methods for n in blocks}
    places = {**names, **{method: (method, last) for method in methods}, VOXELS: (VOXELS, None)}
    largest = summary[summary["n"] == summary.groupby("task")["n"].transform("max")]
    shown, aged = (each[each["method"].isin(places)] for each in (largest, ages))
    rows = [(AUC, r.task, r.n, *places[str(r.method)], r.auc, r.low, r.high) for r in shown.itertuples()]
    rows += [(AGE, "age", None, *places[str(r.method)], r.mae, r.low, r.high) for r in aged.itertuples()]
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"n": "Int64", "block": "Int64"})
    order = {method: place for place, method in enumerate([*methods, VOXELS])}
    return table.sort_values(["method", "block"], key=lambda c: c.map(order) if c.name == "method" else c)


def write_layers(folder: Path, table: pd.DataFrame, note: str = "") -> str:
    """Write `layers.csv`, `layers.md` and `layers.png`, and give the text of the second.

    Args:
        folder: Folder of the probe.
        table: Table, as `layers_table` returns it.
        note: A line that text and figure carry.
    """
    write_text(folder / "layers.csv", table.to_csv(index=False))
    parts = [note, "What each block reads, by a linear probe (95 % interval)"]
    for (measure, task), rows in table.groupby(["measure", "task"], sort=False):
        at = "" if measure == AGE else f" of {task} at N = {rows['n'].iloc[0]}"
        parts += [f"{measure[0].upper()}{measure[1:]}{at}", _by_block(rows, 2 if measure == AGE else 3)]
    text = "\n\n".join(filter(None, [*parts, CAUTION])) + "\n"
    write_text(folder / "layers.md", text)
    block_curves(folder / "layers.png", table, note)
    return text


def _by_block(rows: pd.DataFrame, digits: int) -> str:
    """Markdown: a row per method, a column per block."""
    last = rows["block"].max()
    known = rows.dropna(subset="block")
    cells = [f"{r.value:.{digits}f} ({r.low:.2f}–{r.high:.2f})" for r in known.itertuples()]
    named = [f"block {number}" + (" (last)" if number == last else "") for number in known["block"]]
    table = known.assign(cell=cells, named=named).pivot(index="method", columns="named", values="cell")
    table = table.reindex(index=known["method"].unique(), columns=list(dict.fromkeys(named)))
    return table.reset_index().to_markdown(index=False, disable_numparse=True)
