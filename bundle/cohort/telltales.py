"""What file names and ids say of the diagnosis: folders, words, numbers, first and last letters, lengths."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bundle.metrics.associations import Association, by_level, by_number, cramers_v, cross_validated_number, presence_p
from bundle.people import person_of

PREFIX_LENGTHS = (1, 2, 3, 4)
_WORD = re.compile(r"[^\W\d_]+|\d+")


@dataclass(frozen=True)
class Telltale:
    """A feature of names that tells the label, with the p value corrected for all features tried."""

    feature: str
    association: Association


def telltales(
    paths: Sequence[str], ids: Sequence[str], labels: Sequence[int], level: float = 0.01, most: int = 3, seed: int = 0
) -> tuple[list[Telltale], int]:
    """Find what in names tells the label.

    Features are the folders and words of the paths, the first characters and digits and the last character of the
    ids, each there or not; every folder, and the last character, as a column; the numbers in the ids, and lengths.
    Of features that part people in the same way, the first counts.

    Args:
        paths: Paths of the images, relative, with `/`; one for each person.
        ids: Ids of the people.
        labels: 0 control, 1 patient; `associations.enough` of each.
        level: Level of the p value, after Bonferroni's correction for the number of features tried.
        most: How many to return.
        seed: Seed of the folds.

    Returns:
        Those that tell most, by cross-validated ROC-AUC, and how many features were tried.
    """
    truth = np.asarray(labels)
    found = [*_present(paths, ids, truth), *_columns(paths, ids, truth), *_numeric(paths, ids, truth)]
    corrected = [(name, values, kind, p * len(found)) for name, values, kind, p in found if p * len(found) < level]
    judged = [_judged(*candidate, truth, seed) for candidate in sorted(corrected, key=lambda c: c[3])[: 10 * most]]
    return sorted(judged, key=lambda t: -t.association.auc)[:most], len(found)


Candidate = tuple[str, NDArray, str, float]  # name, value of each person, kind of value, p


def _judged(name: str, values: NDArray, kind: str, p: float, labels: NDArray, seed: int) -> Telltale:
    if kind == "number":
        auc = cross_validated_number(values, labels, seed)
        return Telltale(name, Association(auc, float("nan"), float("nan"), p, len(labels)))
    told = by_level(values.tolist(), labels, seed)
    return Telltale(name, Association(told.auc, told.balanced_accuracy, told.v, p, told.people))


def _present(paths: Sequence[str], ids: Sequence[str], labels: NDArray) -> Iterator[Candidate]:
    """Features that a person has or has not, without those that are too rare to tell anything."""
    people: defaultdict[str, list[int]] = defaultdict(list)
    for row, (path, name) in enumerate(zip(paths, ids, strict=True)):
        for feature in dict.fromkeys(_features(path, name)):
            people[feature].append(row)
    least = max(2, round(0.01 * len(labels)))
    parted: dict[bytes, tuple[str, NDArray]] = {}
    for feature, rows in people.items():
        if least <= len(rows) <= len(labels) - least:
            has = np.zeros(len(labels), dtype=bool)
            has[rows] = True
            parted.setdefault(np.packbits(has ^ has[0]).tobytes(), (feature, has))
    if not parted:
        return
    names, columns = zip(*parted.values(), strict=True)
    patients, sizes = (
        np.array([column[rows].sum() for column in columns], float) for rows in (labels == 1, slice(None))
    )
    p_values = presence_p(patients, sizes, int(labels.sum()), len(labels))
    for name, column, p in zip(names, columns, p_values, strict=True):
        yield name, column, "level", float(p)


def _features(path: str, name: str) -> Iterator[str]:
    parts = PurePosixPath(path)
    yield from (f"the folder '{folder}'" for folder in parts.parts[:-1] if folder not in ("..", "."))
    for word in _WORD.findall(path):
        yield f"'{word}' in the path"
    core = person_of(name)
    yield from (f"an id that begins with '{core[:n]}'" for n in PREFIX_LENGTHS if len(core) > n)
    number = re.search(r"\d+", core)
    yield from (f"an id whose number begins with '{number[0][:n]}'" for n in (1, 2) if number and len(number[0]) > n)
    yield f"an id that ends in '{core[-1:]}'"


def _columns(paths: Sequence[str], ids: Sequence[str], labels: NDArray) -> Iterator[Candidate]:
    """Each folder of the way to an image, and the ends of the ids, for many values that tell a little each."""
    folders = [PurePosixPath(path).parts[:-1] for path in paths]
    depths = range(max(map(len, folders), default=0))
    columns = {f"folder {d + 1} of the path": [parts[d] if d < len(parts) else "" for parts in folders] for d in depths}
    columns["the last character of the id"] = [name[-1:] for name in ids]
    for name, column in columns.items():
        if len(set(column)) > 2:
            values = np.array(column, dtype=object)
            yield name, values, "level", cramers_v(pd.factorize(values)[0], labels)[1]


def _numeric(paths: Sequence[str], ids: Sequence[str], labels: NDArray) -> Iterator[Candidate]:
    numbers = [re.findall(r"\d{1,15}", name) for name in ids]
    columns = {
        "the length of the id": [len(name) for name in ids],
        "the length of the path": [len(path) for path in paths],
        "the first number in the id": [float(n[0]) if n else -1.0 for n in numbers],
        "the last number in the id": [float(n[-1]) if n else -1.0 for n in numbers],
    }
    seen = set()
    for name, column in columns.items():
        values = np.array(column, dtype=float)
        if len(np.unique(values)) > 1 and values.tobytes() not in seen:
            seen.add(values.tobytes())
            yield name, values, "number", by_number(values, labels).p
