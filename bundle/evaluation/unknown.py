"""What is unknown of age, sex and TIV, or cannot be read: what is refused for it, and how tables say it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bundle.cohort.folds import Trial
from bundle.cohort.quantities import require_plausible
from bundle.evaluation.features import COVARIATES, SEXES, covariates
from bundle.evaluation.plan import KNOWN

Array = NDArray[np.float64]


def require_readable(records: Sequence[Mapping], where: str) -> None:
    """Refuse ages and head sizes that nobody has, and sexes that would be taken as unknown.

    Args:
        records: Records with `age` (years), `sex` and `tiv` (mL).
        where: Words that say where they stand, for the message.

    Raises:
        ValueError: says how many there are, and the first.
    """
    require_plausible(records, where[:1].upper() + where[1:])
    if odd := [str(record["sex"]) for record in records if record["sex"] not in ("", *SEXES)]:
        raise ValueError(
            f"{where[:1].upper() + where[1:]}: {len(odd)} of {len(records)} scans have a sex other than F, M or null, "
            f"such as '{odd[0]}', which would be taken as unknown. Write F or M, or make the datalist with "
            "`python -m bundle cohort`, which reads words."
        )


def columns_of(names: Sequence[str], records: Sequence[Mapping]) -> Array:
    """Some of `COVARIATES` of each record; unknown = NaN.

    Shape:
        output (records, names).

    Raises:
        ValueError: for another name.
    """
    if other := [name for name in names if name not in COVARIATES]:
        raise ValueError(f"`adjust` takes {', '.join(COVARIATES)}, but '{other[0]}' was given.")
    return covariates(records)[:, [COVARIATES.index(name) for name in names]] if names else np.empty((len(records), 0))


def require_known(option: str, names: Sequence[str], known: Array, trials: Iterable[Trial], task: str) -> None:
    """Refuse what is known of nobody who trains: nothing of it could be estimated, and nothing would be done.

    Args:
        option: Option that asks for it, for the message.
        names: Names of the columns.
        known: The columns of all records, NaN = unknown.
        trials: Who trains and who is tested.
        task: Name of the task, for the message.

    Shape:
        known (records, names).

    Raises:
        ValueError: names the column, the task and the trial.
    """
    for trial in trials:
        for name, values in zip(names, known[trial.train].T, strict=True):
            if np.isnan(values).all():
                raise ValueError(
                    f"`{option}` names {name}, but in {task}, N = {trial.n}, draw {trial.draw} it is known of none of "
                    f"the {len(values)} scans that train, so that its effect cannot be told. Fill it in, or leave "
                    f"{name} out of `{option}`."
                )


def filled_in(names: Sequence[str], known: Array) -> str:
    """What is unknown, and what it is taken as, for tables; empty where everything is known.

    Shape:
        known (records, names), NaN = unknown.
    """
    counts = np.isnan(known).sum(0)
    parts = [f"{name} of {count} of {len(known)} scans" for name, count in zip(names, counts, strict=True) if count]
    return f"Unknown, and taken as the mean of those who train: {', '.join(parts)}." if parts else ""


def known_line(records: Sequence[Mapping], training: Sequence[int] | NDArray | None = None) -> tuple[str, Array] | None:
    """Name and columns of the line of reference that reads age, sex and TIV, of those that are known.

    Args:
        records: Records of the subjects.
        training: Rows of those who train, of whom somebody has to know it; where they know nothing, and for None, it
            is anybody.

    Returns:
        Name, and columns of all records, (records, known ones); None where nothing is known of anybody.
    """
    known = covariates(records)
    for rows in (slice(None) if training is None else training, slice(None)):
        there = np.flatnonzero(~np.isnan(known[rows]).all(0))
        if len(there):
            return _worded([COVARIATES[place] for place in there]), known[:, there]
    return None


def not_read(tasks: Mapping[str, Sequence[Mapping]]) -> str:
    """What the line of reference does not read, for tables; empty where everything is known of somebody.

    Args:
        tasks: Name of a task → records of those who train.
    """
    parts = []
    for task, records in tasks.items():
        unknown = [
            name for name, column in zip(COVARIATES, covariates(records).T, strict=True) if np.isnan(column).all()
        ]
        if unknown:
            none = ", where there is no such line" if len(unknown) == len(COVARIATES) else ""
            parts.append(f"{_worded(unknown)} ({task}{none})")
    return f"Known of nobody who trains, and not in the line '{KNOWN}': {'; '.join(parts)}." if parts else ""


def _worded(names: Sequence[str]) -> str:
    return ", ".join(names).replace("tiv", "TIV")
