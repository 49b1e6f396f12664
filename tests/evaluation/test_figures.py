import pandas as pd
import pytest
from matplotlib.image import imread

from bundle.evaluation import figures


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
    lines = figures.diagnosis_table(summary).splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == ["task", "method", "N = 50", "N = 100"]
    assert len(lines) == 2 + 4
    assert "0.700 (0.60–0.80)" in lines[2]
    gains = figures.gain_table(summary, "random initialisation").splitlines()
    assert len(gains) == 2 + 2
    assert "+0.100 (+0.09 to +0.11)" in gains[2]


def test_age_table():
    ages = pd.DataFrame([{"method": "y-Aware", "mae": 5.123, "low": 4.5, "high": 6.0, "n_test": 10}])
    assert "5.12 (4.50–6.00)" in figures.age_table(ages)


def test_the_figure_has_a_panel_per_task_with_curves_and_the_ceiling(summary, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "Figure", lambda **k: drawn.append(Figure(**k)) or drawn[-1])
    figures.learning_curves(tmp_path / "curves.png", summary, {"bipolar": 0.66}, note="phantom")
    panels = drawn[0].axes
    assert [p.get_title() for p in panels] == ["Schizophrenia", "Bipolar"]
    assert [len(p.containers) for p in panels] == [2, 2]
    assert 0.66 in [line.get_ydata()[0] for line in panels[1].lines]
    assert imread(tmp_path / "curves.png").std() > 0.01


Figure = figures.Figure


def test_references_are_grey_lines_and_no_method_is_left_out(summary, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "Figure", lambda **k: drawn.append(Figure(**k)) or drawn[-1])
    many = pd.concat([summary[summary["method"] == "y-Aware"].assign(method=f"m{i}") for i in range(8)] + [summary])
    figures.learning_curves(tmp_path / "curves.png", many, references=["random initialisation"])
    assert [len(p.containers) for p in drawn[0].axes] == [9, 9]
    looks = figures.styles([f"m{i}" for i in range(9)], ["m8"])
    assert len({(look["color"], look["linestyle"]) for look in looks.values()}) == 9
    assert "marker" not in looks["m8"]


def test_a_method_is_set_against_each_other_in_its_own_direction():
    columns = ["task", "n", "method", "other", "difference", "low", "high", "draws_won", "p", "p_holm"]
    rows = [("t", 50, "a", "b", 0.1, 0.05, 0.15, 5, 0.01, 0.02), ("t", 50, "a", "c", -0.1, -0.2, 0.0, 0, 0.04, 0.08)]
    rows.append(("t", 50, "b", "c", -0.2, -0.3, -0.1, 0, 0.001, 0.003))
    text = figures.test_table(pd.DataFrame(rows, columns=columns), "b")
    assert "-0.100 (-0.15 to -0.05), p = 0.02" in text
    assert "-0.200 (-0.30 to -0.10), p = 0.003" in text
    assert len(text.splitlines()) == 4


LONG = "y-Aware with age, sex and site, whose kernel is a Gaussian of 5 years, fine-tuned on schizophrenia"


@pytest.mark.parametrize("kind", ["curves", "calibration", "maps"])
def test_nothing_is_cut_however_long_names_are(kind, summary, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "Figure", lambda **k: drawn.append(Figure(**k)) or drawn[-1])
    many = summary[summary["task"] == "bipolar"].assign(task=LONG)
    many = pd.concat([many[many["method"] == "y-Aware"].assign(method=f"{i} {LONG}") for i in range(7)])
    curve = pd.DataFrame({"predicted": [0.2, 0.7], "observed": [0.3, 0.6], "n": [40, 60]})
    table = pd.DataFrame(
        {"x": [0, 1], "y": [2, 0], "age": [20.0, 50.0], "site": ["a", "b"], "diagnosis": [LONG, "$a$"]}
    )
    if kind == "curves":
        figures.learning_curves(tmp_path / "x.png", many, {}, LONG)
    elif kind == "calibration":
        figures.calibration_curves(tmp_path / "x.png", {LONG: {f"{i} {LONG}": curve for i in range(7)}}, LONG)
    else:
        figures.embedding_maps(tmp_path / "x.png", {LONG: table, f"other {LONG}": table}, LONG)
    picture = imread(tmp_path / "x.png")[..., :3]
    edges = [picture[:2], picture[-2:], picture[:, :2], picture[:, -2:]]
    assert all((edge == 1).all() for edge in edges), "something reaches the edge of the picture"
    assert all(axes.get_position().height > 0.25 for axes in drawn[0].axes), "the legend leaves no room for the panels"


def test_calibration_and_maps_are_drawn(tmp_path):
    curve = pd.DataFrame({"predicted": [0.2, 0.7], "observed": [0.3, 0.6], "n": [40, 60]})
    panels = {"schizophrenia": {"y-Aware": curve, "SimCLR": curve}, "bipolar": {"y-Aware": curve}}
    figures.calibration_curves(tmp_path / "calibration.png", panels, "a phantom")
    table = pd.DataFrame({"x": [0, 1, 2], "y": [2, 0, 1], "age": [20.0, 50.0, 70.0], "site": ["a", "b", "a"]})
    maps = {"y-Aware": table.assign(diagnosis=["control", "schizophrenia", "control"])}
    figures.embedding_maps(tmp_path / "maps.png", maps)
    assert imread(tmp_path / "calibration.png").std() > 0.01
    assert imread(tmp_path / "maps.png").std() > 0.01
