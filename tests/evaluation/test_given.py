"""Probes of embeddings in hand; their numbers against the command are in tests/integration/test_probe.py."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import roc_auc_score

from bundle.evaluation import probe, probe_age
from bundle.metrics.resampling import roc_band

ONE = {"penalties": [1.0], "draws": 1, "seed": 3}


@pytest.fixture
def table():
    """60 people, ten of whom have two scans."""
    rng = np.random.default_rng(0)
    people = [*range(60), *range(10)]
    rows = {"participant_id": [f"sub-{p}" for p in people], "session_id": ["1"] * 60 + ["2"] * 10}
    rows |= {"label": [p % 2 for p in people], "age": rng.uniform(20, 80, 70).round(1), "site": list("abcde") * 14}
    return pd.DataFrame({**rows, "sex": list("FM") * 35, "tiv": rng.normal(1500, 100, 70)})


@pytest.fixture
def embeddings(table):
    rng = np.random.default_rng(1)
    return rng.normal(size=(70, 12)) + 0.6 * table[["label"]].to_numpy() + 0.05 * table[["age"]].to_numpy()


def test_scores_are_those_of_a_plain_logistic_regression(table, embeddings):
    sections = ["training"] * 40 + ["test"] * 20
    table, embeddings = table.iloc[:60].assign(section=sections), embeddings[:60]
    found = probe(embeddings, table, **ONE)
    train, test = embeddings[:40], embeddings[40:]
    scale = np.sqrt(train.var(0).mean())  # one number for all features
    model = LogisticRegression(solver="liblinear", C=1.0).fit((train - train.mean(0)) / scale, table["label"][:40])
    expected = roc_auc_score(table["label"][40:], model.decision_function((test - train.mean(0)) / scale))
    own = found.table().set_index("method").loc["embedding"]
    assert own["auc"] == pytest.approx(expected, abs=1e-9)
    assert own["n"] == 40
    assert own["low"] <= own["auc"] <= own["high"]


def test_nobody_is_divided_and_everybody_is_tested_once_a_draw(table, embeddings):
    scores = probe(embeddings, table, draws=2).scores
    for _, rows in scores.groupby(["method", "draw"]):
        assert sorted(rows["participant_id"] + rows["session_id"]) == sorted(
            table["participant_id"] + table["session_id"]
        )
    assert set(scores["method"]) == {"embedding", "age, sex, TIV", "site"}


def test_references_are_of_what_the_table_has(table, embeddings):
    only = table[["participant_id", "session_id", "label"]]
    bare = probe(embeddings, only, **ONE).table()
    assert list(bare["method"]) == ["embedding"]
    assert "gain" not in bare
    some = probe(embeddings, only.assign(age=table["age"], site="one"), **ONE).table()
    assert list(some["method"]) == ["embedding", "age"]
    assert some.set_index("method").loc["age", "gain"] == 0


def test_a_site_that_makes_the_patients_is_seen(table, embeddings):
    sites = np.where(table["label"] == 1, "clinic", "university")
    found = probe(embeddings, table.assign(site=sites), **ONE).table().set_index("method")
    assert found.loc["site", "auc"] == 1


def test_a_table_of_embeddings_goes_by_its_ids(table, embeddings):
    frame = pd.DataFrame(embeddings).add_prefix("e").assign(participant_id=table["participant_id"], task="x", age=0)
    pd.testing.assert_frame_equal(probe(frame, table, **ONE).table(), probe(embeddings, table, **ONE).table())
    with pytest.raises(ValueError, match=r"row 0 is 'sub-69' here and 'sub-0' there|row 0 is '9' here and '0' there"):
        probe(frame[::-1], table, **ONE)
    with pytest.raises(ValueError, match="not of the same scans in the same order: row 0 is '5' here and '0' there"):
        probe(pd.DataFrame(embeddings, index=table.index + 5), table, **ONE)


def changed(table, row, **values):
    table = table.astype(dict.fromkeys(values, object))
    for name, value in values.items():
        table.loc[row, name] = value
    return table


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.drop(columns="participant_id"), "has no column 'participant_id'; it has 'session_id'"),
        (lambda t: t.iloc[:-1], r"shape \(70, 12\), but the table has 69 rows"),
        (lambda t: changed(t, 3, label=np.nan), "1 of 70 records of diagnosis have no label: 'sub-3'"),
        (lambda t: changed(t, 3, label=2), "sub-3 has the label 2, expected 0"),
        (lambda t: changed(t, 3, label="patient"), "sub-3 has the label 'patient', expected 0"),
        (lambda t: t.assign(label=0), "diagnosis has one class"),
        (lambda t: changed(t, 3, sex="female"), "sub-3 has the sex 'female', expected F, M"),
        (lambda t: changed(t, 3, participant_id=None), r"Rows \[3\] of the table have no participant_id"),
        (lambda t: t.assign(session_id="1"), "'0 1', '1 1', .* stand twice in the table"),
        (lambda t: t.assign(section=["training"] * 40 + ["test"] * 30), "'training' and 'test' share 10 participant"),
        (lambda t: t.assign(section="training"), "Nobody is in the section 'test'"),
    ],
)
def test_refusals_are_sentences(table, embeddings, change, reason):
    with pytest.raises(ValueError, match=reason):
        probe(embeddings, change(table), **ONE)


def test_embeddings_that_are_no_numbers_are_refused(table, embeddings):
    broken = embeddings.copy()
    broken[4, 0] = np.nan
    with pytest.raises(ValueError, match="The embeddings of 'sub-4' are not finite"):
        probe(broken, table)
    with pytest.raises(ValueError, match="The columns 'scanner' of the embeddings are no numbers"):
        probe(pd.DataFrame(embeddings).assign(scanner="x"), table)
    with pytest.raises(ValueError, match="did you mean 'folds'"):
        probe(embeddings, table, protocol="fold")


def test_age_is_that_of_a_ridge_regression(table, embeddings):
    once, features = table.iloc[:60].assign(section=["training"] * 40 + ["validation"] * 20), embeddings[:60]
    found = probe_age(features, once)
    scaled = (features - features[:40].mean(0)) / np.sqrt(features[:40].var(0).mean())
    predicted = RidgeCV(np.logspace(-1, 5, 13)).fit(scaled[:40], once["age"][:40]).predict(scaled[40:])
    own = found.table().set_index("method")
    assert own.loc["embedding", "n_test"] == 20
    assert set(own.index) == {"embedding", "mean age"}
    expected = np.abs(once["age"][:40].mean() - once["age"][40:]).mean()
    assert own.loc["mean age", "mae"] == pytest.approx(expected, abs=1e-6)
    assert own.loc["embedding", "mae"] == pytest.approx(np.abs(predicted - once["age"][40:]).mean(), abs=1e-6)


def test_age_is_predicted_once_for_everybody_of_known_age(table, embeddings):
    some = changed(table, 7, age=np.nan)
    found = probe_age(embeddings, some)
    assert len(found.predictions) == 2 * 69
    assert found.predictions["predicted"].notna().all()
    with pytest.raises(ValueError, match="100 folds cannot be made of 60 participants"):
        probe_age(embeddings, table, n_folds=100)


def test_an_age_needs_no_diagnosis_as_records_of_a_datalist_without_one_have_minus_one(table, embeddings):
    found = probe_age(embeddings, table.assign(label=-1)).table()
    pd.testing.assert_frame_equal(found, probe_age(embeddings, table).table())


def test_results_draw_themselves(table, embeddings, tmp_path):
    sections = ["training"] * 45 + ["test"] * 15
    several = probe(embeddings[:60], table.iloc[:60].assign(section=sections), sizes=[20, 40], draws=2)
    single = probe(embeddings, table, draws=1)
    drawings = {"curve": several.plot, "intervals": single.plot, "roc": several.plot_roc}
    drawings |= {"calibration": single.plot_calibration, "embedding": single.plot_embedding}
    drawings["age"] = probe_age(embeddings, table).plot
    for name, draw in drawings.items():
        figure = draw(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000
        assert figure._repr_html_().startswith("<img alt=")
    assert [axes.get_title() for axes in single.plot_embedding().axes[:3]] == ["by age", "by site", "by diagnosis"]
    assert "<table" in single._repr_html_()
    with pytest.raises(ValueError, match="there is one, N = 48; probe with protocol='draws'"):
        single.plot_learning_curve()


def test_a_band_is_around_its_curve_whose_area_is_the_auc():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    scores = labels + rng.normal(size=(3, 200))
    band = roc_band(labels, scores, resamples=100)
    area = np.trapezoid(band["sensitivity"], band["false_positive_rate"])
    assert area == pytest.approx(np.mean([roc_auc_score(labels, one) for one in scores]), abs=0.01)
    assert (band["low"] <= band["sensitivity"] + 0.02).all()
    assert (band["high"] >= band["sensitivity"] - 0.02).all()
    with pytest.raises(ValueError, match="needs both classes, but 0 patients and 4 controls"):
        roc_band([0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(("column", "value"), [("age", 412.0), ("age", -9.0), ("tiv", 1.4)])
def test_numbers_of_another_unit_and_codes_are_refused(column, value):
    people = pd.DataFrame({"participant_id": range(40), "label": np.arange(40) % 2, "age": 40.0, "tiv": 1400.0})
    people.loc[3, column] = value
    with pytest.raises(ValueError, match=f"1 of 40 scans have {column} outside of"):
        probe(np.random.default_rng(0).normal(size=(40, 3)), people)


def test_no_draws_are_refused_and_one_size_is_a_list_of_one():
    people = pd.DataFrame({"participant_id": range(60), "label": np.arange(60) % 2})
    people["section"] = ["training"] * 40 + ["test"] * 20
    embeddings = np.random.default_rng(0).normal(size=(60, 3))
    with pytest.raises(ValueError, match="`draws` is 0"):
        probe(embeddings, people, draws=0)
    assert set(probe(embeddings, people, sizes=20, draws=2).table()["n"]) == {20}
