"""A table as it lies on disk, read as text: its encoding, separator and quotation marks, or an Excel file."""

from __future__ import annotations

import codecs
import csv
import io
import logging
import re
from collections import Counter
from pathlib import Path

import pandas as pd

from bundle.cohort.participants import CohortError
from bundle.hints import quoted

logger = logging.getLogger(__name__)

ENDINGS = (".tsv", ".csv", ".txt", ".xlsx", ".xlsm", ".xls", ".xlsb", ".ods")
LARGEST = 256 * 2**20  # bytes
_EMPTY = ("", "n/a", "na", "nan", "<na>", "null", "#n/a", "#nv", "#null!")
_MARKS = {  # of an encoding; UTF-32 begins like UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_REFUSED = {  # how a file begins that is no text
    b"\xd0\xcf\x11\xe0": "is an old Excel file (.xls), or one with a password",
    b"\x1f\x8b": "is compressed",
    b"%PDF": "is a PDF",
}
_AGAIN = "save it as .xlsx, or as .csv or .tsv in UTF-8"
_SEP_LINE = re.compile(r'"?sep=(.)"?[;,\t ]*\n', re.IGNORECASE)  # Excel's first line

Row = tuple[int, list[str]]  # line or row of the file, cells


def read_table(path: Path) -> pd.DataFrame:
    """Read a table as text: ids keep their zeros, missing values are empty strings.

    Args:
        path: A tab-, comma- or semicolon-separated file with a header (UTF-8, UTF-16 or Windows-1252), or an Excel
            file (.xlsx). Tabs know no quotation marks, as BIDS says; cells that are quoted as a whole lose them.

    Raises:
        CohortError: there is no such table, or it is damaged, empty or has a column twice.
    """
    if not path.is_file():
        raise CohortError(f"The table {path} does not exist; give a .tsv, .csv or .xlsx file.")
    if path.stat().st_size > LARGEST:
        raise CohortError(f"The table {path} has more than {LARGEST >> 20} MB; expected a table of participants.")
    content = path.read_bytes()
    rows = _workbook(path) if content.startswith(b"PK") else _delimited(_decoded(content, path), path)
    if not rows:
        raise CohortError(f"The table {path} is empty; expected a header and one row per scan.")
    return _as_text(rows, path)


def _workbook(path: Path) -> list[Row]:
    from bundle.cohort.workbook import read_workbook  # here, so that other tables do not wait for openpyxl

    return read_workbook(path)


def _as_text(rows: list[Row], path: Path) -> pd.DataFrame:
    names = [" ".join(name.split()) for name in rows[0][1]]
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        raise CohortError(f"The table {path} has several columns {quoted(twice)}; rename them.")
    _require_whole(rows, len(names), path)
    cells = [[_cell(text) for text in row[: len(names)]] for _, row in rows[1:]]
    table = pd.DataFrame([row for row in cells if any(row)], columns=names, dtype=object)
    if table.empty:
        raise CohortError(f"The table {path} has no rows below its header; expected one per scan.")
    return table.loc[:, [bool(name) for name in names]]


def _cell(text: str) -> str:
    stripped = text.strip()
    return "" if stripped.lower() in _EMPTY else stripped


def _require_whole(rows: list[Row], width: int, path: Path) -> None:
    for number, row in rows[1:]:
        if len(row) < width or any(text.strip() for text in row[width:]):
            raise CohortError(
                f"The table {path} has {len(row)} cells in line {number}, but {width} columns in its header: cells "
                "would be read under wrong names. Correct the line; a cell that holds the separator needs quotation "
                "marks."
            )


# Text


def _decoded(content: bytes, path: Path) -> str:
    refused = next((what for start, what in _REFUSED.items() if content.startswith(start)), "")
    if refused:
        raise CohortError(f"The table {path} {refused}, which cannot be read here; {_AGAIN}.")
    stated = next((encoding for mark, encoding in _MARKS.items() if content.startswith(mark)), "")
    try:
        text = content.decode(stated or "utf-8")
    except UnicodeDecodeError as error:
        if stated:
            raise CohortError(f"The table {path} is damaged: it is no {stated} ({error.reason}); {_AGAIN}.") from error
        text = _of_windows(content, path)
    if "\0" in text:
        raise CohortError(f"The table {path} is no text, or UTF-16 without its mark; {_AGAIN}.")
    return re.sub("\r\n?", "\n", text)


def _of_windows(content: bytes, path: Path) -> str:
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError as error:
        raise CohortError(
            f"The table {path} cannot be read: it is neither UTF-8 nor Windows-1252; {_AGAIN}."
        ) from error
    word = next((word for word in re.split(r"[ \t\r\n,;|]+", text) if not word.isascii()), "")
    logger.warning(
        "%s is not UTF-8 and was read as Windows-1252: one word is '%s'; if that is wrong, save the table as UTF-8",
        path,
        word[:40],
    )
    return text


def _delimited(text: str, path: Path) -> list[Row]:
    stated = _SEP_LINE.match(text)
    lines = text.split("\n")
    if stated:
        lines[0] = ""
    header = next((line for line in lines if line.strip()), "")
    separator = stated[1] if stated else _separator(header)
    if separator == "\t":
        return [
            (n, [_unquoted(c) for c in line.split("\t")]) for n, line in enumerate(lines, 1) if line.strip(" \t\xa0")
        ]
    return _quoted_rows(lines, separator, path)


def _separator(header: str) -> str:
    unquoted = re.sub('"[^"]*"', "", header)
    return (
        "\t" if "\t" in unquoted else max(";,|", key=unquoted.count)
    )  # of equals the semicolon: others have decimal commas


def _unquoted(text: str) -> str:
    """A cell without the quotation marks around all of it, which some programs write with tabs, too."""
    text = text.strip()
    inner = text[1:-1]
    whole = len(text) > 1 and text[0] == text[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if whole else text


def _quoted_rows(lines: list[str], separator: str, path: Path) -> list[Row]:
    reader = csv.reader(io.StringIO("\n".join(lines)), delimiter=separator, strict=True, skipinitialspace=True)
    rows: list[Row] = []
    before = 0
    try:
        for row in reader:
            first, before = before + 1, reader.line_num
            if any(text.strip() for text in row):
                width = len(rows[0][1]) if rows else len(row)
                _require_one_row(row, separator, width, first, path)
                rows.append((first, row))
    except csv.Error as error:
        raise CohortError(
            f"The table {path} cannot be read from line {before + 1} on ({error}): a quotation mark is not closed, or "
            "stands inside a cell. Remove it, or save the table with tabs (.tsv), where such a mark is plain text."
        ) from error
    return rows


def _require_one_row(row: list[str], separator: str, width: int, line: int, path: Path) -> None:
    """A cell in quotation marks may have several lines, but not whole rows, which a stray mark would swallow."""
    inside = [part for text in row for part in text.split("\n")[1:]]
    if any(part.count(separator) >= max(1, width - 1) for part in inside):
        raise CohortError(
            f"The table {path} has a cell in quotation marks that begins in line {line} and goes on over "
            f"{len(inside) + 1} lines, which look like rows: a quotation mark is stray there. Remove it."
        )
