"""What the command line makes of errors."""

import pytest

from bundle import __main__ as commands


def fails(monkeypatch, error):
    def run(*_):
        raise error

    monkeypatch.setattr(commands, "_check", run)
    return commands.main(["cohort", "--table", "table.tsv", "--images", "{participant_id}.nii", "--output", "out.json"])


def caused(error, cause):
    error.__cause__ = cause
    return error


def test_a_refusal_below_wrappers_is_said_alone(monkeypatch, capsys):
    error = caused(RuntimeError("of MONAI"), caused(RuntimeError("of a worker"), ValueError("the reason")))
    assert fails(monkeypatch, error) == 1
    assert capsys.readouterr().err == "error: the reason\n"


def test_another_error_is_no_refusal_even_where_its_causes_go_round_in_a_circle(monkeypatch):
    error = RuntimeError("first")
    caused(error, caused(RuntimeError("second"), error))
    with pytest.raises(RuntimeError, match="first"):
        fails(monkeypatch, error)
