"""What adaptations of encoders gain and cost, from comparisons that are done.

    python -m benchmarks.adaptation_encoders eval/strength/weak_* eval/strength/strong_*
    python -m benchmarks.adaptation_encoders eval/people

Folders whose names differ in the number at their end, such as `weak_0` and `weak_1`, are repeats of one comparison. In
a comparison over sites the groups are the repeats, each the mean of its seeds. Prints means over repeats, and in
brackets the paired difference from the first method with its 95 % interval over repeats (Student's t). **Bold**: it
excludes 0.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from bundle.metrics.over_groups import mean_over_groups

DIGITS = {"ROC-AUC": 3, "age error": 2, "site": 2, "OpenBHB score": 2}
NAMES = {"auc": "ROC-AUC", "age_mae": "age error", "site_accuracy": "site", "openbhb_score": "OpenBHB score"}
DONE = "sites.csv"  # of a comparison over sites


def measured(folder: Path) -> pd.DataFrame:
    """Each method and repeat: means over tasks and seeds."""
    over_sites = (folder / DONE).exists()
    repeat = "group" if over_sites else "seed"
    aucs = pd.read_csv(folder / (DONE if over_sites else "results.csv"))
    aucs = aucs.assign(seed=0) if not over_sites else aucs
    known = pd.read_csv(folder / "knowledge.csv").assign(**({} if over_sites else {"seed": 0}))
    keys = ["method", repeat]
    found = aucs.groupby(keys, sort=False)[["auc"]].mean().join(known.groupby(keys, sort=False).mean(numeric_only=True))
    return found.rename(columns=NAMES)[list(DIGITS)].reset_index().rename(columns={repeat: "repeat"})


def comparisons(folders: Sequence[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Name of each comparison, and all its repeats."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for folder in map(Path, folders):
        found = measured(folder)
        name = folder.name if (folder / DONE).exists() else re.sub(r"_\d+$", "", folder.name)
        parts.setdefault(name, []).append(found if (folder / DONE).exists() else found.assign(repeat=folder.name))
    for name, tables in parts.items():
        yield name, pd.concat(tables)


def cell(values: pd.DataFrame, method: str, first: str, digits: int) -> str:
    """Mean over repeats, and the difference from the first method."""
    own = values[method].dropna()
    if own.empty:
        return ""
    text = f"{own.mean():.{digits}f}"
    gaps = (values[method] - values[first]).dropna()
    if method == first or len(gaps) < 2:
        return text
    mean, _, low, high = mean_over_groups(gaps)
    gap = f"{mean:+.{digits}f}, {low:+.{digits}f} to {high:+.{digits}f}".replace("-", "−")
    return f"{text} (**{gap}**)" if low > 0 or high < 0 else f"{text} ({gap})"


def main(*folders: str) -> None:
    """Print a table per comparison."""
    for name, table in comparisons(folders):
        methods = list(dict.fromkeys(table["method"]))
        wide = {column: table.pivot(index="repeat", columns="method", values=column) for column in DIGITS}
        rows = [{c: cell(wide[c], method, methods[0], digits) for c, digits in DIGITS.items()} for method in methods]
        shown = pd.DataFrame(rows).assign(**{name: methods})[[name, *DIGITS]]
        repeats = table["repeat"].nunique()
        sys.stdout.write(f"{repeats} repeats\n\n{shown.to_markdown(index=False, disable_numparse=True)}\n\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
