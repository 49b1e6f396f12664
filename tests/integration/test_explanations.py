"""How well each kind of map finds the regions that a disease of the phantom really changes.

    pytest -m slow tests/integration/test_explanations.py

writes `eval/explanations.md`. The truth: the regions whose volume differs by at least 0.9 standard deviations in the
phantom's Alzheimer's disease. Chance is the share of the brain that they fill for the pointing game (is the strongest
place of a map in them?), 0.5 for the ROC-AUC of voxels (are their places stronger than others?), and 0 for the rank
correlation of what a map says of 34 regions with the disease's true effects on them. Intervals are over patients.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from monai.networks.nets import DenseNet
from scipy.stats import spearmanr

from bundle.cohort.datalist import load_section
from bundle.metrics.classification import roc_auc
from bundle.networks.cards import read_card
from bundle.networks.classifiers import Classifier
from bundle.networks.weights import load_network
from bundle.prediction.maps import (
    METHODS,
    TARGETS,
    Question,
    Similarity,
    explain,
    in_regions,
    randomised,
    regional_changes,
)
from bundle.prediction.training_record import load_record
from bundle.scans.contract import Contract
from bundle.scans.measures import correlation
from bundle.scans.regions import REGIONS, region_weights, regional_volumes
from tests.conftest import OVERLAY, ROOT, TASK

LARGE, PATIENTS = -0.9, 20


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A classifier trained from scratch at 4.5 mm, and the patients of its test set."""
    from bundle.cli.main import main
    from bundle.phantom.cohort import make_phantom

    folder = tmp_path_factory.mktemp("explanations")
    make_phantom(folder, resolution=4.5, n_pretraining=40, n_per_task=400)
    places = ["--dataset_dir", str(folder), "--output_dir", str(folder / "run"), "--model", str(folder / "model.pt")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert main(["train", "--config", TASK, OVERLAY, *places, "--weights", "scratch"]) == 0
    patients = [r for r in load_section(folder / "alzheimer.json", "test") if r["label"] == 1]
    return folder / "model.pt", patients


def truth():
    """Voxels of the changed regions, and those of the brain."""
    from bundle.phantom.model import REGIONS, VOLUMES, region_weights, template

    changed = {name for name, region in REGIONS.items() if region.effects[2] <= LARGE}
    rows = [i for i, name in enumerate(VOLUMES) if name.rsplit("_", 1)[0] in changed]
    brain = template(4.5) > 0.1
    return (region_weights(4.5)[rows].sum(0) > 0.5) & brain, brain


def volume_of(record):
    from monai.transforms import LoadImage, NormalizeIntensity

    return torch.as_tensor(NormalizeIntensity()(LoadImage(image_only=True)(record["image"])[None]))[None].float()


def questions(classifier, record, grid):
    healthy, known, weights = torch.as_tensor(record.healthy)[None], record.embeddings, region_weights(grid)
    means = [known.embedding[known.labels == 1].mean(0), known.embedding.mean(0)]
    likeness_to_patients = Similarity(classifier, *(torch.as_tensor(m, dtype=torch.float32) for m in means))
    for method in METHODS:
        yield "class", Question(method, classifier, reference=healthy, weights=weights)
        yield "similarity", Question(method, likeness_to_patients, 1, False, healthy, weights)
    yield "class, hidden by 0", Question("regions", classifier, weights=weights)
    yield "class, hidden by 0", Question("occlusion", classifier)


def by_region(question, found, volume, grid):
    """What a map says of each named region: its mean there; of the method `regions` the change over the size."""
    weights = region_weights(grid)[:-1]
    if question.method == "regions":
        return regional_changes(question, volume)[:-1] / weights.sum(1)
    return weights @ found.ravel() / weights.sum(1)


def effects():
    """How much the disease takes from each named region, standard deviations; the same on both sides."""
    from bundle.phantom.tables import REGIONS

    return -np.tile([region.effects[2] for region in REGIONS.values()], 2)


def scores(found, regional, changed, brain):
    """Is the strongest place of the brain a changed one; ROC-AUC of voxels; rank correlation with the effects."""
    inside = np.where(brain, found, -np.inf)
    hit = changed[np.unravel_index(inside.argmax(), inside.shape)]
    rank = spearmanr(regional, effects()).statistic if np.ptp(regional) else 0.0  # a map that says nothing
    return float(hit), float(roc_auc(changed[brain].astype(int), found[brain])), float(rank)


def with_interval(values):
    """The mean over patients, with a 95 % bootstrap interval over them."""
    values = values.to_numpy()
    if np.isnan(values).any():
        return "–"
    drawn = np.random.default_rng(0).choice(values, (2000, len(values))).mean(1)
    return f"{values.mean():.2f} ({np.percentile(drawn, 2.5):.2f} to {np.percentile(drawn, 97.5):.2f})"


def drawn(grid, changed, brain, draws=20):
    """What `regions` reaches with changes that are drawn: small regions have large values over their sizes."""
    weights, random = region_weights(grid), np.random.default_rng(0)
    for changes in random.normal(size=(draws * PATIENTS, len(REGIONS))):
        marks = scores(in_regions(changes, weights, grid.shape), changes[:-1] / weights[:-1].sum(1), changed, brain)
        yield ("regions", "drawn at random", *marks, *[np.nan] * 3)


def volumes_alone(record, patient, grid, changed, brain):
    """The same scores of the regional volumes themselves, without any network: how much each region lacks.

    Only of patients within the ages and head sizes of the healthy training people.
    """
    own = regional_volumes(Contract({"grid": grid.card}).examine(patient["image"]).volume, grid)
    compared = record.volumes.compare(own, patient)
    if compared.is_known:
        lack = -compared.z[:-1]
        marks = scores((lack @ region_weights(grid)[:-1]).reshape(grid.shape), lack, changed, brain)
        yield ("regional volumes (z)", "no network", *marks, *[np.nan] * 3)


def scored(weights, patients):
    """A row for each patient and method."""
    card = read_card(weights)
    network, record, grid = DenseNet(3, 1, 2, **card["network"]), load_record(weights), Contract(card["contract"]).grid
    load_network(weights, network)
    classifier, (changed, brain) = Classifier(network).eval(), truth()
    for number, patient in enumerate(patients):
        volume = volume_of(patient)
        for target, question in questions(classifier, record, grid):
            untrained = replace(question, network=randomised(question.network, seed=number))
            found, other = explain(question, volume), explain(untrained, volume)
            marks = scores(found, by_region(question, found, volume, grid), changed, brain)
            hit, _, rank = scores(other, by_region(untrained, other, volume, grid), changed, brain)
            yield question.method, target, *marks, hit, rank, correlation(np.abs(found), np.abs(other))
        yield from volumes_alone(record, patient, grid, changed, brain)


MARKS = ("pointing game", "ROC-AUC of voxels", "rank correlation of regions")
UNTRAINED = ("pointing game, random weights", "rank correlation, random weights", "likeness to maps of random weights")


@pytest.mark.slow
def test_maps_find_what_the_disease_changed(model):
    weights, patients = model
    grid = Contract(read_card(weights)["contract"]).grid
    rows = [*scored(weights, patients[:PATIENTS]), *drawn(grid, *truth())]
    write_table(pd.DataFrame(rows, columns=["method", "explained", *MARKS, *UNTRAINED]))


def write_table(table):
    assert table["ROC-AUC of voxels"].between(0, 1).all()
    marked = table.groupby(["method", "explained"], sort=False)[[*MARKS, *UNTRAINED]].agg(with_interval)
    assert len(marked) == len(METHODS) * len(TARGETS) + 4
    changed, brain = truth()
    chance = [[f"{changed[brain].mean():.2f}", "0.50", "0.00", *["–"] * 3]]
    chance = pd.DataFrame(chance, columns=[*MARKS, *UNTRAINED], index=[("chance", "")])
    text = pd.concat([marked, chance]).reset_index(names=["method", "explained"]).to_markdown(index=False)
    (ROOT / "eval").mkdir(exist_ok=True)
    (ROOT / "eval" / "explanations.md").write_text(text + "\n")
