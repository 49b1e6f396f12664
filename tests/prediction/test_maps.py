"""Maps of a network whose truth is known: its score is the mean of one corner, minus that of another."""

import logging

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet
from scipy.sparse import csr_array
from torch import nn

from bundle.extras import is_there
from bundle.networks import nearby
from bundle.networks.classifiers import Classifier
from bundle.prediction import maps
from bundle.prediction.maps import METHODS, Question, Similarity, explain, in_regions, randomised, regional_changes
from bundle.scans.measures import correlation

NEEDS_CAPTUM = pytest.mark.skipif(not is_there("captum"), reason="captum is not installed: make prepare")
INSTALLED = [
    pytest.param(method, marks=NEEDS_CAPTUM) if method == "integrated_gradients" else method for method in METHODS
]
CORNER = (slice(2, 10),) * 3
OTHER = (slice(14, 22),) * 3


def halves():
    """35 regions: two are the corners, one is half of the first; the last has the rest."""
    weights = np.zeros((35, 24, 24, 24), np.float32)
    weights[(0, *CORNER)], weights[(1, *OTHER)] = 1, 1
    weights[(2, *CORNER)] = 0.5
    weights[34] = 1 - weights[:2].sum(0)
    return csr_array(weights.reshape(35, -1))


def cubes():
    """35 regions: 27 cubes, some that are empty, and no rest."""
    number = np.arange(27).reshape(3, 3, 3).repeat(8, 0).repeat(8, 1).repeat(8, 2)
    return csr_array((np.arange(35)[:, None] == number.ravel()).astype(np.float32))


class Corners(nn.Module):
    def forward(self, volumes):
        score = volumes[(slice(None), 0, *CORNER)].mean((1, 2, 3)) - volumes[(slice(None), 0, *OTHER)].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(score), 4 * score], dim=1)


class Steep(Corners):
    def forward(self, volumes):
        return super().forward(volumes**8)


