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
from bundle.scans.modality import GREY_MATTER, Modality
from bundle.scans.regions import REGIONS, SIDES, region_and_side

ANOTHER_KIND = ("demonstration", "phantom")  # reasons for which training people are no norm for a scan
NO_NORM = "One of the scan and the model's training people is a phantom and the other is not, so there are no norms."
VALUES = {True: ("volume_ml", "expected_ml"), False: ("mean", "expected_mean")}  # of amounts of tissue, and of others


def columns_of(modality: Modality) -> tuple[str, ...]:
    """Columns of the table of regions: a region of an amount has a volume, of anything else a mean.

    Args:
        modality: Modality of the scans.
    """
    return (
        *("participant_id", "file", "name", "region", "side", *VALUES[modality.is_amount], "z", "percentile"),
        *("attribution", "attribution_unit", "norms"),
    )


def regions_table(
    records: Sequence[Mapping[str, Any]],
    table: pd.DataFrame,
    volumes: NDArray[np.float64],
    record: TrainingRecord,
    modality: Modality = GREY_MATTER,
) -> pd.DataFrame:
    """The regions of all scans that were not refused, a row each; `attribution` is empty until it is computed.

    Args:
        records: Records, as `list_scans` makes them.
        table: Table of the predictions, a row for each record.
        volumes: mL, or means, of each region.
        record: Training record of the model.
        modality: Modality of the scans.

    Shape:
        volumes (N, 35).
    """
    parts = []
    for person, row, own in zip(records, table.to_dict("records"), volumes, strict=True):
        if row["verdict"] != REFUSE:
            compared = _compared(person, str(row["reasons"]), own, record)
            parts.append(_rows(row, own, compared, modality))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(columns_of(modality)))


def _compared(
    person: Mapping[str, Any], reasons: str, volumes: NDArray[np.float64], record: TrainingRecord
) -> Compared:
    if any(REASONS[name] in reasons for name in ANOTHER_KIND):
        return Compared.with_nobody(NO_NORM)
    return Compared.with_nobody(ABSENT) if record.volumes is None else record.volumes.compare(volumes, person)


def _rows(row: Mapping[Any, Any], volumes: NDArray[np.float64], compared: Compared, modality: Modality) -> pd.DataFrame:
    names, sides = zip(*(region_and_side(name, modality.rest) for name in REGIONS), strict=True)
    value, expected = VALUES[modality.is_amount]
    columns: dict[str, Any] = {name: row[name] for name in ("participant_id", "file", "name")}
    columns |= {"region": names, "side": sides, value: volumes, expected: compared.expected}
    columns |= {"z": compared.z, "percentile": compared.percentile, "attribution": np.nan, "attribution_unit": ""}
    return pd.DataFrame(columns | {"norms": compared.sentence})[list(columns_of(modality))]


def section(found: pd.DataFrame, modality: Modality = GREY_MATTER) -> dict[str, Any]:
    """What a page says of the regions of a scan.

    Args:
        found: The rows of the scan, in the order of `scans.regions.REGIONS`.
        modality: Modality of the scan.
    """
    one_side = len(REGIONS) // len(SIDES)
    cells = [_cells(row, modality) for row in found.to_dict("records")]
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
        "of": modality,
    }


def _cells(row: Mapping[Any, Any], modality: Modality) -> dict[str, str]:
    """Numbers of a region as text; nothing where there are none."""
    known = np.isfinite(row["z"])
    value, expected = VALUES[modality.is_amount]
    digits = ".1f" if modality.is_amount else ".3g"
    return {
        "volume": f"{row[value]:{digits}}",
        "expected": f"{row[expected]:{digits}}" if known else "",
        "z": _signed(row["z"], 1) if known else "",
        "percentile": _percentile(row["percentile"]) if known else "",
        "attribution": _signed(row["attribution"], 2) if np.isfinite(row["attribution"]) else "",
    }


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def _percentile(value: float) -> str:
    """A percentile, never 0 or 100."""
    return "below 1" if value < 1 else "above 99" if value > 99 else f"{value:.0f}"
