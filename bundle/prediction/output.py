"""What a folder of answers holds, and how new answers come into it: whole, and one writer after the other."""

from __future__ import annotations

import hashlib
import io
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from bundle.files import write_text
from bundle.locks import locked
from bundle.pages import GENERATOR
from bundle.prediction.listing import file_of
from bundle.prediction.maps import METHODS, TARGETS

EXISTING = ("refuse", "append", "overwrite")
TABLE, EMBEDDINGS, REGIONS, INDEX = "predictions.csv", "embeddings.tsv", "regions.tsv", "index.html"
SCANS, MAPS = "scans", "maps"
LOCK_SECONDS = 120.0  # until a writer gives up; merging a thousand rows takes less than one
TEXTS = (
    *("participant_id", "file", "name", "pipeline", "preparation", "predicted"),
    *("model", "model_version", "model_sha256", "adapted_to"),
)
_FLAGS = (
    "give --append to add the new answers to them, --overwrite to replace them, or another --output "
    "(with monai.bundle: --existing append, --existing overwrite, or another --output_dir)"
)
Index = Callable[[list[dict[str, Any]]], str]
logger = logging.getLogger(__name__)


def map_name(name: str, method: str, target: str) -> str:
    """File name of the map of a scan.

    Args:
        name: Name of the scan's page.
        method: One of `maps.METHODS`.
        target: One of `maps.TARGETS`.
    """
    return f"{name}_{method.replace('+', 'p')}{'' if target == 'class' else f'_{target}'}.nii.gz"