@pytest.fixture
def volume():
    return 1 + torch.rand(1, 1, 24, 24, 24, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return Classifier(DenseNet(3, 1, 2, init_features=8, growth_rate=4, block_config=(2, 2))).eval()


def test_occlusion_is_positive_where_it_speaks_for_the_class_and_negative_where_against(volume):
    found = explain(Question("occlusion", Corners(), 1), volume)
    assert found.shape == (24, 24, 24)
    assert found[CORNER].mean() > 0.02
    assert found[OTHER].mean() < -0.02
    assert abs(found[2:10, 14:22, 2:10].mean()) < 0.01
    against = explain(Question("occlusion", Corners(), 0), volume)
    assert against == pytest.approx(-found, abs=1e-5)


def test_occlusion_of_a_place_is_the_fall_of_the_probability(volume):
    """One window that covers a known box, computed by hand."""
    found = explain(Question("occlusion", Corners(), 1), volume, batch_size=3)
    hidden = volume.clone()
    hidden[0, 0, :4, :4, :4] = 0
    fall = Corners()(volume).softmax(1)[0, 1] - Corners()(hidden).softmax(1)[0, 1]
    assert found[0, 0, 0] == pytest.approx(float(fall), abs=1e-6)


def test_occlusion_shows_the_reference_in_place_of_what_it_hides(volume):
    """What already looks like the reference cannot matter."""
    reference = torch.full_like(volume, 1.5)
    volume[(0, 0, *CORNER)] = 1.5
    found = explain(Question("occlusion", Corners(), 1, reference=reference), volume)
    assert np.abs(found[CORNER]).max() < 1e-6
    assert np.ptp(found) > 1e-4


def test_what_is_computed_only_around_a_window_gives_the_map_of_the_whole_network(classifier, volume, monkeypatch):
    asked = Question("occlusion", classifier, 1, reference=0.3 * volume + 0.1)
    whole = explain(asked, volume, 1)
    counted = []
    monkeypatch.setattr(nearby, "LEAST_VOXELS", volume.numel())
    monkeypatch.setattr(
        nearby.Nearby, "_block_of", lambda *args, of=nearby.Nearby._block_of: counted.append(args[2]) or of(*args)
    )
    assert explain(asked, volume, 1) == pytest.approx(whole, abs=1e-6)
    assert {side.stop - side.start for box in counted for side in box} <= {2, 3, 4}  # a window, not the whole volume
    assert np.abs(whole).max() > 1e-4


def test_smoothgrad_is_strong_where_the_score_depends_on_the_values(volume):
    found = explain(Question("smoothgrad", Corners(), 1), volume)
    inside = found[CORNER].mean() + found[OTHER].mean()
    assert inside > 100 * (found.sum() - found[CORNER].sum() - found[OTHER].sum() + 1e-12) / found.size


def test_a_region_has_the_fall_of_the_probability_when_it_is_shown_as_in_the_reference(volume):
    """One region after the other, by hand."""
    reference, weights = torch.full_like(volume, 1.2), halves()
    found = regional_changes(Question("regions", Corners(), 1, reference=reference, weights=weights), volume, 4)
    own, expected = Corners()(volume).softmax(1)[0, 1], []
    for row in weights.toarray():
        membership = torch.as_tensor(row).reshape(1, 1, 24, 24, 24)
        shown = membership * reference + (1 - membership) * volume
        expected.append(float(own - Corners()(shown).softmax(1)[0, 1]))
    assert found == pytest.approx(expected, abs=1e-6)
    assert found[0] > 0.1 > -0.1 > found[1]
    assert found[34] == pytest.approx(0, abs=1e-6)


def test_a_voxel_has_its_regions_changes_over_their_sizes():
    changes = np.zeros(35)
    changes[[0, 1, 2, 34]] = 1.0, -2.0, 4.0, 9.0
    found = in_regions(changes, halves(), (24, 24, 24))
    assert found[CORNER] == pytest.approx((1.0 + 4.0) / 8**3)
    assert found[OTHER] == pytest.approx(-2.0 / 8**3)
    assert found.sum() == pytest.approx(3.0)
    assert np.count_nonzero(found) == 2 * 8**3, "the rest is not coloured"


def test_integrated_gradients_add_up_to_the_difference_from_the_reference(volume, caplog):
    pytest.importorskip("captum")
    reference = torch.full_like(volume, 1.4)
    question = Question("integrated_gradients", Corners(), 1, reference=reference)
    with caplog.at_level(logging.INFO):
        found = explain(question, volume)
    assert found.sum() == pytest.approx(float(question.score(volume) - question.score(reference)), abs=1e-4)
    assert "Integrated gradients miss 0.0 %" in caplog.text
    elsewhere = found.copy()
    elsewhere[CORNER] = elsewhere[OTHER] = 0
    assert not elsewhere.any()
    warmer = found[CORNER][volume[(0, 0, *CORNER)].numpy() > 1.4]
    assert (warmer > 0).all()


def test_too_few_steps_are_said(volume, caplog, monkeypatch):
    pytest.importorskip("captum")
    monkeypatch.setattr(maps, "STEPS", 1)
    steep = Question("integrated_gradients", Steep(), 1)
    explain(steep, volume)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("method", INSTALLED)
def test_every_method_repeats_itself_and_changes_with_the_weights(method, classifier, volume):
    first, again = (explain(Question(method, classifier, weights=cubes()), volume) for _ in range(2))
    assert np.array_equal(first, again)
    assert np.ptp(first) > 0
    other = explain(Question(method, randomised(classifier, seed=1), weights=cubes()), volume)
    assert correlation(np.abs(first), np.abs(other)) < 0.9


@pytest.mark.parametrize("method", INSTALLED)
def test_similarity_to_a_group_is_explained_by_every_method(method, classifier, volume):
    group, everybody = torch.rand(2, classifier.both(volume)[1].shape[1])
    question = Question(method, Similarity(classifier, group, everybody), 1, probability=False, weights=cubes())
    assert explain(question, volume).shape == (24, 24, 24)


def test_similarity_is_the_cosine_from_the_mean_of_everybody(classifier, volume):
    embedding = classifier.both(volume)[1][0].detach()
    everybody = torch.rand_like(embedding)
    for group, expected in ((embedding * 3 - everybody * 2, 1.0), (2 * everybody - embedding, -1.0)):
        scores = Similarity(classifier, group, everybody)(volume)
        assert scores[0].tolist() == pytest.approx([-expected, expected], abs=1e-5)


def test_the_classifier_says_what_the_network_says(classifier, volume):
    logits, embedding = classifier.both(volume)
    assert torch.allclose(classifier.network(volume), logits)
    assert torch.equal(classifier(volume), logits)
    assert torch.equal(classifier.network.class_layers[-1](embedding), logits)


def test_another_method_is_refused(volume):
    with pytest.raises(ValueError, match="did you mean 'gradcam"):
        explain(Question("gradcam", Corners()), volume)
