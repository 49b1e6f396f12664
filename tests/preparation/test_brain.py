import numpy as np
import pytest

from bundle.preparation.brain import share_on_border, without_void

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def balls():
    """A brain with a sulcus, and what a network takes to be the inside of its skull."""
    radius = np.sqrt(sum(np.square(axis - 30.0) for axis in np.indices((60, 60, 60))))
    brain = radius < 18
    brain[29:31, :, 30:] = False
    return brain, radius < 26


def test_the_empty_space_around_a_stripped_brain_leaves_the_mask_and_sulci_stay():
    brain, mask = balls()
    found = without_void(mask, np.where(brain, 1, 0).astype(np.float32), AFFINE)
    assert found[brain].all()
    assert found[30, 30, 30:40].all()
    assert np.count_nonzero(found) < 1.35 * np.count_nonzero(brain)
    assert not found[mask & ~found].any()


def test_the_mask_of_a_whole_head_stays():
    brain, mask = balls()
    head = np.where(brain, 1, 0.02).astype(np.float32)  # noise is nowhere the lowest value in many voxels
    head += 0.01 * np.random.default_rng(0).random(head.shape, np.float32)
    np.testing.assert_array_equal(without_void(mask, head, AFFINE), mask)


@pytest.mark.parametrize(("cut", "share"), [(30, 0.06), (0, 0.0)])
def test_a_brain_that_is_cut_lies_on_the_border(cut, share):
    _, mask = balls()
    assert share_on_border(mask[cut:]) == pytest.approx(share, abs=0.02)