class AnswerFolder:
    """A folder of answers.

    New pages and maps are written into `stage`, and come into the folder with the table, under a lock. Files of others,
    such as scans that lie in a folder `scans`, are left alone.

    Args:
        path: Path of the folder.
        existing: What becomes of answers that lie there: `refuse` to write, `append` the new ones (a scan that is
            predicted again replaces its row), or `overwrite` all of them.
    """

    def __init__(self, path: str | Path, existing: str = "refuse") -> None:
        if existing not in EXISTING:
            raise ValueError(f"`existing` is '{existing}', but {' or '.join(EXISTING)} is expected.")
        self.path, self.existing = Path(path), existing
        self._stage: Path | None = None
        self._own = False  # answers of this run lie there already

    def held(self) -> list[str]:
        """Files of answers that lie there, as paths from the folder."""
        found = [name for name in (TABLE, EMBEDDINGS, REGIONS, INDEX) if (self.path / name).is_file()]
        found += [f"{SCANS}/{page.name}" for page in sorted((self.path / SCANS).glob("*.html")) if _is_ours(page)]
        endings = tuple(map_name("", method, target) for method in METHODS for target in TARGETS)
        return found + [
            f"{MAPS}/{p.name}" for p in sorted((self.path / MAPS).glob("*.nii.gz")) if p.name.endswith(endings)
        ]

    def describe(self) -> str:
        """What lies there, in words."""
        held = self.held()
        counts = Counter(name.split("/")[0] for name in held)
        parts = [name for name in (TABLE, EMBEDDINGS, REGIONS, INDEX) if counts[name]]
        return ", ".join([*parts, *(f"{counts[name]} files in {name}/" for name in (SCANS, MAPS) if counts[name])])

    def check(self, sha256: str, prevalence: float | None = None, adapted_to: str | None = None) -> str:
        """Whether new answers may come into the folder.

        Args:
            sha256: Sha256 of the weights of the model that gives them.
            prevalence: Prevalence that the probabilities are scaled to, one for a folder; None: not looked at.
            adapted_to: Scans that batch norm was adapted to, one set for a folder; empty: none. None: not looked at.

        Returns:
            What would become of the answers that lie there, in words.

        Raises:
            ValueError: when they may not; says what lies there and what to do.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file, but answers need a folder; give another --output.")
        if self._own or not self.held():
            return "new"
        if self.existing == "refuse":
            raise ValueError(f"{self.path} holds answers already: {self.describe()}. Nothing was written; {_FLAGS}.")
        if self.existing == "overwrite":
            return f"{self.describe()}: all are replaced, once the new answers are complete"
        self._require_same_model(sha256)
        if prevalence is not None:
            self._require_same_prevalence(prevalence)
        if adapted_to is not None:
            self._require_same_adaptation(adapted_to)
        return f"{self.describe()}: they stay, and the new answers are added"

    def _require_same_model(self, sha256: str) -> None:
        if not (self.path / TABLE).is_file():
            raise ValueError(
                f"{self.path} holds answers without {TABLE} ({self.describe()}), to which nothing can be added; give "
                "--overwrite to replace them, or another --output."
            )
        cells = _cells(self.path / TABLE)
        others = cells.loc[cells["model_sha256"] != sha256] if "model_sha256" in cells else cells
        if len(others):
            named = "model_sha256" in cells and "model" in cells
            what = (
                f"{others['model'].iloc[0]} (sha256 {others['model_sha256'].iloc[0][:12]}…)" if named else "none named"
            )
            raise ValueError(
                f"{self.path / TABLE} holds answers of another model: {what}, but the model now has sha256 "
                f"{sha256[:12]}…. Answers of two models do not go into one table; give another --output, or "
                "--overwrite to replace them."
            )

    def _require_same_prevalence(self, prevalence: float) -> None:
        cells = _cells(self.path / TABLE)
        others = sorted({text for text in cells.get("prevalence", ()) if text} - {f"{prevalence:.6g}"})
        if others:
            raise ValueError(
                f"{self.path / TABLE} holds answers at a prevalence of {', '.join(others)}, but the new ones are at "
                f"{prevalence:.6g}: their probabilities cannot be compared. Give --prevalence {others[0]}, another "
                "--output, or --overwrite to replace them."
            )

    def _require_same_adaptation(self, adapted_to: str) -> None:
        cells = _cells(self.path / TABLE)
        held = cells["adapted_to"] if "adapted_to" in cells else pd.Series("", index=cells.index)
        if others := sorted(set(held) - {adapted_to}):
            names = [f"batch norm adapted to {text}" if text else "batch norm of the training" for text in others]
            now = f"adapted to {adapted_to}" if adapted_to else "that of the training"
            raise ValueError(
                f"{self.path / TABLE} holds answers with {', '.join(names)}, but it is now {now}: they cannot be "
                "compared. Give the same --adapt_to, another --output, or --overwrite to replace them."
            )

    def named(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Records with names of files that no other scan of the folder has.

        Where answers are added, the path of a scan becomes part of its name, so that two runs at once need not know of
        each other.

        Args:
            records: Records, as `list_scans` makes them.
        """
        if self.existing != "append":
            return [dict(record) for record in records]
        named, seen = [], Counter[str]()
        for record in records:
            path = file_of(record)
            text = f"{path} {seen[path]}".encode(errors="surrogateescape")
            seen[path] += 1
            named.append({**record, "name": f"{record['name'][:60]}_{hashlib.sha256(text).hexdigest()[:12]}"})
        return named

    @property
    def stage(self) -> Path:
        """A folder beside the answers where new ones are written until all are complete."""
        if self._stage is None:
            self.path.mkdir(parents=True, exist_ok=True)
            self._stage = Path(tempfile.mkdtemp(prefix=".part-", dir=self.path))
        return self._stage

    def discard(self) -> None:
        """Remove what was staged and not published."""
        if self._stage is not None:
            shutil.rmtree(self._stage, ignore_errors=True)
            self._stage = None

    def publish(
        self,
        table: pd.DataFrame,
        embeddings: pd.DataFrame,
        index: Index | None,
        wanted: Collection[str] = (),
        regions: pd.DataFrame | None = None,
    ) -> None:
        """Bring the new answers, and all that is staged, into the folder: everything or nothing.

        Args:
            table: A row per scan, with `file`, `name` and `model_sha256`.
            embeddings: A row per scan that was not refused, with `file`.
            index: Makes the index of the rows of all scans, each with `page`: the path of its page, or nothing.
            wanted: `embeddings.tsv`, `index.html`: written where wanted, and where they lie already.
            regions: Rows of the regions of every scan that was not refused, with `file`; None: not written.

        Raises:
            ValueError: when the folder may not take them.
            OSError: when another process does not stop writing.
        """
        try:
            with locked(self.path, LOCK_SECONDS):
                scaled = table.get("prevalence", pd.Series(dtype=float)).dropna()
                prevalence = None if scaled.empty else float(scaled.iloc[0])
                adapted_to = str(table["adapted_to"].iloc[0]) if "adapted_to" in table else ""
                self.check(str(table["model_sha256"].iloc[0]), prevalence, adapted_to)
                held = self.held()
                gone = set(held) if self._replaces_all else self._outdated(held, table)
                stay = [name for name in held if name not in gone]
                self._refuse_clash(gone)
                rows = self._merged(TABLE, table, stay)
                write_text(self.stage / TABLE, rows.to_csv(index=False))
                by_scan = {EMBEDDINGS: embeddings if EMBEDDINGS in {*wanted, *stay} else None, REGIONS: regions}
                for name, new in by_scan.items():
                    if new is not None:
                        found = self._merged(name, new, stay, set(_cells_of(table)["file"]))
                        write_text(self.stage / name, found.to_csv(index=False, sep="\t"))
                if index and INDEX in {*wanted, *stay}:
                    write_text(self.stage / INDEX, index(_with_pages(rows, table, {*stay, *self._staged()})))
                self._exchange(gone)
                self._own = True
        finally:
            self.discard()

    @property
    def _replaces_all(self) -> bool:
        return self.existing == "overwrite" and not self._own

    def _outdated(self, held: Sequence[str], table: pd.DataFrame) -> set[str]:
        """Pages and maps of scans that were predicted again."""
        if TABLE not in held:
            return set()
        old = _cells(self.path / TABLE)
        _require_columns(old, table, self.path / TABLE)
        names = old.loc[old["file"].isin(set(table["file"])), "name"]
        maps = {f"{MAPS}/{map_name(n, method, target)}" for n in names for method in METHODS for target in TARGETS}
        return {*(f"{SCANS}/{name}.html" for name in names), *maps} & set(held)

    def _refuse_clash(self, gone: Collection[str]) -> None:
        """A page of another scan is never replaced, nor is a file of somebody else."""
        there = {f"{part}/{path.name}" for part in (SCANS, MAPS) for path in (self.path / part).glob("*")} - set(gone)
        lower = {name.casefold() for name in there}
        if clash := [name for name in self._staged() if name.casefold() in lower]:
            raise ValueError(f"{self.path / clash[0]} is of another scan, or of somebody else; give another --output.")

    def _merged(
        self, name: str, new: pd.DataFrame, stay: Collection[str], again: Collection[str] | None = None
    ) -> pd.DataFrame:
        """Cells of a table: those of earlier scans as they were written, then the new ones."""
        cells = _cells_of(new)
        if name not in stay:
            return cells
        old = _cells(self.path / name)
        _require_columns(old, new, self.path / name)
        return pd.concat([old[~old["file"].isin(set(cells["file"] if again is None else again))], cells])

    def _staged(self) -> list[str]:
        """Files that wait, as paths from the folder."""
        return sorted(p.relative_to(self.stage).as_posix() for p in self.stage.rglob("*") if p.is_file())

    def _exchange(self, gone: Collection[str]) -> None:
        """Move what is outdated away and what is staged in; where that fails, everything back."""
        new, before = self._staged(), self.stage / ".before"
        away = sorted({*gone, *(name for name in new if (self.path / name).is_file())})
        done: list[tuple[Path, Path]] = []
        try:
            for name, source, goal in [
                *((n, self.path, before) for n in away),
                *((n, self.stage, self.path) for n in new),
            ]:
                (goal / name).parent.mkdir(parents=True, exist_ok=True)
                (source / name).replace(goal / name)
                done.append((source / name, goal / name))
        except BaseException:
            for source, goal in reversed(done):
                goal.replace(source)
            raise


