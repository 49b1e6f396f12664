"""The whole way, on a head whose tissues and place are known."""

import nibabel as nib
import numpy as np
import pytest

from bundle.extras import is_there
from bundle.preparation.outcome import FAIL, WARN
from bundle.preparation.settings import Settings
from bundle.scans.grid import REFERENCE, Grid, templates

NEEDED = ("ants", "deepbet", "deepmriprep")
pytestmark = [
    pytest.mark.ants,
    pytest.mark.skipif(not all(map(is_there, NEEDED)), reason="needs requirements-prepare.txt"),
]

QUICK = Settings(
    working_mm=2.0, affine_mm=(9.0, 6.0), warp_mm=4.5, n4_iterations=(10,), n4_shrink=2, warp_iterations=(15, 6)
)
HALF = Grid.of((61, 73, 61), [[-3, 0, 0, 90], [0, 3, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])  # every second voxel
BLOCK = (16, 18, 16)  # voxels whose sums are compared


@pytest.fixture(scope="module")
def head():
    from bundle.phantom.head import make_head

    return make_head(3.0)


@pytest.fixture(scope="module")
def outcome(head):
    return prepare(head[0])


def prepare(image):
    from bundle.preparation.pipeline import prepare_with_ants

    return prepare_with_ants(image, settings=QUICK)


def blocks(values):
    padded = np.pad(values, [(0, -n % size) for n, size in zip(values.shape, BLOCK, strict=True)])
    cells = [part for n, size in zip(padded.shape, BLOCK, strict=True) for part in (n // size, size)]
    return padded.reshape(cells).sum((1, 3, 5), dtype=float)


def test_a_head_passes_with_one_word_about_its_voxels(outcome):
    assert outcome.status == WARN
    assert outcome.reasons == (
        "The longest edge of a voxel is 3.00 mm, expected at most 1.6 mm: the slices are thick: volumes are rough.",
    )


def test_volumes_are_the_known_ones(head, outcome):
    """EM gives voxels of two tissues to the nearer one, so that a thin cortex loses; see docs/howto/preparation.md."""
    known = head[1].volumes
    assert outcome.volumes["tiv"] == pytest.approx(known["tiv"], rel=0.03)
    assert outcome.volumes["wm"] == pytest.approx(known["wm"], rel=0.10)
    assert outcome.volumes["gm"] == pytest.approx(known["gm"], rel=0.20)
    assert outcome.volumes["tiv"] == pytest.approx(sum(outcome.volumes[name] for name in ("gm", "wm", "csf")))


def test_the_map_keeps_the_volume_of_grey_matter_and_nothing_folds(outcome):
    total = outcome.map.sum(dtype=float) * REFERENCE.voxel_ml
    assert total == pytest.approx(outcome.volumes["gm"], rel=0.003)
    assert outcome.measures["folded"] == 0
    assert outcome.map.shape == REFERENCE.shape
    assert outcome.map.dtype == np.float32
    assert outcome.map.min() == 0


def test_grey_matter_lies_where_the_known_warp_brings_it(head, outcome):
    expected, found = blocks(head[1].grey_matter(HALF)), blocks(outcome.map[::2, ::2, ::2])
    large = expected > 0.01 * expected.sum()
    assert np.corrcoef(expected[large], found[large])[0, 1] > 0.95
    shares = (found / found.sum())[large] / (expected / expected.sum())[large]
    np.testing.assert_allclose(shares, 1, atol=0.35)


def test_the_affine_has_the_known_size(head, outcome):
    points = np.argwhere(templates(REFERENCE)["brain"] > 0.5)[::500] @ REFERENCE.matrix[:3, :3].T
    ratio = head[1].volume_ratio(points + REFERENCE.matrix[:3, 3])
    assert outcome.measures["affine_determinant"] == pytest.approx(ratio.mean(), rel=0.06)


def test_a_page_has_what_it_draws_and_the_record_says_by_what(outcome):
    layers = outcome.layers
    assert layers.brain.shape == layers.mask.shape == layers.gm.shape == layers.wm.shape
    assert layers.warped_gm.shape == layers.template_gm.shape == REFERENCE.shape
    np.testing.assert_allclose(np.linalg.norm(layers.affine[:3, :3], axis=0), QUICK.working_mm)
    assert np.median(layers.brain[layers.wm > 0.9]) == pytest.approx(0.95, abs=0.1)
    assert outcome.pipeline["name"] == "yaware-ants"
    assert {"antspyx", "deepbet", "deepmriprep"} <= set(outcome.pipeline["software"])
    assert set(outcome.seconds) == {
        *("brain", "bias", "affine", "first segmentation", "warp", "second segmentation", "modulation"),
    }


def test_the_same_head_gives_the_same_map_bit_for_bit(head, outcome):
    again = prepare(head[0])
    np.testing.assert_array_equal(again.map, outcome.map)
    assert again.measures == outcome.measures


def test_a_head_upside_down_stops_early_with_reasons(head):
    turned = nib.Nifti1Image(np.asarray(head[0].dataobj)[:, :, ::-1], head[0].affine)
    found = prepare(turned)
    assert found.status == FAIL
    assert found.map is None
    assert "warp" not in found.seconds
    assert "overlap of the brain mask" in " ".join(found.reasons)


def test_noise_stops_before_anything_is_registered(head):
    noise = np.random.default_rng(0).normal(100, 30, (70, 80, 70)).astype(np.float32)
    found = prepare(nib.Nifti1Image(noise, head[0].affine))
    assert found.status == FAIL
    assert "affine" not in found.seconds
    assert found.reasons[-1].endswith(".")


def test_what_is_no_head_is_said_without_work():
    found = prepare(nib.Nifti1Image(np.ones((64, 64, 64, 5), np.float32), np.diag([3.0, 3.0, 3.0, 1.0])))
    assert found.status == FAIL
    assert found.seconds == {}
    assert found.reasons == (
        "The image holds 5 volumes (64×64×64×5), expected one: it may be a functional or diffusion series; give the "
        "T1w scan.",
    )
