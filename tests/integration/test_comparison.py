"""The comparison, run for real on a tiny phantom: complete, resumed, refused."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from monai.transforms import LoadImage, NormalizeIntensity

from bundle.cli.main import main
from bundle.cohort.datalist import load_section
from bundle.evaluation.plan import REFERENCES
from bundle.networks.weights import load_encoder
from tests.conftest import ROOT, with_full_paths

pytestmark = pytest.mark.long

OWN = ("y_aware", "own_share")
LINES = [name for name in REFERENCES if name != "site"]  # test sites are not trained on
METHODS = {"y-Aware", "SimCLR", "from scratch", "y-Aware, fine-tuned", *LINES}
RUN = {
    "tasks": ["schizophrenia", "alzheimer"],
    "pretexts": {"y-Aware": [], "SimCLR": ["configs/pretext_simclr.yaml"]},
    "networks": {"from scratch": "scratch", "y-Aware, fine-tuned": "y-Aware"},
    "sizes": [20],  # the probe's own test has two
    "seeds": [3, 8],
    "pretraining": {"epochs": 1},
    "fine_tuning": {"epochs": 1},
}


def write_plan(phantom, folder, **changes):
    scale = {"init_features": 8, "growth_rate": 4, "block_config": [1, 1, 1], "batch_size": 16}
    (folder / "small.yaml").write_text("# Overlay\n" + yaml.safe_dump(scale))
    overlays = ["configs/phantom.yaml", str(folder / "small.yaml")]
    plan = {**RUN, "dataset_dir": str(phantom), "output_dir": str(folder / "compare"), "overlays": overlays, **changes}
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    return ["compare", "--config", str(folder / "plan.yaml")]


@pytest.fixture(scope="module")
def compared(tiny_phantom, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert main(write_plan(tiny_phantom, folder)) == 0
    return folder


def test_every_method_task_size_and_draw_has_one_row(compared):
    results = pd.read_csv(compared / "compare" / "results.csv")
    assert set(results["method"]) == METHODS
    assert not results.duplicated(["method", "task", "n", "draw"]).any()
    assert len(results) == len(METHODS) * 2 * 2
    assert results["auc"].between(0, 1).all()


def test_a_cache_is_read_in_place_of_images(compared, tiny_phantom, tmp_path, capsys):
    for name in ("pretraining", "schizophrenia"):
        cache = ["--datalist", str(tiny_phantom / f"{name}.json"), "--output", str(tmp_path / "cache")]
        assert main(["cache", *cache, "--workers", "0"]) == 0
    one = {"tasks": ["schizophrenia"], "seeds": [3], "networks": {"from scratch": "scratch"}}
    command = write_plan(tmp_path / "cache", tmp_path, pretexts={"y-Aware": []}, **one)
    assert main([*command, "--dry-run"]) == 0
    assert "y-Aware, seed 3: pretraining" in capsys.readouterr().out
    assert main(command) == 0
    cached, read = (pd.read_csv(folder / "compare" / "results.csv") for folder in (tmp_path, compared))
    assert {"y-Aware", "from scratch"} < set(cached["method"]) < METHODS
    known = ("age, sex, TIV", "schizophrenia", 0)
    rows = [table.set_index(["method", "task", "draw"]).loc[known, "auc"] for table in (cached, read)]
    assert rows[0] == rows[1]
    texts = [(folder / "compare" / "table.md").read_text() for folder in (tmp_path, compared)]
    assert "how far another would move it is not known" in texts[0]
    assert "mean over 2 seeds (95 % interval over subjects and seeds)" in texts[1]
    assert re.search(r"\| y-Aware +\| 0\.\d{3} ± 0\.\d{3} ", texts[1])  # the site, as an encoder knows it


def test_all_methods_learn_from_the_same_subjects(compared, tiny_phantom):
    """What validates a network comes out of the subjects that a probe trains on, so both see the same ones."""
    cards = [
        json.loads((compared / "compare/runs" / name / "seed_8" / "alzheimer_20" / "model.json").read_text())
        for name in ("from_scratch", "y_aware__fine_tuned")
    ]
    assert cards[0]["subjects"] == cards[1]["subjects"] == {"training": 16, "validation": 4}
    assert cards[0]["pretrained"] == "scratch"
    assert cards[1]["pretrained"]["path"].endswith("y_aware/seed_8/pretraining/pretrained.pt")
    assert set(cards[0]["fingerprints"]["participants"]) < set(cards[1]["fingerprints"]["participants"])


def test_every_pair_is_tested_and_corrected(compared):
    tests = pd.read_csv(compared / "compare" / "tests.csv")
    pairs = len(METHODS) * (len(METHODS) - 1) // 2
    assert len(tests) == pairs * 2
    assert (tests["p_holm"] >= tests["p"]).all()
    assert tests["draws_won"].between(0, 2).all()


def test_the_table_says_what_it_is_and_the_figures_are_there(compared):
    text = (compared / "compare" / "table.md").read_text()
    assert "This is a phantom" in text
    assert all(method in text for method in METHODS)
    assert all(word in text for word in ("Best achievable", "Holm", "OpenBHB", "calibration error"))
    for name in ("learning_curves", "embeddings", "calibration"):
        assert (compared / "compare" / f"{name}.png").stat().st_size > 10_000
    knowledge = pd.read_csv(compared / "compare" / "knowledge.csv")
    expected = knowledge["site_accuracy"] ** 0.3 * knowledge["age_mae"]
    assert knowledge["openbhb_score"].tolist() == pytest.approx(expected.tolist(), rel=1e-12)
    assert len(knowledge) == (2 + 3) * 2


def test_what_is_done_is_not_done_again_and_what_is_missing_is(compared, tiny_phantom):
    runs = compared / "compare" / "runs"
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("settings.json")}
    table = (compared / "compare" / "results.csv").read_text()
    lost = runs / "simclr" / "seed_3" / "probe" / "settings.json"
    lost.unlink()
    assert main(write_plan(tiny_phantom, compared)) == 0
    after = {path: path.stat().st_mtime_ns for path in runs.rglob("settings.json")}
    assert {path for path in before if before[path] != after[path]} == {lost}
    assert (compared / "compare" / "results.csv").read_text() == table


def test_scores_that_are_no_log_odds_have_no_calibration(compared):
    calibration = pd.read_csv(compared / "compare" / "calibration.csv")
    assert METHODS - set(calibration["method"]) == {"voxels, native, ridge classifier", "regions, RBF-SVM"}


def test_lines_can_be_left_out_and_the_rest_is_not_done_again(compared, tiny_phantom):
    runs = compared / "compare" / "runs"
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("settings.json")}
    assert main(write_plan(tiny_phantom, compared, probing={"references": ["voxels"]})) == 0
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("settings.json")} == before
    shown = set(pd.read_csv(compared / "compare" / "results.csv")["method"])
    assert shown == METHODS - set(LINES) | {"random initialisation", "voxels"}


def test_a_pretext_can_be_added(compared, tiny_phantom):
    more = {**RUN["pretexts"], "age regression": ["configs/pretext_age_regression.yaml"]}
    assert main(write_plan(tiny_phantom, compared, pretexts=more)) == 0
    assert "age regression" in set(pd.read_csv(compared / "compare" / "results.csv")["method"])


def test_a_pretext_may_have_options_and_is_then_another_setting(compared, tiny_phantom, tmp_path, capsys):
    runs = compared / "compare" / "runs"
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("settings.json")}
    same_again = {name: {"overlays": overlays, "options": {}} for name, overlays in RUN["pretexts"].items()}
    own = {"overlays": [], "options": {"own_share": 0.5, "epochs": 1}}
    assert main(write_plan(tiny_phantom, compared, pretexts={**same_again, "own share": own})) == 0
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    cards = [json.loads((runs / name / "seed_3/pretraining/pretrained.json").read_text()) for name in OWN]
    assert ["own_share=0.5" in card["loss"] for card in cards] == [False, True]
    changed = {**same_again, "y-Aware": {"options": {"own_share": 0.5}}}
    command = write_plan(tiny_phantom, tmp_path, output_dir=str(compared / "compare"), pretexts=changed)
    assert main(command) == 1
    assert re.search(r"was made with other settings \(options .*'own_share': 0.5", capsys.readouterr().err)
    misspelt = {"y-Aware": {"options": {"own_shar": 0.5}}}
    assert main(write_plan(tiny_phantom, tmp_path, pretexts=misspelt, networks={})) == 2
    assert "There is no option --own_shar; did you mean 'own_share'" in capsys.readouterr().err


def test_a_network_may_start_from_a_classifier(compared, tiny_phantom, trained, tmp_path, capsys):
    """From that of another task with the same seed, and from a file; nobody who is tested was trained on before."""
    stages = {"after schizophrenia": {"network": "from scratch", "task": "schizophrenia"}}
    networks = {**RUN["networks"], **stages, "from a file": str(trained / "model.pt")}
    assert main(write_plan(tiny_phantom, compared, networks=networks)) == 0
    results = pd.read_csv(compared / "compare" / "results.csv")
    lines = {name: set(results.loc[results["method"] == name, "task"]) for name in networks}
    assert lines["after schizophrenia"] == {"alzheimer"}
    assert lines["from a file"] == {"schizophrenia", "alzheimer"}
    card = json.loads((compared / "compare/runs/after_schizophrenia/seed_8/alzheimer_20/model.json").read_text())
    first = compared / "compare/runs/from_scratch/seed_8/schizophrenia_20/model.json"
    assert card["pretrained"]["sha256"] == json.loads(first.read_text())["sha256"]
    assert card["pretrained"]["task"] == "schizophrenia"
    tested = with_full_paths(tiny_phantom / "bipolar.json")
    tested["test"] += with_full_paths(tiny_phantom / "alzheimer.json")["training"][:1]
    (tmp_path / "bipolar.json").write_text(json.dumps(tested))
    (tmp_path / "pretraining.json").write_text(json.dumps(with_full_paths(tiny_phantom / "pretraining.json")))
    seen = write_plan(tmp_path, tmp_path, networks={"from a file": str(trained / "model.pt")}, tasks=["bipolar"])
    assert main(seen) == 1
    assert "Participants of bipolar were in the training of" in capsys.readouterr().err
    assert not (tmp_path / "compare" / "runs").exists()


def test_a_document_shows_the_results(compared, tiny_phantom):
    document = compared / "results.md"
    document.write_text("# Mine\n<!-- comparison -->\nold\n<!-- /comparison -->\nmy words\n")
    command = write_plan(tiny_phantom, compared, document=str(document))
    assert main(command) == 0
    first = document.read_text()
    assert first.startswith("# Mine\n")
    assert first.endswith("\nmy words\n")
    assert "old" not in first
    assert "seeds 3, 8" in first
    assert "| alzheimer" in first
    assert len(list((compared / "images").glob("comparison_*.png"))) == 3
    assert main(command) == 0
    assert document.read_text() == first
    document.write_text("no place")
    assert main(command) == 1


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        (
            {"pretraining": {"epochs": 2}},
            1,
            r"was made with other settings \(options \{'epochs': 1\} → \{'epochs': 2\}\)",
        ),
        (
            {"networks": {"mine": "y-aware"}},
            1,
            "starts from 'y-aware', which is no pretext and no file; did you mean 'y-Aware'",
        ),
        ({"networks": {"voxels": "scratch"}}, 1, "Methods need names that differ"),
        ({"seeds": [1, 1]}, 1, "`seeds` must name at least one, each once"),
        ({"tasks": ["autism"]}, 1, "There is no datalist .*autism.json"),
        ({"pretraining": {"epoch": 2}}, 2, "There is no option --epoch; did you mean 'epochs'"),
        ({"pretexts": {"mine": ["configs/mine.yaml"]}, "networks": {}}, 2, "There is no config configs/mine.yaml"),
        ({"probing": {"references": ["site", "nothing"]}}, 2, "references is .* but all, or a list of any of"),
        ({"probing": {"atlas": "nowhere.nii"}}, 1, "nowhere.nii cannot be used"),
        ({"size": [3]}, 2, "sets 'size', which no config has; did you mean 'sizes'"),
        ({"sizes": [500]}, 1, "500 participants cannot be drawn"),
    ],
)
def test_refusals(compared, tiny_phantom, tmp_path, capsys, changes, status, reason):
    command = write_plan(tiny_phantom, tmp_path, **{"output_dir": str(compared / "compare"), **changes})
    assert main(command) == status
    error = capsys.readouterr().err
    assert re.search(reason, error), error


def test_all_is_checked_before_any_work(compared, tiny_phantom, tmp_path, capsys):
    """The last unit alone was made with other settings: nothing that comes before it is run."""
    command = write_plan(tiny_phantom, compared)
    runs = compared / "compare" / "runs"
    path = runs / "from_scratch" / "seed_8" / "alzheimer_20" / "settings.json"
    kept, first = path.read_text(), runs / "y_aware" / "seed_3" / "probe" / "settings.json"
    path.write_text(json.dumps({**json.loads(kept), "size": 21}))
    before = first.read_text()
    first.unlink()
    assert main(command) == 1
    assert "alzheimer_20 was made with other settings (size 21 → 20)" in capsys.readouterr().err
    path.write_text(json.dumps({**json.loads(kept), "code": "0123456789abcdef"}))
    assert main(command) == 1
    assert "was made with other settings (code 0123456789abcdef → " in capsys.readouterr().err
    assert not first.exists()
    path.write_text(kept)
    first.write_text(before)


def test_features_are_read_once_more_with_other_options(compared, tiny_phantom, capsys):
    readings = {
        "as before": {"of": "y-Aware"},
        "taken out": {"of": "y-Aware", "probing": {"adjust": ["age", "sex"]}},
        "voxels, taken out": {"of": "voxels", "probing": {"adjust": ["age", "sex"]}},
    }
    assert main(write_plan(tiny_phantom, compared, readings=readings)) == 0
    found = pd.read_csv(compared / "compare" / "results.csv").pivot(
        index=["task", "n", "draw"], columns="method", values="auc"
    )
    assert found["as before"].tolist() == found["y-Aware"].tolist()
    assert found["taken out"].tolist() != found["y-Aware"].tolist()
    assert found["voxels, taken out"].tolist() != found["voxels"].tolist()
    knowledge = pd.read_csv(compared / "compare" / "knowledge.csv").set_index(["method", "seed"])
    assert knowledge.loc["as before"].equals(knowledge.loc["y-Aware"])
    assert not (compared / "compare/runs/as_before/seed_3/pretraining").exists()
    wrong = {"mine": {"of": "y-Awar", "probing": {}}}
    assert main(write_plan(tiny_phantom, compared, readings=wrong)) == 1
    assert "The reading 'mine' is of 'y-Awar', whose features are not compared; did you mean" in capsys.readouterr().err


@pytest.fixture(scope="module")
def new_site(tiny_phantom, tmp_path_factory):
    """A phantom whose test section is one site of 22 people."""
    folder = tmp_path_factory.mktemp("new_site")
    for name in ("alzheimer", "pretraining", "phantom"):
        (folder / f"{name}.json").write_text((tiny_phantom / f"{name}.json").read_text())
    (folder / "pretraining.json").write_text(json.dumps(with_full_paths(tiny_phantom / "pretraining.json")))
    content = with_full_paths(tiny_phantom / "alzheimer.json")
    everybody = [record for section in ("training", "validation", "test") for record in content[section]]
    content |= {"training": everybody[:18], "validation": [], "test": [{**r, "site": "new"} for r in everybody[18:]]}
    (folder / "alzheimer.json").write_text(json.dumps(content))
    return folder


ADAPTED = {"adapted": {"of": "y-Aware", "probing": {"adapt": "batch_norm"}}}


def adapting(phantom, folder, **changes):
    fixed = {"tasks": ["alzheimer"], "pretexts": {"y-Aware": []}, "networks": {}, "sizes": [12], "seeds": [3]}
    pretraining = {"epochs": 9, "batch_size": 10, "keep": "last"}
    plan = {"pretraining": pretraining, "probing": {"references": ["voxels"]}, "readings": ADAPTED}
    return write_plan(phantom, folder, **{**fixed, **plan, **changes})


def test_batch_norm_is_adapted_to_the_sites_that_are_tested(new_site, tmp_path, capsys):
    assert main(adapting(new_site, tmp_path)) == 0
    runs = tmp_path / "compare" / "runs"
    plain, adapted = (
        np.load(runs / name / "seed_3/probe/embeddings.npz", allow_pickle=False) for name in ("y_aware", "adapted")
    )
    assert plain["participant_id"].tolist() == adapted["participant_id"].tolist()
    test = plain["section"] == "test"
    assert adapted["adapted_to"].tolist() == ["new" if tested else "" for tested in test]
    assert np.array_equal(plain["embedding"][~test], adapted["embedding"][~test])
    encoder = load_encoder(runs / "y_aware/seed_3/pretraining/pretrained.pt").encoder
    records = load_section(new_site / "alzheimer.json", "test")
    volumes = [NormalizeIntensity()(LoadImage(image_only=True, ensure_channel_first=True)(r["image"])) for r in records]
    encoder.train()
    with torch.no_grad():
        told = encoder(torch.stack([torch.as_tensor(np.asarray(v), dtype=torch.float32) for v in volumes]), pool=2)
    assert [r["participant_id"] for r in records] == adapted["participant_id"][test].tolist()
    # a batch that is normalised by itself has the biased variance of its values, and running statistics the unbiased
    assert adapted["embedding"][test] == pytest.approx(told.numpy(), abs=0.05 * told.std().item() + 0.02)
    assert np.abs(plain["embedding"][test] - told.numpy()).mean() > 0.1
    found = pd.read_csv(tmp_path / "compare" / "results.csv").set_index("method")["auc"]
    assert len(found) == 4
    text = (tmp_path / "compare" / "table.md").read_text()
    assert "adapted: Adaptive batch norm" in text
    assert "People by whose scans: new in alzheimer (22)." in text
    settings = [json.loads((runs / name / "seed_3/probe/settings.json").read_text()) for name in ("y_aware", "adapted")]
    assert "adapt" not in settings[0]["options"]
    assert settings[1]["options"]["adapt"] == "batch_norm"


def test_labels_of_those_who_are_tested_have_no_part_in_what_is_adapted(new_site, tmp_path):
    content = json.loads((new_site / "alzheimer.json").read_text())
    for record in content["test"]:
        record["label"] = 1 - record["label"]
    for name in ("pretraining", "phantom"):
        (tmp_path / f"{name}.json").write_text((new_site / f"{name}.json").read_text())
    (tmp_path / "alzheimer.json").write_text(json.dumps(content))
    reading = {"adapted": {"of": "random, calibrated batch norm", "probing": {"adapt": "batch_norm"}}}
    options = {"readings": reading, "pretraining": {"epochs": 1}}
    options["probing"] = {"references": ["random, calibrated batch norm"]}
    scores = []
    for phantom, folder in ((new_site, tmp_path / "a"), (tmp_path, tmp_path / "b")):
        folder.mkdir()
        assert main(adapting(phantom, folder, **options)) == 0
        table = pd.read_csv(folder / "compare/runs/adapted/seed_3/probe/scores.csv").set_index("participant_id")
        scores.append(table)
    assert (scores[0]["label"] != scores[1]["label"]).all()
    assert scores[0]["score"].equals(scores[1]["score"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"pretexts": {"y-Aware": ["configs/encoder_group_norm.yaml"]}, "overlays": ["configs/phantom.yaml"]},
            "'y-Aware' has no batch norm that keeps statistics, so that `adapt: batch_norm` would change nothing",
        ),
        (
            {"readings": {"mine": {"of": "voxels", "probing": {"adapt": "batch_norm"}}}},
            "The reading 'mine' adapts 'voxels', which has no batch norm with statistics of data",
        ),
        (
            {"readings": {"mine": {"of": "y-Aware", "probing": {"adapt": "batch_norm", "harmonize": "project"}}}},
            "`adapt: batch_norm` and `harmonize: project` both take effects of sites out",
        ),
        ({"dataset_dir": "tiny"}, "needs at least 20 people who are tested at a site, or at all smaller sites"),
    ],
)
def test_what_cannot_be_adapted_is_refused_before_any_work(new_site, tiny_phantom, tmp_path, capsys, changes, reason):
    places = {"dataset_dir": str(tiny_phantom)} if "dataset_dir" in changes else {}
    assert main(adapting(new_site, tmp_path, **{**changes, **places})) == 1
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "compare" / "runs").exists()