def _is_ours(page: Path) -> bool:
    """Whether we wrote a page: what it says of itself stands at its beginning."""
    with page.open("rb") as stream:
        return GENERATOR.encode() in stream.read(2000)


def _cells(path: Path) -> pd.DataFrame:
    """A table as text, so that what is written again has the same digits."""
    try:
        return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as a table ({error}); give --overwrite to replace it, or another --output."
        ) from error


def _cells_of(table: pd.DataFrame) -> pd.DataFrame:
    """The same text of a table that is not written yet."""
    text = table.to_csv(index=False, float_format="%.6g")
    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)


def _require_columns(old: pd.DataFrame, new: pd.DataFrame, path: Path) -> None:
    if list(old) != list(new):
        lacking, more = (
            ", ".join(map(str, names))
            for names in (new.columns.difference(old.columns), old.columns.difference(new.columns))
        )
        found = "; ".join(filter(None, [lacking and f"it lacks {lacking}", more and f"it also has {more}"]))
        raise ValueError(
            f"{path} has other columns than the new answers ({found or 'in another order'}): another version wrote it. "
            "Give --overwrite to replace it, or another --output."
        )


def _with_pages(cells: pd.DataFrame, new: pd.DataFrame, files: Collection[str]) -> list[dict[str, Any]]:
    """Rows with texts where the new answers have texts, and the page of each scan that has one."""
    written = [str(name) for name in new if any(isinstance(value, str) for value in new[name])]
    texts = dict.fromkeys([*TEXTS, *written], str)
    text = io.StringIO(cells.to_csv(index=False))
    table = pd.read_csv(text, dtype=texts, keep_default_na=False, na_values=[""])
    for name in table:
        if not is_numeric_dtype(table[name]) and not is_bool_dtype(table[name]):
            table[name] = table[name].astype(object).where(table[name].notna(), "")
    pages = [f"{SCANS}/{name}.html" for name in table["name"]]
    table["page"] = [page if page in files else "" for page in pages]
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
