"""Probes of embeddings that somebody has in hand, with the numbers of the command `probe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bundle.cohort.datalist import RECORD_KEYS, collatable
from bundle.cohort.folds import Trial, fold_trials, site_trials
from bundle.cohort.quantities import require_plausible
from bundle.cohort.splits import assert_disjoint
from bundle.evaluation import knowledge, probing
from bundle.evaluation.features import IDS
from bundle.evaluation.harmonizing import NONE, Harmonizing
from bundle.evaluation.knowledge import Aged
from bundle.evaluation.outcome import AgeResult, ProbeResult
from bundle.evaluation.pipeline import Probe
from bundle.evaluation.plan import SITE
from bundle.evaluation.subjects import PROTOCOLS, Pool, draw_pool
from bundle.evaluation.unknown import known_line
from bundle.hints import nearest, quoted
from bundle.people import person_codes, person_of

NOT_FEATURES = {*IDS, *RECORD_KEYS, "task", "diagnosis"}  # columns of a table of embeddings
Records = list[dict[str, Any]]


def probe(
    embeddings: ArrayLike | pd.DataFrame,
    table: pd.DataFrame,
    *,
    protocol: str | None = None,
    sizes: Sequence[int] | None = None,
    draws: int = 5,
    n_folds: int = 5,
    adjust: Sequence[str] = (),
    harmonize: str = "none",
    harmonize_keep: Sequence[str] = (),
    penalties: Sequence[float] = Probe.penalties,
    method: str = "embedding",
    task: str = "diagnosis",
    seed: int = 0,
) -> ProbeResult:
    """How well a linear model reads a diagnosis from embeddings, beside what it reads from age, sex, TIV and site.

    The numbers are those of `python -m bundle probe` for the same subjects, draws and folds. Nobody is divided: all
    scans of a participant train, or all of them are tested. A row of the result that is named `age, sex, TIV` uses
    these columns of the table alone, one named `site` the site alone; what embeddings are worth is seen against them.

    Args:
        embeddings: A row per scan. A table may have `participant_id`, which is compared with that of `table`.
        table: Table of the same scans in the same order: `participant_id`, `label` (0 control, 1 patient), and, where
            they are known, `session_id`, `age` (years), `sex` (F, M), `tiv` (mL), `site`, and `section`.
        protocol: `draws` (subjects of the section `training`, tested on `test`), `folds` (repeated k-fold
            cross-validation over everybody) or `sites` (each site left out). None: draws where there is a `section`,
            else folds.
        sizes: Numbers of training subjects N of `draws`; None: all of them, once.
        draws: Training sets of each N, or repeats of `folds`.
        n_folds: Folds of `folds`.
        adjust: Names of age, sex and tiv, whose effect is removed from the embeddings first.
        harmonize: How effects of the `site` are taken out before that, as training subjects of each draw or fold show
            them: `none`, `centre`, `combat` or `project`; or `coral`, by unlabelled test subjects. See
            `harmonizing.Harmonizing`.
        harmonize_keep: What ComBat preserves, of age and sex; never the diagnosis.
        penalties: Candidates for C, chosen by inner cross-validation.
        method: Name of the embeddings in tables and figures.
        task: Name of the diagnosis there.
        seed: Seed of draws, folds and intervals.

    Shape:
        embeddings (scans, p), table `scans` rows.

    Raises:
        ValueError: when rows do not belong together, values are missing, a participant is in both sections, or there
            are too few of a class.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> people = pd.DataFrame({"participant_id": range(40), "label": np.arange(40) % 2})
        >>> found = probe(rng.normal(size=(40, 3)) + people[["label"]].to_numpy(), people, draws=1)
        >>> found.table()[["method", "n"]].to_dict("records")
        [{'method': 'embedding', 'n': 32}]
    """
    features, records = together(embeddings, table)
    rows, pool = _pool(records, protocol, sizes, draws, n_folds, seed, task)
    model = Probe(penalties, adjust=adjust, harmonize=harmonize, harmonize_keep=harmonize_keep)
    parts = [model.scores(method, features[rows], pool)]
    known = references(pool.records, with_site=_protocol(records, protocol) != "sites")
    for name, values in known.items():
        found = probing.probe_diagnosis(name, values, pool.records, pool.trials, penalties, "each")
        parts.append(pd.concat(found).assign(task=task))
    scores = pd.concat(parts, ignore_index=True)
    reference = next(iter(known), method)
    summary = probing.summarize(scores, reference, seed)
    if reference == method:
        summary = summary.drop(columns=["gain", "gain_low", "gain_high"])
    people = pd.DataFrame(pool.records)
    said = model.harmonizing.sentence([(pool.records, pool.trials)]), model.adjusted([pool])
    note = " ".join(filter(None, said))
    return ProbeResult(scores, summary, features[rows], people, method, reference if known else "", note)


def probe_age(
    embeddings: ArrayLike | pd.DataFrame,
    table: pd.DataFrame,
    *,
    n_folds: int = 5,
    harmonize: str = "none",
    harmonize_keep: Sequence[str] = (),
    method: str = "embedding",
    seed: int = 0,
) -> AgeResult:
    """How well a ridge regression reads age from embeddings, beside the mean age of those who were fitted.

    With a column `section`, `training` is fitted and `validation` tested (`test` where nobody validates): the number
    is that of `python -m bundle probe`. Without one, everybody is tested once by cross-validation over participants.
    Scans of unknown age are left out.

    Args:
        embeddings: Embeddings; see `probe`.
        table: Table; see `probe`; `label` is not needed, `age` (years) is.
        n_folds: Folds, where there is no section.
        harmonize: How site effects are taken out first; see `probe`.
        harmonize_keep: What ComBat preserves: sex, and not age, which is read here.
        method: Name of the embeddings in tables and figures.
        seed: Seed of the folds.

    Shape:
        embeddings (scans, p), table `scans` rows.

    Raises:
        ValueError: when rows do not belong together, a participant is in both sections, too few ages are known, or
            age is to be preserved.
    """
    how = Harmonizing(harmonize, harmonize_keep)
    if "age" in harmonize_keep:
        raise ValueError("`harmonize_keep` names age, which `probe_age` reads: test subjects would tell theirs.")
    features, records = together(embeddings, table.drop(columns="label", errors="ignore"))
    aged = np.array([np.isfinite(record["age"]) for record in records])
    features, records = features[aged], [record for record, there in zip(records, aged, strict=True) if there]
    trials, tested = _age_trials(records, n_folds, seed)
    asked = [Trial(len(train), draw, train, test) for draw, (train, test) in enumerate(trials)]
    how.check([{**record, "label": None} for record in records], asked, "the age probe")
    of_methods = {method: features, "mean age": np.zeros((len(records), 1))}
    predicted = {name: np.full(len(records), np.nan) for name in of_methods}
    for train, test in trials:
        for name, values in of_methods.items():
            known, new = (Aged.of(values[rows], [records[row] for row in rows]) for rows in (train, test))
            predicted[name][test] = knowledge.predicted_ages(known, new, how if name == method else NONE)
    people = pd.DataFrame([records[row] for row in tested])
    ages, codes = people["age"].to_numpy(float), person_codes(people["participant_id"].tolist())
    rows = [knowledge.age_errors_of(name, values[tested], ages, codes) for name, values in predicted.items()]
    told = people[["participant_id", "session_id", "age"]]
    tables = [told.assign(method=name, predicted=values[tested]) for name, values in predicted.items()]
    return AgeResult(pd.concat(tables, ignore_index=True), pd.DataFrame(rows), method, how.sentence([(records, asked)]))


def together(embeddings: ArrayLike | pd.DataFrame, table: pd.DataFrame) -> tuple[NDArray, Records]:
    """Features and records of the same scans, or a refusal.

    Args:
        embeddings: Embeddings; see `probe`.
        table: Table; see `probe`.

    Raises:
        ValueError: says which rows do not belong together, or where a value is missing.
    """
    if "participant_id" not in table:
        raise ValueError(f"The table has no column 'participant_id'; it has {quoted(map(str, table.columns))}.")
    features = _features(embeddings, table)
    if features.ndim != 2 or len(features) != len(table) or not len(table):
        raise ValueError(
            f"Embeddings have the shape {features.shape}, but the table has {len(table)} rows; expected a row of "
            "features for each row of the table, in the same order."
        )
    ids = [str(name) for name in table["participant_id"]]
    if missing := [ids[row] for row in np.flatnonzero(~np.isfinite(features).all(axis=1))]:
        raise ValueError(f"The embeddings of {quoted(missing)} are not finite; embed these scans again.")
    records = [_record(row) for row in table.to_dict("records")]
    require_plausible(records, "The table")
    if nameless := [row for row, record in enumerate(records) if not record["participant_id"]]:
        raise ValueError(f"Rows {nameless[:5]} of the table have no participant_id; fill it in.")
    if "session_id" in table and (twice := _twice(records)):
        raise ValueError(f"{quoted(twice)} stand twice in the table, with the same session; leave one row of each.")
    return features, records


def _features(embeddings: ArrayLike | pd.DataFrame, table: pd.DataFrame) -> NDArray:
    """The numbers of embeddings; those of a table are compared with the other table first."""
    if not isinstance(embeddings, pd.DataFrame):
        return np.asarray(embeddings, dtype=None if hasattr(embeddings, "dtype") else np.float64)
    if len(embeddings) == len(table):
        named = "participant_id" in embeddings
        own, other = (
            ([person_of(name) for name in part["participant_id"]] if named else part.index.tolist())
            for part in (embeddings, table)
        )
        if wrong := [row for row, (a, b) in enumerate(zip(own, other, strict=True)) if a != b]:
            raise ValueError(
                f"Embeddings and table are not of the same scans in the same order: row {wrong[0]} is "
                f"'{own[wrong[0]]}' here and '{other[wrong[0]]}' there ({len(wrong)} of {len(own)} rows differ). "
                "Bring both into one order."
            )
    features = embeddings[[name for name in embeddings if name not in NOT_FEATURES]]
    if text := [str(name) for name in features if features[name].dtype.kind not in "fiub"]:
        raise ValueError(f"The columns {quoted(text)} of the embeddings are no numbers; leave them out.")
    return features.to_numpy()


def _record(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of a table as a record of a datalist."""
    known = {str(name): None if pd.isna(value) else value for name, value in row.items() if name in NOT_FEATURES}
    texts = ("participant_id", "session_id", "site", "sex", "section")
    known |= {name: str(known[name]) for name in texts if known.get(name) is not None}
    if known.get("sex") not in (None, "", "F", "M"):
        raise ValueError(f"{known['participant_id']} has the sex '{known['sex']}', expected F, M, or nothing.")
    label = known.get("label")
    if label is not None and (isinstance(label, str) or label not in (0, 1)):
        raise ValueError(f"{known['participant_id']} has the label {label!r}, expected 0 (control) or 1 (patient).")
    named = {"image": f"The scan of {known['participant_id']}", **known}  # for messages
    return {"section": "", **collatable(named), "image": ""}


