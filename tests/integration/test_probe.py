"""The probe config, run for real on a tiny phantom with an encoder that was never trained."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

import bundle
from bundle.cli.main import main
from bundle.cohort.datalist import load_section
from bundle.cohort.overlap import fingerprints
from bundle.networks.encoders import DenseNetEncoder
from bundle.networks.weights import load_encoder, save_weights
from tests.conftest import OVERLAY, ROOT, with_full_paths

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def probed(tiny_phantom, tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    torch.manual_seed(0)
    save_weights(folder / "weights.pt", DenseNetEncoder(1, 8, 4, (1, 1, 1, 1)), {})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        data = [
            "--dataset_dir",
            str(tiny_phantom),
            "--output_dir",
            str(folder),
            "--weights",
            str(folder / "weights.pt"),
        ]
        assert main(["probe", "--config", str(OVERLAY), *data, "--sizes", "[10, 20]", "--draws", "3"]) == 0
    return folder


RANDOM = {"random initialisation", "random, calibrated batch norm"}
NATIVE = {"voxels, native, logistic", "voxels, native, ridge classifier"}
REGIONS = {"regions, elastic net", "regions, RBF-SVM"}
METHODS = {"y-Aware", *RANDOM, "voxels", *NATIVE, *REGIONS, "age, sex, TIV"}  # test sites are not trained on: no "site"
TASKS = {"schizophrenia", "bipolar", "alzheimer"}


def test_results_are_complete_and_tidy(probed):
    results = pd.read_csv(probed / "results.csv")
    assert set(results["method"]) == METHODS
    assert set(results["task"]) == TASKS
    assert len(results) == len(METHODS) * 3 * 2 * 3
    assert results["auc"].between(0, 1).all()
    summary = pd.read_csv(probed / "summary.csv")
    assert (summary["low"] <= summary["high"]).all()
    assert len(summary) == len(METHODS) * 3 * 2


def test_every_score_belongs_to_a_test_participant(probed, tiny_phantom):
    scores = pd.read_csv(probed / "scores.csv")
    for task in TASKS:
        datalist = json.loads((tiny_phantom / f"{task}.json").read_text())
        expected = {r["participant_id"] for r in datalist["test"]}
        assert set(scores.query("task == @task")["participant_id"]) == expected


def test_embeddings_carry_participant_ids(probed):
    arrays = np.load(probed / "embeddings_y_aware.npz", allow_pickle=False)
    table = pd.read_csv(probed / "embeddings_y_aware.tsv", sep="\t")
    assert len(arrays["embedding"]) == len(arrays["participant_id"]) == len(table)
    assert list(arrays["participant_id"]) == list(table["participant_id"])
    assert arrays["embedding"][0] == pytest.approx(table.filter(regex=r"^e\d").iloc[0].to_numpy(), rel=1e-4)


def test_the_table_says_it_is_a_phantom_and_gives_the_ceiling(probed, tiny_phantom):
    text = (probed / "table.md").read_text()
    best = json.loads((tiny_phantom / "phantom.json").read_text())["best_auc"]
    assert "phantom" in text.lower()
    assert f"alzheimer {best['alzheimer']:.3f}" in text
    assert all(method in text for method in METHODS)
    assert "age MAE" in text
    assert (probed / "learning_curves.png").stat().st_size > 10_000


def in_hand(probed, tiny_phantom, task):
    """Embeddings of a task that the command wrote, and the table of whose they are."""
    arrays = np.load(probed / "embeddings_y_aware.npz", allow_pickle=False)
    own = arrays["task"] == task
    names = ("participant_id", "session_id", "site", "age", "label", "section")
    table = pd.DataFrame({name: arrays[name][own] for name in names})
    content = json.loads((tiny_phantom / f"{task}.json").read_text())
    more = pd.DataFrame([r for section in ("training", "validation", "test") for r in content[section]])
    return arrays["embedding"][own], table.merge(more[["participant_id", "sex", "tiv"]], on="participant_id")


def test_python_gives_the_numbers_of_the_command(probed, tiny_phantom):
    embeddings, table = in_hand(probed, tiny_phantom, "alzheimer")
    found = bundle.probe(embeddings, table, sizes=[10, 20], draws=3, method="y-Aware").table()
    expected = pd.read_csv(probed / "summary.csv").query("task == 'alzheimer'")
    for method in ("y-Aware", "age, sex, TIV"):
        own, other = (each[each["method"] == method][["n", "auc", "low", "high"]] for each in (found, expected))
        np.testing.assert_allclose(own, other, atol=1e-12)


def test_predicted_ages_are_those_of_the_table(probed):
    predicted, ages = pd.read_csv(probed / "age_predictions.csv"), pd.read_csv(probed / "age.csv").set_index("method")
    errors = (predicted["predicted"] - predicted["age"]).abs().groupby(predicted["method"]).mean()
    np.testing.assert_allclose(errors, ages.loc[errors.index, "mae"], atol=1e-4)
    assert (probed / "age.png").stat().st_size > 10_000


def test_provenance_names_command_seed_versions_and_weights(probed):
    provenance = json.loads((probed / "provenance.json").read_text())
    assert provenance["seed"] == 0
    assert provenance["packages"]["monai"]
    assert provenance["weights"].endswith("weights.pt")


def test_age_is_probed_against_a_constant(probed):
    ages = pd.read_csv(probed / "age.csv").set_index("method")
    assert set(ages.index) == {"y-Aware", *RANDOM, "voxels", "voxels, native", "regions", "mean age"}
    assert all(math.isfinite(v) for v in ages["mae"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (["--weights", "nowhere.pt"], "but there is no such file"),
        (["--sizes", "[5000]"], "5000"),
        (["--atlas", "nowhere.nii", "--sizes", "[10]"], "nowhere.nii cannot be used: The file does not exist"),
        (["--atlas", "a.nii", "--references", "[voxels]"], "`references` leaves out 'regions, elastic net'"),
    ],
)
def test_refusals(probed, tiny_phantom, tmp_path, monkeypatch, capsys, change, reason):
    monkeypatch.chdir(ROOT)
    data = ["--dataset_dir", str(tiny_phantom), "--output_dir", str(tmp_path), "--weights", str(probed / "weights.pt")]
    assert main(["probe", "--config", str(OVERLAY), *data, *change]) == 1
    assert reason in capsys.readouterr().err


def test_the_architecture_is_that_of_the_weights(probed, tiny_phantom, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert probe(tiny_phantom, probed / "weights.pt", tmp_path, "--growth_rate", "6") == 2
    assert "There is no option --growth_rate" in capsys.readouterr().err


def test_a_task_without_diagnosis_is_refused(probed, tiny_phantom, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    tasks = ["--tasks", f"{{healthy: {tiny_phantom / 'pretraining.json'}}}"]
    data = ["--dataset_dir", str(tiny_phantom), "--output_dir", str(tmp_path), "--weights", str(probed / "weights.pt")]
    assert main(["probe", "--config", str(OVERLAY), *data, *tasks]) == 1
    error = capsys.readouterr().err
    assert "records of 'training' of healthy have no label: 'sub-pre" in error
    assert "Give each 0 (control) or 1 (patient)" in error


def probe(phantom, weights, folder, *more):
    data = ["--dataset_dir", str(phantom), "--output_dir", str(folder), "--weights", str(weights)]
    draws = [] if "sites" in more else ["--draws", "2"]
    return main(["probe", "--config", str(OVERLAY), *data, *draws, "--age_datalist", "null", *more])


@pytest.mark.parametrize(("protocol", "draws"), [("folds", 2), ("sites", 1)])
def test_everybody_is_tested_once_a_draw_by_folds_and_by_sites(
    probed, tiny_phantom, tmp_path, monkeypatch, protocol, draws
):
    monkeypatch.chdir(ROOT)
    tasks = ["--tasks", f"{{alzheimer: {tiny_phantom / 'alzheimer.json'}}}"]
    more = ["--protocol", protocol, *(["--n_folds", "4"] if protocol == "folds" else []), *tasks]
    assert probe(tiny_phantom, probed / "weights.pt", tmp_path, *more) == 0
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert ("site" in set(scores["method"])) == (protocol == "folds")
    datalist = json.loads((tiny_phantom / "alzheimer.json").read_text())
    everybody = sorted(r["participant_id"] for section in ("training", "test") for r in datalist[section])
    for _, rows in scores.groupby(["method", "draw"]):
        assert sorted(rows["participant_id"]) == everybody
    assert scores.groupby("method")["draw"].nunique().eq(draws).all()


def test_lines_can_be_left_out(probed, tiny_phantom, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    tasks = ["--tasks", f"{{alzheimer: {tiny_phantom / 'alzheimer.json'}}}", "--sizes", "[20]"]
    lines = ["--references", '["regions, RBF-SVM", site]']
    assert probe(tiny_phantom, probed / "weights.pt", tmp_path, *tasks, *lines) == 0
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert set(scores["method"]) == {"y-Aware", "random initialisation", "regions, RBF-SVM"}
    same = pd.read_csv(probed / "scores.csv").query("task == 'alzheimer' and method == 'regions, RBF-SVM' and n == 20")
    mine = scores.query("method == 'regions, RBF-SVM'")
    np.testing.assert_allclose(mine["score"], same[same["draw"] < 2]["score"], atol=1e-9)
    capsys.readouterr()
    assert probe(tiny_phantom, probed / "weights.pt", tmp_path, *tasks, "--references", "[sites]") == 2
    assert "references is ['sites'], but all, or a list of any of 'random initialisation'" in capsys.readouterr().err


def test_one_study_trains_and_another_tests(probed, tiny_phantom, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    here, there = tiny_phantom / "schizophrenia.json", tiny_phantom / "bipolar.json"
    tasks = ["--tasks", f"{{psychosis: {{training: {here}, test: {there}}}}}", "--sizes", "[40]"]
    assert probe(tiny_phantom, probed / "weights.pt", tmp_path, *tasks) == 0
    tested = set(pd.read_csv(tmp_path / "scores.csv")["participant_id"])
    assert len(tested) == 40
    assert all(name.startswith("sub-bd") for name in tested)
    wrong = ["--tasks", f"{{psychosis: {{training: {here}}}}}"]
    assert probe(tiny_phantom, probed / "weights.pt", tmp_path, *wrong) == 1
    assert "give one datalist, or one for 'training' and one for 'test'" in capsys.readouterr().err


def test_a_protocol_of_another_name_is_refused(probed, tiny_phantom, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert probe(tiny_phantom, probed / "weights.pt", tmp_path, "--protocol", "fold") == 2
    assert "draws, folds or sites is expected; did you mean 'folds'" in capsys.readouterr().err


def test_test_subjects_known_from_pretraining_are_refused_with_their_names(
    probed, tiny_phantom, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(ROOT)
    records = load_section(tiny_phantom / "alzheimer.json", "test")[:2]
    card = {"fingerprints": fingerprints(records)}
    save_weights(tmp_path / "weights.pt", load_encoder(probed / "weights.pt").encoder, card)
    tasks = ["--tasks", f"{{alzheimer: {tiny_phantom / 'alzheimer.json'}}}", "--sizes", "[20]"]
    assert probe(tiny_phantom, tmp_path / "weights.pt", tmp_path / "probe", *tasks) == 1
    error = capsys.readouterr().err
    assert f"2 by participant id ({records[0]['participant_id']}, {records[1]['participant_id']}); 2 by image" in error
    assert probe(tiny_phantom, tmp_path / "weights.pt", tmp_path / "probe", *tasks, "--allow-overlap") == 0


def test_site_effects_are_taken_out_and_the_table_says_so(probed, tiny_phantom, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    for name in ("alzheimer", "pretraining"):  # two large sites instead of many small ones
        content = with_full_paths(tiny_phantom / f"{name}.json")
        for section in ("training", "validation", "test"):
            for row, record in enumerate(content[section]):
                record["site"] = "ab"[row // 2 % 2]
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    data = ["--dataset_dir", str(tmp_path), "--output_dir", str(tmp_path), "--weights", str(probed / "weights.pt")]
    tasks = ["--tasks", f"{{alzheimer: {tmp_path / 'alzheimer.json'}}}", "--protocol", "folds", "--n_folds", "2"]
    more = ["--harmonize", "combat", "--harmonize_keep", "[age, sex]"]
    assert main(["probe", "--config", str(OVERLAY), *data, *tasks, "--draws", "1", *more]) == 0
    table = (tmp_path / "table.md").read_text()
    said = (
        "Site effects are removed from all features by ComBat (age and sex preserved, age not where it is read), fitted"
    )
    assert said in table
    scores, plain = pd.read_csv(tmp_path / "scores.csv"), probed / "age.csv"
    assert set(scores["method"]) == METHODS | {"site"}  # folds test people of sites that train
    ages = pd.read_csv(tmp_path / "age.csv").set_index("method")["mae"]
    before = pd.read_csv(plain).set_index("method")["mae"]
    assert ages["mean age"] == before["mean age"]
    assert (ages.drop("mean age") != before.drop("mean age")).all()
    more[-1] = "[label]"
    assert main(["probe", "--config", str(OVERLAY), *data, *tasks, *more]) == 2
    assert "a diagnosis cannot be preserved" in capsys.readouterr().err


def test_batch_norm_is_adapted_to_each_tested_site(probed, tiny_phantom, tmp_path, monkeypatch, capsys):
    """Two sites, each of which trains and is tested: an overlay, its plan, what is written, and what is refused."""
    monkeypatch.chdir(ROOT)
    content = with_full_paths(tiny_phantom / "alzheimer.json")
    for section in ("training", "validation", "test"):
        for record in content[section]:
            record["site"] = "ab"[int(record["participant_id"][-4:]) // 2 % 2]
    (tmp_path / "alzheimer.json").write_text(json.dumps(content))
    encoder = load_encoder(probed / "weights.pt").encoder
    save_weights(tmp_path / "untrained.pt", encoder, {})
    encoder.train()
    with torch.no_grad():
        for _ in range(50):
            encoder(torch.randn(2, 1, 30, 36, 30))
    save_weights(tmp_path / "weights.pt", encoder, {})
    out = tmp_path / "out"
    command = ["probe", "--config", str(OVERLAY), "configs/adaptation_batch_norm.yaml", "--output_dir", str(out)]
    command += ["--tasks", f"{{alzheimer: {tmp_path / 'alzheimer.json'}}}", "--dataset_dir", str(tiny_phantom)]
    lines = ["--references", "[voxels, 'random, calibrated batch norm']", "--layers", "[1]", "--protocol", "sites"]
    weights = ["--weights", str(tmp_path / "weights.pt")]
    assert main([*command, *lines, *weights, "--dry-run"]) == 0
    assert "adapted to  a in alzheimer (20 people); b in alzheimer (20 people)" in capsys.readouterr().out
    assert main([*command, *lines, *weights]) == 0
    table = (out / "table.md").read_text()
    assert "Adaptive batch norm: features of tested subjects come from copies of the encoder whose" in table
    assert "a in alzheimer (20), b in alzheimer (20)" in table
    read = {name: np.load(path, allow_pickle=False) for name, path in embeddings_of(out)}
    adapted = {"y_aware", "y_aware__block_1", "random__calibrated_batch_norm"}
    assert {name for name, arrays in read.items() if "adapted_to" in arrays.files} == adapted
    assert set(read) - adapted == {"random_initialisation", "random_initialisation__block_1"}
    for name in adapted:
        assert set(read[name]["adapted_to"]) == {"", "a", "b"}
        assert (read[name]["adapted_to"][read[name]["task"] == "age"] == "").all()
        own = [read[name]["embedding"][read[name]["adapted_to"] == site] for site in "ab"]
        assert [len(part) for part in own] == [20, 20]
    plain = tmp_path / "plain"
    assert main([*command, *lines, *weights, "--adapt", "none", "--output_dir", str(plain)]) == 0
    scores = [pd.read_csv(folder / "scores.csv").set_index("method")["score"] for folder in (out, plain)]
    same = {name for name in set(scores[0].index) if scores[0][name].tolist() == scores[1][name].tolist()}
    first, last = "random initialisation, block 1", "random initialisation"
    assert same == {first, last, "voxels", "age, sex, TIV"} & set(scores[0].index)
    assert (out / "age.csv").read_text() == (plain / "age.csv").read_text()
    for more, reason in (
        (["--weights", str(tmp_path / "untrained.pt")], "100 % of the batch-norm statistics of"),
        ([*weights, "--protocol", "folds", "--n_folds", "2"], "both trains and tests at 'a', 'b'"),
        ([*weights, "--harmonize", "centre"], "`adapt: batch_norm` and `harmonize: centre` both take effects of sites"),
    ):
        assert main([*command, *lines, *more, "--output_dir", str(tmp_path / "refused")]) == 1
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()


def embeddings_of(folder):
    """Method and file of every embedding that a probe has written."""
    return [(path.stem.removeprefix("embeddings_"), path) for path in folder.glob("embeddings_*.npz")]
