"""Encoders pretrained on a phantom and on real maps, and untrained ones: how well they tell age and sex of real people.

    pytest -m slow tests/integration/test_leave_out.py

writes `eval/real_maps.md`. Five random splits of 48 people are enough to show that all of this runs on real maps, and
too few to rank anything.
"""

import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bundle.cli.main import main
from bundle.scans.grid import Grid, to_grid
from tests.conftest import ROOT

SCALE = ["--config", "configs/phantom.yaml"]
GRID = Grid.of((40, 48, 40), [[-4.5, 0, 0, 87.75], [0, 4.5, 0, -123.75], [0, 0, 4.5, -69.75], [0, 0, 0, 1]])
SPLITS = range(5)


def pretrain(datalist, folder, epochs, *more):
    places = ["--datalist", str(datalist), "--output_dir", str(folder), "--weights", str(folder / "encoder.pt")]
    last = ["--epochs", str(epochs), "--val_interval", str(epochs)]  # nobody of the validation chooses an epoch
    assert main(["pretrain", *more, *places, *last]) == 0
    return folder / "encoder.pt"


def on_the_grid_of_the_phantom(real_maps, folder):
    """The maps, averaged over voxels of 4.5 mm, and their table: weights refuse images of another grid."""
    folder.mkdir()
    shutil.copy(real_maps / "participants.tsv", folder)
    for path in sorted(real_maps.glob("mwp1*.nii.gz")):
        image = nib.load(path)
        volume = to_grid(np.asarray(image.dataobj, dtype=np.float32), image.affine, GRID)
        nib.save(nib.Nifti1Image(volume, GRID.matrix), folder / path.name)
    return folder


def split(real_maps, folder, seed):
    """Three quarters of the people to train on; for age as `validation`, for sex as `test` the others."""
    table, pattern = str(real_maps / "participants.tsv"), "mwp1{participant_id}_T1w.nii.gz"
    labels = ["--label-column", "sex", "--label-values", "F=0", "M=1", "--seed", str(seed)]
    labels += ["--shape", *map(str, GRID.shape)]
    ages, sexes = folder / "age.json", folder / "sex.json"
    shares = ["--fractions", "training=0.75", "validation=0.25"]
    assert main(["cohort", "--table", table, "--images", pattern, "--output", str(ages), *labels, *shares]) == 0
    datalist = json.loads(ages.read_text())
    sexes.write_text(json.dumps({**datalist, "test": datalist["validation"], "validation": []}))
    return ages, sexes, len(datalist["training"])


def probe(ages, sexes, size, weights, method, folder):
    places = ["--tasks", f"{{sex: {sexes}}}", "--age_datalist", str(ages), "--output_dir", str(folder)]
    options = ["--weights", str(weights), "--method", method, "--sizes", f"[{size}]", "--draws", "1"]
    assert main(["probe", *SCALE, *places, *options]) == 0
    aucs = pd.read_csv(folder / "results.csv").rename(columns={"auc": "sex ROC-AUC"}).set_index("method")
    errors = pd.read_csv(folder / "age.csv").rename(columns={"mae": "age MAE, years"}).set_index("method")
    return pd.concat([aucs[["sex ROC-AUC"]], errors[["age MAE, years"]]], axis=1)


@pytest.mark.slow
def test_age_and_sex_of_people_left_out(real_maps, tmp_path):
    from bundle.phantom.cohort import make_phantom

    make_phantom(tmp_path / "phantom", resolution=4.5, n_pretraining=1500, n_per_task=40)
    maps = on_the_grid_of_the_phantom(real_maps, tmp_path / "maps")
    phantom = pretrain(tmp_path / "phantom/pretraining.json", tmp_path / "phantom_run", 6, *SCALE)
    tables = []
    for seed in SPLITS:
        folder = tmp_path / f"split_{seed}"
        folder.mkdir()
        ages, sexes, size = split(maps, folder, seed)
        own = pretrain(ages, folder / "run", 40, *SCALE, "--batch_size", "12", "--seed", str(seed))
        for weights, method in ((phantom, "y-Aware on the phantom"), (own, "y-Aware on the real maps")):
            table = probe(ages, sexes, size, weights, method, folder / method.replace(" ", "_"))
            knows = ["age, sex, TIV"]  # the answer; lines of reference count once
            tables.append(table.drop(index=table.index.difference([method]) if weights == own else knows))
    everything = pd.concat(tables).groupby(level=0, sort=False)
    summary = everything.agg(["mean", "std"]).round(3)
    lines = {"random initialisation", "voxels", "regions, elastic net", "mean age"}
    assert {"y-Aware on the phantom", "y-Aware on the real maps"} | lines <= set(summary.index)
    assert summary["sex ROC-AUC", "mean"].dropna().between(0, 1).all()
    assert summary["age MAE, years", "mean"].dropna().between(1, 20).all()  # lines of native voxels have no age
    (ROOT / "eval").mkdir(exist_ok=True)
    summary.columns = [f"{name}, {what}" for name, what in summary.columns]
    (ROOT / "eval" / "real_maps.md").write_text(summary.to_markdown() + "\n")
