"""Tables as programs write them: encodings, ends of lines, separators, quotation marks, and Excel files."""

import datetime
import zipfile

import openpyxl
import pytest

from bundle.cohort.participants import CohortError
from bundle.cohort.sheet import read_table

ROWS = [["participant_id", "age", "city"], ["007", "25", "Köln"], ["sub-2", "30", "Bonn"]]


def table(tmp_path, content, name="t.tsv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def written(separator="\t", end="\n", encoding="utf-8"):
    return "".join(separator.join(row) + end for row in ROWS).encode(encoding)


def rows_of(path):
    cells = read_table(path)
    return [list(cells.columns), *cells.to_numpy().tolist()]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", ["\t", ",", ";"])
def test_a_table_is_the_same_however_it_was_saved(tmp_path, separator, end, encoding, caplog):
    assert rows_of(table(tmp_path, written(separator, end, encoding), "t.csv")) == ROWS
    assert ("was read as Windows-1252: one word is 'Köln'" in caplog.text) == (encoding in ("cp1252", "latin-1"))


def test_missing_values_are_empty_and_empty_rows_are_left_out(tmp_path):
    text = "participant_id,age\r\n 007 ,25\r\n\r\nnull,n/a\r\n,\r\nnan,5\r\n"
    assert rows_of(table(tmp_path, text))[1:] == [["007", "25"], ["", "5"]]


def test_a_space_that_only_windows_writes_is_a_space(tmp_path):
    assert rows_of(table(tmp_path, b"participant_id,age\n1,\xa025\n"))[1:] == [["1", "25"]]


@pytest.mark.parametrize("line", ["sep=;\n", '"sep=;"\n', "SEP=;\r\n"])
def test_excels_line_about_the_separator_is_understood(tmp_path, line):
    assert rows_of(table(tmp_path, line.encode() + written(";"))) == ROWS


def test_a_quotation_mark_is_plain_text_between_tabs(tmp_path):
    text = 'participant_id\tcomment\n1\t"left handed\n2\tok\n3\t"smoker\n4\t5" scar\n'
    assert [row[1] for row in rows_of(table(tmp_path, text))[1:]] == ['"left handed', "ok", '"smoker', '5" scar']


def test_cells_that_are_quoted_as_a_whole_lose_their_marks(tmp_path):
    text = '"participant_id"\t"age"\n"1"\t"25"\n"2"\t"say ""30"""\n'
    assert rows_of(table(tmp_path, text)) == [["participant_id", "age"], ["1", "25"], ["2", 'say "30"']]


def test_a_quoted_cell_may_hold_separators_and_several_lines(tmp_path):
    text = 'participant_id,age,comment\n1,25,"tall, left-handed\nand tired"\n2,30,"a ""b"""\n'
    rows = rows_of(table(tmp_path, text, "t.csv"))
    assert [row[2] for row in rows[1:]] == ["tall, left-handed\nand tired", 'a "b"']


def test_decimal_commas_go_with_semicolons(tmp_path):
    assert rows_of(table(tmp_path, "Alter;ID, neu\n25,5;1\n", "t.csv")) == [["Alter", "ID, neu"], ["25,5", "1"]]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("participant_id,age\n", "has no rows below its header"),
        ("participant_id,age\n,\n", "has no rows below its header"),
        ("participant_id,age\n1,25,5\n", "has 3 cells in line 2, but 2 columns in its header"),
        ("participant_id\tage\n1\t25\n2\n", "has 1 cells in line 3"),
        ("participant_id,age,age\n1,2,3\n", "several columns 'age'; rename them"),
        ('id;x;note\n1;2;"left\n2;2;ok\n3;2;"b\n', r"cannot be read from line 2 on .*quotation mark is not closed"),
        ('id;x;note\n1;2;"left\n2;2;ok\n3;2;b"\n', "begins in line 2 and goes on over 3 lines, which look like rows"),
        ('id;x\n1;a"b"\n2;"c"d\n', "cannot be read from line 3"),
        (b"a,b\n1,\x81\n", "neither UTF-8 nor Windows-1252"),
        (b"\xff\xfea\x00,", "is damaged: it is no utf-16"),
        ("a,b\n1,2\n".encode("utf-16-le"), "UTF-16 without its mark"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "is an old Excel file .*, or one with a password.*; save it as .xlsx"),
        (b"\x1f\x8b\x08\x00", "is compressed"),
        (b"PK\x03\x04 and so on", "is a damaged Excel file"),
    ],
)
def test_damaged_tables_are_refused(tmp_path, content, sentence):
    with pytest.raises(CohortError, match=sentence):
        read_table(table(tmp_path, content, "t.csv"))


