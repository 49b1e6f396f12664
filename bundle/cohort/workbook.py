"""An Excel file (.xlsx) as rows of text, or a sentence that says why its values are not certain."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import openpyxl
from openpyxl.workbook import Workbook
from openpyxl.worksheet.worksheet import Worksheet

from bundle.cohort.participants import CohortError
from bundle.hints import quoted

LARGEST = 128 * 2**20  # bytes, unpacked: a small archive may unpack to anything
MOST_CELLS = 5_000_000  # of a sheet, up to its last row and column: one cell may stand anywhere
_ADVICE = "save the sheet as .csv or .tsv in UTF-8"


def read_workbook(path: Path) -> list[tuple[int, list[str]]]:
    """The rows of the only sheet that holds anything, as text, with their numbers; empty rows are left out.

    Args:
        path: Path of an Excel file.

    Raises:
        CohortError: it is none or damaged, several sheets hold cells, or what a cell holds cannot be told: merged
            cells, hidden rows, and formulas that no program has computed.
    """
    _require_workbook(path)
    values, formulas = _opened(path, data_only=True), _opened(path, data_only=False)
    sheet = _only_sheet(values, path)
    _require_plain(sheet, path)
    _require_computed(sheet, formulas[sheet.title], path)
    rows = [(cells[0].row, [_text(cell.value) for cell in cells]) for cells in sheet.iter_rows()]
    filled = [(number, row) for number, row in rows if any(row)]
    width = max((len(_without_tail(row)) for _, row in filled[:1]), default=0)
    return [(number, [*row[:width], *_without_tail(row[width:])]) for number, row in filled]


def _require_workbook(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names, size = set(archive.namelist()), sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise CohortError(f"The table {path} is a damaged Excel file ({error}); {_ADVICE}.") from error
    if "xl/workbook.xml" not in names:
        raise CohortError(f"The table {path} is an archive and no Excel file of the kind .xlsx; {_ADVICE}.")
    if size > LARGEST:
        raise CohortError(f"The table {path} unpacks to more than {LARGEST >> 20} MB; {_ADVICE}.")


def _opened(path: Path, data_only: bool) -> Workbook:
    try:
        with path.open("rb") as stream:  # whatever its name ends in
            return openpyxl.load_workbook(stream, data_only=data_only)
    except Exception as error:  # openpyxl raises what its parsers raise
        raise CohortError(f"The table {path} is a damaged Excel file ({type(error).__name__}); {_ADVICE}.") from error


def _only_sheet(book: Workbook, path: Path) -> Worksheet:
    for sheet in book.worksheets:
        if sheet.max_row * sheet.max_column > MOST_CELLS:
            raise CohortError(
                f"The sheet '{sheet.title}' of {path} goes down to row {sheet.max_row} and column {sheet.max_column}, "
                f"which is no table of participants; delete what lies far out, or {_ADVICE}."
            )
    filled = [sheet for sheet in book.worksheets if any(_text(cell.value) for row in sheet.iter_rows() for cell in row)]
    if not filled:
        raise CohortError(f"The table {path} is empty; expected a header and one row per scan.")
    if len(filled) > 1:
        names = quoted(sheet.title for sheet in filled)
        raise CohortError(f"The table {path} has several sheets, {names}: save the one that is meant as .csv or .xlsx.")
    return filled[0]


def _require_plain(sheet: Worksheet, path: Path) -> None:
    if sheet.merged_cells.ranges:
        names = quoted(str(cells) for cells in sheet.merged_cells.ranges)
        raise CohortError(f"The table {path} has merged cells, {names}: only the first holds a value. Unmerge them.")
    hidden = [str(number) for number, row in sheet.row_dimensions.items() if row.hidden]
    if hidden:
        raise CohortError(
            f"The table {path} has {len(hidden)} hidden rows, the first is row {hidden[0]}: show or delete them, so "
            "that it is clear who takes part."
        )


def _require_computed(sheet: Worksheet, formulas: Worksheet, path: Path) -> None:
    for row in formulas.iter_rows():
        for cell in row:
            if cell.data_type == "f" and sheet[cell.coordinate].value is None:
                raise CohortError(
                    f"The table {path} has a formula in {cell.coordinate} whose value was never computed; open the "
                    f"file in Excel and save it again, or {_ADVICE}."
                )


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _without_tail(row: Iterable[str]) -> list[str]:
    cells = list(row)
    while cells and not cells[-1]:
        cells.pop()
    return cells
