import pandas as pd
import pytest
from matplotlib.image import imread

from bundle import report


@pytest.fixture
def summary():
    rows = [
        (task, n, method, 0.6 + shift, 0.5 + shift, 0.7 + shift, shift, shift - 0.01, shift + 0.01)
        for task in ("schizophrenia", "bipolar")
        for n in (100, 50)
        for method, shift in (("y-Aware", 0.1), ("random initialisation", 0.0))
    ]
    columns = ["task", "n", "method", "auc", "low", "high", "gain", "gain_low", "gain_high"]
    return pd.DataFrame(rows, columns=columns)


def test_the_table_has_a_row_per_task_and_method_and_a_column_per_size(summary):
    lines = report.diagnosis_table(summary).splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == ["task", "method", "N = 50", "N = 100"]
    assert len(lines) == 2 + 4
    assert "0.700 (0.60–0.80)" in lines[2]
    gains = report.gain_table(summary, "random initialisation").splitlines()
    assert len(gains) == 2 + 2
    assert "+0.100 (+0.09 to +0.11)" in gains[2]


def test_age_table():
    ages = pd.DataFrame([{"method": "y-Aware", "mae": 5.123, "low": 4.5, "high": 6.0, "n_test": 10}])
    assert "5.12 (4.50–6.00)" in report.age_table(ages)


def test_the_figure_has_a_panel_per_task_with_curves_and_the_ceiling(summary, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(report, "Figure", lambda **k: figures.append(Figure(**k)) or figures[-1])
    report.learning_curves(tmp_path / "curves.png", summary, {"bipolar": 0.66}, note="phantom")
    panels = figures[0].axes
    assert [p.get_title() for p in panels] == ["Schizophrenia", "Bipolar"]
    assert [len(p.containers) for p in panels] == [2, 2]
    assert 0.66 in [line.get_ydata()[0] for line in panels[1].lines]
    assert imread(tmp_path / "curves.png").std() > 0.01


Figure = report.Figure