def _twice(records: Records) -> list[str]:
    seen = pd.Series([f"{person_of(r['participant_id'])} {r['session_id']}".strip() for r in records])
    return sorted(set(seen[seen.duplicated()]))


def _protocol(records: Records, protocol: str | None) -> str:
    if protocol is not None and protocol not in PROTOCOLS:
        raise ValueError(f"No protocol is named '{protocol}'{nearest(protocol, PROTOCOLS)}")
    return protocol or ("draws" if any(record["section"] for record in records) else "folds")


def _pool(
    records: Records, protocol: str | None, sizes: Sequence[int] | None, draws: int, n_folds: int, seed: int, task: str
) -> tuple[NDArray[np.intp], Pool]:
    """Which rows take part, and who of them trains and who is tested."""
    if draws < 1:
        raise ValueError(f"`draws` is {draws}, expected a whole number of at least 1.")
    asked, everybody = _protocol(records, protocol), np.arange(len(records))
    if asked == "folds":
        return everybody, Pool(task, records, fold_trials(records, n_folds, draws, seed, task))
    if asked == "sites":
        return everybody, Pool(task, records, site_trials(records, task))
    rows = _sections(records, ("training", "test"))
    sections = {name: [records[row] for row in part] for name, part in rows.items()}
    people = len({person_of(record["participant_id"]) for record in sections["training"]})
    wanted, times = ([people], 1) if sizes is None else (list(np.atleast_1d(sizes)), draws)
    return np.concatenate(list(rows.values())), draw_pool(task, sections, wanted, times, seed)


