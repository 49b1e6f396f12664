"""What is said of the regions of a brain: their volumes, how far these are from healthy ones, and what they changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bundle.prediction import pictures
from bundle.prediction.judgement import REASONS
from bundle.prediction.norms import ABSENT, Compared
from bundle.prediction.training_record import TrainingRecord
from bundle.scans.contract import REFUSE
from bundle.scans.regions import REGIONS, SIDES, region_and_side

ANOTHER_KIND = ("demonstration", "phantom")  # reasons for which training people are no norm for a scan
NO_NORM = "One of the scan and the model's training people is a phantom and the other is not, so there are no norms."
COLUMNS = (
    *("participant_id", "file", "name", "region", "side", "volume_ml", "expected_ml", "z", "percentile"),
    *("attribution", "attribution_unit", "norms"),
)


def regions_table(
    records: Sequence[Mapping[str, Any]], table: pd.DataFrame, volumes: NDArray[np.float64], record: TrainingRecord
) -> pd.DataFrame:
    """The regions of all scans that were not refused, a row each; `attribution` is empty until it is computed.

    Args:
        records: Records, as `list_scans` makes them.
        table: Table of the predictions, a row for each record.
        volumes: mL of each region.
        record: Training record of the model.

    Shape:
        volumes (N, 35).
    """
    parts = []
    for person, row, own in zip(records, table.to_dict("records"), volumes, strict=True):
        if row["verdict"] != REFUSE:
            compared = _compared(person, str(row["reasons"]), own, record)
            parts.append(_rows(row, own, compared))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def _compared(
    person: Mapping[str, Any], reasons: str, volumes: NDArray[np.float64], record: TrainingRecord
) -> Compared:
    if any(REASONS[name] in reasons for name in ANOTHER_KIND):
        return Compared.with_nobody(NO_NORM)
    return Compared.with_nobody(ABSENT) if record.volumes is None else record.volumes.compare(volumes, person)


def _rows(row: Mapping[Any, Any], volumes: NDArray[np.float64], compared: Compared) -> pd.DataFrame:
    names, sides = zip(*map(region_and_side, REGIONS), strict=True)
    columns: dict[str, Any] = {name: row[name] for name in ("participant_id", "file", "name")}
    columns |= {"region": names, "side": sides, "volume_ml": volumes, "expected_ml": compared.expected}
    columns |= {"z": compared.z, "percentile": compared.percentile, "attribution": np.nan, "attribution_unit": ""}
    return pd.DataFrame(columns | {"norms": compared.sentence})[list(COLUMNS)]


def section(found: pd.DataFrame) -> dict[str, Any]:
    """What a page says of the regions of a scan.

    Args:
        found: The rows of the scan, in the order of `scans.regions.REGIONS`.
    """
    one_side = len(REGIONS) // len(SIDES)
    cells = [_cells(row) for row in found.to_dict("records")]
    pairs = zip(found["region"], cells[:one_side], cells[one_side:], strict=False)
    z = found["z"].to_numpy(float)
    left, right = z[:one_side], z[one_side : 2 * one_side]
    names = list(found["region"][:one_side])
    return {
        "norms": found["norms"].iloc[0],
        "picture": pictures.regional(names, left, right) if np.isfinite(z).any() else "",
        "rows": [{"name": name, "left": left, "right": right} for name, left, right in pairs],
        "rest": {"name": found["region"].iloc[-1], **cells[-1]},
        "unit": found["attribution_unit"].iloc[0],
    }


def _cells(row: Mapping[Any, Any]) -> dict[str, str]:
    """Numbers of a region as text; nothing where there are none."""
    known = np.isfinite(row["z"])
    return {
        "volume": f"{row['volume_ml']:.1f}",
        "expected": f"{row['expected_ml']:.1f}" if known else "",
        "z": _signed(row["z"], 1) if known else "",
        "percentile": _percentile(row["percentile"]) if known else "",
        "attribution": _signed(row["attribution"], 2) if np.isfinite(row["attribution"]) else "",
    }


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def _percentile(value: float) -> str:
    """A percentile, never 0 or 100."""
    return "below 1" if value < 1 else "above 99" if value > 99 else f"{value:.0f}"
