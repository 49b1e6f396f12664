import pytest
import torch
from monai.networks.nets import DenseNet

from bundle.networks import nearby
from bundle.networks.classifiers import Classifier, EncoderClassifier
from bundle.networks.nearby import Nearby, near

SHAPE = (73, 66, 81)
ALL = slice(None)


@pytest.fixture(scope="module")
def classifier():
    """With batch norms that move zeros, so that a border that is padded by mistake is seen."""
    torch.manual_seed(0)
    network = DenseNet(3, 1, 2, init_features=8, growth_rate=4, block_config=(3, 2))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(module.bias)
    return Classifier(network.to(memory_format=torch.channels_last_3d)).eval()


@pytest.fixture(scope="module")
def volume():
    return torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(1))


BOXES = [
    (slice(30, 31), slice(30, 31), slice(30, 31)),
    (slice(21, 40), slice(26, 37), slice(35, 52)),
    (slice(0, 9), slice(57, 66), slice(70, 81)),
    (slice(72, 73), slice(0, 1), slice(80, 81)),
    (slice(33, 37), ALL, slice(3, 5)),
    (ALL, ALL, ALL),
]


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("start", range(4))
def test_a_volume_that_differs_in_a_box_has_the_answer_of_the_classifier(classifier, volume, box, start):
    changed = volume.clone()
    moved = [slice(s.start + start, s.stop + start) if s != ALL and s.stop + start < 66 else s for s in box]
    changed[(0, 0, *moved)] += 50
    with torch.inference_mode():
        known, whole = Nearby(classifier, volume).eval(), classifier.both(changed)
        logits, embedding = known.both(changed)
        assert torch.allclose(logits, whole[0], atol=2e-6)
        assert torch.allclose(embedding, whole[1], atol=2e-6)
        assert torch.allclose(known.known, known.block(known.stem(volume)))  # is not written over
        assert (logits - classifier(volume)).abs().max() > 1e-5


def test_its_first_dense_block_is_that_of_the_whole_volume(classifier, volume):
    changed = volume.clone()
    changed[0, 0, 20:41, 11:30, 35:50] *= -2
    with torch.inference_mode():
        known = Nearby(classifier, volume)
        found = known._block_of(changed, [slice(20, 41), slice(11, 30), slice(35, 50)])
        assert torch.allclose(found, known.block(known.stem(changed)), atol=1e-5)


def test_the_same_volume_and_several_at_once_have_the_answer_of_the_classifier(classifier, volume):
    two = torch.cat([volume, volume + 1])
    with torch.inference_mode():
        known = Nearby(classifier, volume)
        assert torch.equal(known(volume), classifier(volume))
        assert torch.equal(known(two), classifier(two))


def test_a_classifier_is_left_as_it_is_where_nothing_would_be_gained(classifier, volume, monkeypatch):
    assert near(classifier, volume) is classifier
    monkeypatch.setattr(nearby, "LEAST_VOXELS", volume.numel())
    assert isinstance(near(classifier, volume), Nearby)
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(volume.numel(), 3))
    encoder.embedding_size = 3
    for other in (Classifier(EncoderClassifier(encoder)), encoder):
        assert near(other, volume) is other