def _sections(records: Records, names: Sequence[str]) -> dict[str, NDArray[np.intp]]:
    """The rows of each section."""
    said = np.array([record["section"] for record in records])
    rows = {name: np.flatnonzero(said == name) for name in names}
    if empty := [name for name, part in rows.items() if not len(part)]:
        raise ValueError(
            f"Nobody is in the section {quoted(empty)}; the column 'section' has {quoted(sorted(set(said)))}. Write "
            f"{quoted(names)} there, or choose another protocol."
        )
    return rows


def references(records: Records, with_site: bool = True) -> dict[str, NDArray[np.float64]]:
    """What is known beside the image, by the name of the row that it gives: age, sex and TIV together, and the site.

    Args:
        records: Records of the subjects.
        with_site: Whether the site is asked, too.

    Shape:
        each (subjects, columns).
    """
    line = known_line(records)
    found = {} if line is None else dict([line])
    sites = pd.Series([str(record["site"]) for record in records])
    if with_site and sites.nunique() > 1:
        found[SITE] = pd.get_dummies(sites).to_numpy(np.float64)
    return found


def _age_trials(
    records: Records, n_folds: int, seed: int
) -> tuple[list[tuple[NDArray[np.intp], NDArray[np.intp]]], NDArray[np.intp]]:
    """Who is fitted and who is tested, and all who are tested, in the order of the table."""
    if any(record["section"] for record in records):
        tester = "validation" if any(record["section"] == "validation" for record in records) else "test"
        rows = _sections(records, ("training", tester))
        assert_disjoint({name: [records[row] for row in part] for name, part in rows.items()})
        return [(rows["training"], rows[tester])], rows[tester]
    people = person_codes([record["participant_id"] for record in records])
    count = int(people.max(initial=-1)) + 1
    if not 2 <= n_folds <= count:
        raise ValueError(f"{n_folds} folds cannot be made of {count} participants of known age; choose other folds.")
    fold = np.random.default_rng(seed).permutation(count)[people] % n_folds
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(n_folds)], np.arange(len(records))
