"""How well each kind of map finds the regions that a disease of the phantom really changes.

    pytest -m slow tests/integration/test_explanations.py

writes `eval/explanations.md`. The truth: the regions whose volume differs by at least 0.9 standard deviations in the
phantom's Alzheimer's disease. Chance is the share of the brain that they fill for the pointing game (is the strongest
place of a map in them?), and 0.5 for the ROC-AUC of voxels (are their places stronger than others?).
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from monai.networks.nets import DenseNet

from bundle.cohort.datalist import load_section
from bundle.metrics.classification import roc_auc
from bundle.networks.classifiers import Classifier
from bundle.networks.weights import load_network, read_card
from bundle.prediction.maps import METHODS, TARGETS, Question, Similarity, explain, randomised
from bundle.prediction.training_record import load_record
from bundle.scans.contract import correlation
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


def questions(classifier, record):
    healthy, known = torch.as_tensor(record.healthy)[None], record.embeddings
    means = [known.embedding[known.labels == 1].mean(0), known.embedding.mean(0)]
    likeness_to_patients = Similarity(classifier, *(torch.as_tensor(m, dtype=torch.float32) for m in means))
    for method in METHODS:
        yield "class", Question(method, classifier, reference=healthy)
        yield "similarity", Question(method, likeness_to_patients, 1, probability=False, reference=healthy)
    yield "class, hidden by 0", Question("occlusion", classifier)


def scores(found, changed, brain):
    """Whether the strongest place of the brain is a changed one, and the ROC-AUC of voxels."""
    inside = np.where(brain, found, -np.inf)
    hit = changed[np.unravel_index(inside.argmax(), inside.shape)]
    return float(hit), float(roc_auc(changed[brain].astype(int), found[brain]))


@pytest.mark.slow
def test_maps_find_what_the_disease_changed(model):
    weights, patients = model
    network = DenseNet(3, 1, 2, **read_card(weights)["network"])
    load_network(weights, network)
    classifier, (changed, brain) = Classifier(network).eval(), truth()
    rows = []
    for patient in patients[:PATIENTS]:
        volume = volume_of(patient)
        for target, question in questions(classifier, load_record(weights)):
            found = explain(question, volume)
            other = explain(replace(question, network=randomised(question.network)), volume)
            hit, auc = scores(found, changed, brain)
            rows.append((question.method, target, hit, auc, correlation(np.abs(found), np.abs(other))))
    columns = ["method", "explained", "pointing game", "ROC-AUC of voxels", "likeness to maps of random weights"]
    table = pd.DataFrame(rows, columns=columns).groupby(columns[:2], sort=False).mean()
    assert len(table) == len(METHODS) * len(TARGETS) + 1
    assert table["ROC-AUC of voxels"].between(0, 1).all()
    chance = pd.DataFrame([[changed[brain].mean(), 0.5, np.nan]], columns=columns[2:], index=[("chance", "")])
    text = pd.concat([table, chance]).round(2).reset_index(names=columns[:2]).to_markdown(index=False, missingval="–")
    (ROOT / "eval").mkdir(exist_ok=True)
    (ROOT / "eval" / "explanations.md").write_text(text + "\n")
