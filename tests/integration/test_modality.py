"""Maps of another kind than grey matter, from the table to the page of an answer, by the command line."""

import json
import re

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bundle.cli.main import main
from bundle.cohort.modality import modality_of_weights
from bundle.scans.grid import Grid, templates, to_grid
from bundle.scans.modality import modality_of
from tests.conftest import SMALL

pytestmark = pytest.mark.long
GRID = Grid.of((30, 36, 30), [[-6, 0, 0, 87], [0, 6, 0, -123], [0, 0, 6, -69], [0, 0, 0, 1]])
QUICK = [*SMALL, "--epochs", "1", "--batch_size", "8", "--num_workers", "0", "--learning_rate", "1.0e-3"]


def reho_like(seed, patient):
    known, random = templates(GRID), np.random.default_rng(seed)
    back = np.linspace(1.6, 0.4, GRID.shape[1], dtype=np.float32)[None, :, None]
    noise = random.normal(1 - 0.1 * patient, 0.1, GRID.shape)
    return (0.25 * known["grey matter"] * back * noise).clip(0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """A cohort of 64, an encoder, a classifier, and two answers."""
    folder = tmp_path_factory.mktemp("reho")
    rows = []
    for n in range(64):
        row = {"participant_id": f"sub-{n:03d}", "age": 20 + n / 2, "sex": "FM"[n % 2], "site": "abc"[n % 3]}
        rows.append({**row, "diagnosis": ("control", "autism")[n // 2 % 2]})
        nib.save(nib.Nifti1Image(reho_like(n, n // 2 % 2), GRID.matrix), folder / f"sub-{n:03d}_reho.nii.gz")
    pd.DataFrame(rows).to_csv(folder / "participants.tsv", sep="\t", index=False)
    table = ["--table", str(folder / "participants.tsv"), "--images", "{participant_id}_reho.nii.gz"]
    shape = ["--shape", "30", "36", "30", "--modality", "reho"]
    words = ["--label-column", "diagnosis", "--label-values", "control=0", "autism=1", "--test-sites", "c"]
    for name in ("pretraining", "autism"):
        main(["cohort", *table, *shape, *words, "--output", str(folder / f"{name}.json")])
    data = ["--dataset_dir", str(folder)]
    made = {name: str(folder / name) for name in ("pretrained.pt", "model.pt")}
    overlay = ["--config", "configs/modality_reho.yaml"]
    main(["pretrain", *overlay, *data, *QUICK, "--output_dir", f"{folder}/pre", "--weights", made["pretrained.pt"]])
    start = ["--weights", made["pretrained.pt"], "--model", made["model.pt"], "--task", "autism"]
    trained = [*data, *start, *QUICK[len(SMALL) :], "--class_names", "[control, autism]"]
    main(["train", *trained, "--output_dir", f"{folder}/train"])
    (folder / "in").mkdir()
    for n in (2, 5):
        nib.save(nib.Nifti1Image(reho_like(100 + n, n // 2 % 2), GRID.matrix), folder / "in" / f"sub-{n}_reho.nii.gz")
    answers = ["--model", made["model.pt"], "--output", f"{folder}/answers", "--num_workers", "0"]
    main(["predict", str(folder / "in"), *answers])
    return folder


def test_datalist_and_cards_say_the_modality(answered):
    assert json.loads((answered / "autism.json").read_text())["modality"] == "reho"
    for name in ("pretrained", "model"):
        card = json.loads((answered / f"{name}.json").read_text())
        assert card["modality"] == "reho"
        assert any(step.get("nonzero") for step in card["preprocessing_steps"])
    assert card["contract"]["modality"] == "reho"


def test_no_page_speaks_of_grey_matter(answered):
    pages = [*(answered / "answers").rglob("*.html")]
    assert len(pages) == 3
    for page in pages:
        text = re.sub(r"data:image[^\"]*|<style.*?</style>|<script.*?</script>", "", page.read_text(), flags=re.DOTALL)
        said = {line.strip() for line in text.splitlines() if re.search(r"gr[ae]y.matter|\bmL\b|mwp1|CAT12", line)}
        assert said == set(), page
    scan = next(page for page in pages if page.parent.name == "scans").read_text()
    assert "map of regional homogeneity (ReHo)" in scan
    assert "mean regional homogeneity of a region" in scan


def test_regions_are_means(answered):
    regions = pd.read_csv(answered / "answers/regions.tsv", sep="\t")
    assert {"mean", "expected_mean"} <= set(regions)
    assert "volume_ml" not in regions
    assert regions["mean"].between(0.01, 0.5).all()


def test_a_grey_matter_map_gets_no_answer(answered, tmp_path):
    nib.save(nib.Nifti1Image(0.9 * templates(GRID)["grey matter"][:, ::-1].copy(), GRID.matrix), tmp_path / "gm.nii.gz")
    answers = ["--model", str(answered / "model.pt"), "--output", str(tmp_path / "out"), "--num_workers", "0"]
    main(["predict", str(tmp_path / "gm.nii.gz"), *answers])
    (row,) = pd.read_csv(tmp_path / "out/predictions.csv").to_dict("records")
    assert row["verdict"] == "refuse"
    assert "another kind of map" in row["reasons"]


@pytest.mark.parametrize("command", ["probe", "train", "evaluate", "predict", "pretrain"])
def test_a_datalist_of_grey_matter_is_refused(answered, tmp_path, command, capsys):
    content = json.loads((answered / "autism.json").read_text())
    for section in ("training", "validation", "test"):
        for record in content[section]:
            record["image"] = str(answered / record["image"])
    for name in ("autism", "pretraining"):
        (tmp_path / f"{name}.json").write_text(json.dumps({**content, "modality": "gm"}))
    encoder, model, data = str(answered / "pretrained.pt"), str(answered / "model.pt"), ["--dataset_dir", str(tmp_path)]
    given = {
        "pretrain": [*data, "--start", encoder, *QUICK],
        "probe": [*data, "--weights", encoder, "--tasks", "{autism: autism.json}", "--sizes", "[10]", "--draws", "1"],
        "train": [*data, "--weights", encoder, "--task", "autism", "--class_names", "[control, autism]"],
        "evaluate": [*data, "--model", model, "--task", "autism", "--class_names", "[control, autism]"],
        "predict": [str(tmp_path / "autism.json"), "--model", model, "--output", str(tmp_path / "out")],
    }[command]
    if command == "probe":
        given[given.index("{autism: autism.json}")] = f"{{autism: {tmp_path}/autism.json}}"
    overlay = ["--config", "configs/modality_reho.yaml"] if command == "pretrain" else []
    folder = [] if command == "predict" else ["--output_dir", str(tmp_path / "run")]
    assert main([command, *given, *overlay, *folder]) == 1
    said = capsys.readouterr().err
    assert "grey-matter maps" in said
    assert "regional homogeneity" in said
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").glob("*.pt"))


def test_pretraining_may_start_from_another_modality_where_that_is_asked_for(answered, tmp_path):
    content = json.loads((answered / "pretraining.json").read_text())
    for record in [*content["training"], *content["validation"]]:
        record["image"] = str(answered / record["image"])
    (tmp_path / "pretraining.json").write_text(json.dumps({**content, "modality": "gm"}))
    data = ["--dataset_dir", str(tmp_path)]
    places = [*data, "--output_dir", str(tmp_path / "run"), "--weights", str(tmp_path / "e.pt")]
    start = ["--start", str(answered / "pretrained.pt"), "--allow_other_grid", "true"]
    assert main(["pretrain", *places, *start, *QUICK]) == 0
    assert modality_of_weights(tmp_path / "e.pt").name == "gm"


def test_a_scan_of_the_scanner_is_refused(answered, tmp_path, capsys):
    (tmp_path / "scans.zip").write_bytes(b"PK")
    model = ["--model", str(answered / "model.pt"), "--output", str(tmp_path / "out")]
    assert main(["predict", str(tmp_path / "scans.zip"), *model]) == 1
    assert "only grey-matter maps are made here" in capsys.readouterr().err


def test_the_table_is_printed(capsys):
    assert main(["modalities"]) == 0
    assert "| `reho`" in capsys.readouterr().out


def test_real_maps_at_3_mm_as_a_kind_of_ones_own(real_maps, tmp_path):
    """T1w-based maps averaged onto the grid of functional maps, with words and ranges that a file states."""
    coarse = Grid.of((61, 73, 61), [[-3, 0, 0, 90], [0, 3, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])
    people = pd.read_csv(real_maps / "participants.tsv", sep="\t").head(24)
    for person in people["participant_id"]:
        image = nib.load(real_maps / f"mwp1{person}_T1w.nii.gz")
        volume = to_grid(image.get_fdata(dtype=np.float32), image.affine, coarse)
        nib.save(nib.Nifti1Image(volume, coarse.matrix), tmp_path / f"{person}_map.nii.gz")
    people.to_csv(tmp_path / "participants.tsv", sep="\t", index=False)
    own = {"name": "density", "words": "map of tissue density", "quantity": "tissue density", "tissue": "grey matter"}
    own |= {"lowest": [-0.1, 0.3], "highest": [0.3, 4.0], "likeness": [0.4, 0.5], "is_amount": True}
    (tmp_path / "density.yaml").write_text(json.dumps({"modality": own}))
    table = ["--table", str(tmp_path / "participants.tsv"), "--images", "{participant_id}_map.nii.gz"]
    made = [
        "--output",
        f"{tmp_path}/pretraining.json",
        "--modality",
        f"{tmp_path}/density.yaml",
        "--label-column",
        "none",
    ]
    assert main(["cohort", *table, *made]) == 2  # of such a map no grid is usual
    assert main(["cohort", *table, *made, "--shape", "61", "73", "61"]) == 0
    assert json.loads((tmp_path / "pretraining.json").read_text())["modality"]["words"] == own["words"]
    places = ["--dataset_dir", str(tmp_path), "--output_dir", str(tmp_path), "--weights", str(tmp_path / "own.pt")]
    assert main(["pretrain", *places, *QUICK]) == 0
    card = json.loads((tmp_path / "own.json").read_text())
    assert modality_of(card["modality"], "the card") == modality_of(own, "here")
    assert main(["pretrain", "--config", "configs/modality_reho.yaml", *places, *QUICK]) == 1
