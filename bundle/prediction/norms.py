"""How large regions are in healthy people of an age, a sex and a head size, and how far one person is from that."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from bundle.people import person_codes
from bundle.scans.grid import Grid, to_grid
from bundle.scans.modality import GREY_MATTER, Modality
from bundle.scans.regions import REGIONS, regional_values
from bundle.scans.scan import ScanError, read_scan

Array = NDArray[np.float64]
LEAST = 20  # healthy training people below whom there are no norms
MALE = {"F": 0.0, "M": 1.0}
COVARIATES = {"age": "age", "sex": "sex", "tiv": "head size"}  # and how a sentence names them
ABSENT = "The model's record holds no regions of its training people, so there are no norms; train it again."
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compared:
    """A person's regions beside what is expected; all NaN where there are no norms.

    Attributes:
        expected: mL, or the mean of a map that is no amount of tissue.
        z: Distance from it in standard deviations of one more healthy person.
        percentile: Share of healthy people with less, percent.
        sentence: Sentence with whom the person was compared, or why with nobody.
        is_known: Whether there are norms.

    Shape:
        expected, z and percentile (35,).
    """

    expected: Array
    z: Array
    percentile: Array
    sentence: str
    is_known: bool = True

    @classmethod
    def with_nobody(cls, sentence: str) -> Compared:
        """What is said where there are no norms."""
        nothing = np.full(len(REGIONS), np.nan)
        return cls(nothing, nothing, nothing, sentence, False)


@dataclass(frozen=True)
class HealthyVolumes:
    """Regional volumes of healthy training people, one scan of each.

    Attributes:
        volumes: mL, or means, of each of `scans.regions.REGIONS`.
        known: `age` (years), `sex` (0 female, 1 male) and `tiv` (mL) of each, NaN = unknown.

    Shape:
        volumes (N, 35), each of known (N,).
    """

    volumes: Array
    known: Mapping[str, Array]

    def compare(self, volumes: Array, person: Mapping[str, Any]) -> Compared:
        """Compare a person with healthy people of that age, sex and head size.

        A linear model for each region: age, its square, sex and head size, as far as they are known of the person and
        of enough training people. The deviation of one more healthy person counts the model's own uncertainty.

        Args:
            volumes: mL, or means, of each region.
            person: `age` (years, NaN = unknown), `sex` (F, M, or nothing) and `tiv` (mL, NaN = unknown).

        Shape:
            volumes (35,).

        Source:
            Crawford & Howell, 1998; Crawford & Garthwaite, 2006 (a person's deviation from a regression of controls).
        """
        own = _of_person(person)
        rows, used, remarks = self._suitable(own)
        if (count := int(rows.sum())) < LEAST:
            return Compared.with_nobody(
                f"The model's record holds the regions of {count} healthy people, and norms need at least {LEAST}."
            )
        known = {name: self.known[name][rows] for name in used}
        if beyond := [_beyond(name, own[name], known[name]) for name in used if _is_beyond(own[name], known[name])]:
            return Compared.with_nobody(f"{' '.join(beyond)} Beyond them there are no norms.")
        design, new = _design(count, known, own)
        expected, deviation, freedom = _predicted(design, new, self.volumes[rows])
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(deviation > 0, (volumes - expected) / deviation, np.nan)
        return Compared(expected, z, 100 * student.cdf(z, freedom), " ".join([_with_whom(count, used), *remarks]))

    def _suitable(self, own: Mapping[str, float]) -> tuple[NDArray[np.bool_], list[str], list[str]]:
        """Which people to compare with, by what, and what is to be said of covariates that are left out."""
        rows = np.asarray(np.isfinite(self.volumes).all(1))
        used, remarks = [], []
        for name, words in COVARIATES.items():
            there = rows & np.isfinite(self.known[name])
            if math.isnan(own[name]):
                remarks.append(f"The person's {words} is not known and was left out.")
            elif there.sum() < min(LEAST, rows.sum()):
                remarks.append(f"The {words} of too few training people is known, so it was left out.")
            else:
                rows = there
                used.append(name)
        return rows, used, remarks


def _of_person(person: Mapping[str, Any]) -> dict[str, float]:
    """The covariates of a person as numbers, NaN = unknown."""
    age, tiv = (float(person.get(name, math.nan)) for name in ("age", "tiv"))
    return {"age": age, "sex": MALE.get(str(person.get("sex", "")), math.nan), "tiv": tiv}


def _is_beyond(value: float, known: Array) -> bool:
    return bool(value < known.min() or value > known.max())


def _beyond(name: str, value: float, known: Array) -> str:
    """A sentence on a person whom the norms do not cover."""
    if name == "sex":
        return "All healthy training people are of the other sex."
    unit = {"age": "years", "tiv": "mL"}[name]
    return (
        f"The person's {COVARIATES[name]} is {value:.0f} {unit}; that of the healthy training people is "
        f"{known.min():.0f} to {known.max():.0f}."
    )


def _with_whom(count: int, used: Sequence[str]) -> str:
    words = [COVARIATES[name] for name in used]
    listed = " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    return (
        f"Compared with {count} healthy training people{f' of the same {listed}, by a linear model' if words else ''}."
    )


def _design(count: int, known: Mapping[str, Array], own: Mapping[str, float]) -> tuple[Array, Array]:
    """Columns of the linear model: what is the same in everybody is left out, and so is a square of two ages.

    Shape:
        output (count, columns), and (columns,) of the person.
    """
    columns, new = [np.ones(count)], [1.0]
    for name, values in known.items():
        if np.ptp(values) == 0:
            continue
        centre, scale = values.mean(), values.std()
        powers = (1, 2) if name == "age" and len(np.unique(values)) > 2 else (1,)
        columns += [((values - centre) / scale) ** power for power in powers]
        new += [((own[name] - centre) / scale) ** power for power in powers]
    return np.stack(columns, axis=1), np.array(new)


def _predicted(design: Array, new: Array, volumes: Array) -> tuple[Array, Array, int]:
    """Least squares: what is expected of one more person, its standard deviation, and the degrees of freedom.

    Shape:
        design (N, columns), new (columns,), volumes (N, 35); output (35,), (35,).
    """
    inverse = np.linalg.pinv(design)
    freedom = len(design) - int(np.linalg.matrix_rank(design))
    coefficients = inverse @ volumes
    scatter = np.sqrt(((volumes - design @ coefficients) ** 2).sum(0) / freedom)
    leverage = float(np.square(new @ inverse).sum())
    return new @ coefficients, scatter * math.sqrt(1 + leverage), freedom


def measured(records: Sequence[Mapping[str, Any]], grid: Grid, modality: Modality = GREY_MATTER) -> dict[str, NDArray]:
    """Regional volumes, sex and head size of training scans, as a record keeps them.

    Of a modality that is no amount of tissue, means take the place of volumes; see `scans.regions.regional_values`.

    The first scan of each healthy person is read from its file once more, since a network sees normalised volumes.

    Args:
        records: Records of a datalist.
        grid: Grid on which volumes are measured.
        modality: Modality of the scans.

    Returns:
        `regional_volumes` (N, 35), NaN for other scans; `sexes` (N,), 0 female, 1 male, NaN = unknown; `tivs` (N,).
    """
    people = person_codes([record.get("participant_id") for record in records])
    first = np.zeros(len(records), dtype=bool)
    first[np.unique(people, return_index=True)[1]] = True
    volumes = np.full((len(records), len(REGIONS)), np.nan)
    for row, record in enumerate(records):
        if first[row] and record.get("label") == 0:
            volumes[row] = _values_of(Path(record["image"]), grid, modality)
    known = [_of_person(record) for record in records]
    return {
        "regional_volumes": volumes.astype(np.float32),
        "sexes": np.array([person["sex"] for person in known]),
        "tivs": np.array([person["tiv"] for person in known]),
    }


def _values_of(path: Path, grid: Grid, modality: Modality) -> Array:
    try:
        scan = read_scan(path, grid)
    except ScanError as error:
        logger.warning(f"{path} has no place in the norms of regional volumes: {error}")
        return np.full(len(REGIONS), np.nan)
    return regional_values(to_grid(scan.volume, scan.affine, grid), grid, modality)