def test_trailing_separators_are_no_cells(tmp_path):
    assert rows_of(table(tmp_path, "id,age\n1,25,,\n", "t.csv")) == [["id", "age"], ["1", "25"]]


def test_a_table_that_does_not_exist_or_is_too_large_is_refused(tmp_path, monkeypatch):
    with pytest.raises(CohortError, match=r"b\.tsv does not exist; give a \.tsv, \.csv or \.xlsx"):
        read_table(tmp_path / "b.tsv")
    monkeypatch.setattr("bundle.cohort.sheet.LARGEST", 5)
    with pytest.raises(CohortError, match="more than 0 MB"):
        read_table(table(tmp_path, written()))


# Excel


@pytest.fixture
def book(tmp_path):
    """A workbook that a test may change, and what is read of it."""
    made = openpyxl.Workbook()
    for row in [["participant_id", "age", "note"], ["007", 25.5, None], [12, 30, "=1/2"], [None, None, None]]:
        made.active.append(row)
    made.active["C3"] = "n/a"

    def read():
        made.save(tmp_path / "t.xlsx")
        return rows_of(tmp_path / "t.xlsx")

    return made, read


def test_an_excel_file_is_read_as_text(book):
    made, read = book
    made.create_sheet("empty")
    assert read() == [["participant_id", "age", "note"], ["007", "25.5", ""], ["12", "30", ""]]


def test_what_an_excel_file_does_not_say_for_certain_is_refused(book):
    made, read = book
    changes = {
        "several sheets, 'Sheet', 'More'": lambda: made.create_sheet("More").append(["x"]),
        "formula in C3 whose value was never computed": lambda: made.remove(made["More"]) or _set(made, "C3", "=1/2"),
        "merged cells, 'B2:B3'": lambda: _set(made, "C3", "x") or made.active.merge_cells("B2:B3"),
        "1 hidden rows, the first is row 2": lambda: made.active.unmerge_cells("B2:B3") or _hide(made, 2),
    }
    for sentence, change in changes.items():
        change()
        with pytest.raises(CohortError, match=sentence):
            read()


def _set(made, place, value):
    made.active[place] = value


def _hide(made, row):
    made.active.row_dimensions[row].hidden = True


def test_a_date_in_a_column_of_ages_stays_no_number(book):
    made, read = book
    made.active["B2"] = datetime.datetime(2026, 5, 1)
    assert read()[1][1].startswith("2026-05-01")


def test_an_archive_that_is_no_workbook_or_unpacks_to_anything_is_refused(tmp_path, book, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.ods", "w") as archive:
        archive.writestr("content.xml", "x")
    with pytest.raises(CohortError, match="is an archive and no Excel file"):
        read_table(tmp_path / "a.ods")
    book[0].create_sheet("far")["XFD1048576"] = "x"
    with pytest.raises(CohortError, match=r"The sheet 'far' .* goes down to row 1048576 and column 16384"):
        book[1]()
    monkeypatch.setattr("bundle.cohort.workbook.LARGEST", 100)
    with pytest.raises(CohortError, match="unpacks to more than"):
        book[1]()
