import numpy as np
import pytest
from scipy import ndimage

from bundle.preparation.alignment import Volume, align, measures_of
from bundle.preparation.settings import Settings

SETTINGS = Settings(affine_mm=(12.0, 8.0, 4.0))
AFFINE = np.array([[-4.0, 0, 0, 94], [0, 4, 0, -130], [0, 0, 4, -76], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def template():
    """An egg with a few bright and dark places, none of which has a twin on the other side."""
    shape = (48, 58, 48)
    x, y, z = (np.indices(shape) - np.reshape([23, 29, 23], (3, 1, 1, 1))) / np.reshape([16, 20, 14 + 2], (3, 1, 1, 1))
    inside = x**2 + y**2 * (1 + 0.2 * y) + z**2 * (1 - 0.2 * y) < 1
    places = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal(shape), 2.5)
    return Volume((inside * (0.7 + 2.5 * places)).astype(np.float32), inside, AFFINE)


def head_of(template, matrix):
    """The template's brain in a head, with other brightness and noise."""
    affine = np.diag([4.5, 4.5, 4.5, 1.0])
    shape = (56, 60, 56)
    affine[:3, 3] = -4.5 * (np.array(shape) - 1) / 2
    chain = np.linalg.inv(template.affine) @ np.linalg.inv(matrix) @ affine
    mask = ndimage.affine_transform(template.mask.astype(float), chain, output_shape=shape, order=1) > 0.5
    values = ndimage.affine_transform(template.values, chain, output_shape=shape, order=1)
    noise = 0.03 * np.random.default_rng(0).standard_normal(shape)
    return Volume((0.7 * values + noise * mask).astype(np.float32), mask, affine)


def matrix_with(pitch=0.0, zooms=(0.9, 0.85, 0.95), shift=(5, -12, 9)):
    angle = np.radians(pitch)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = turn @ np.diag(zooms), shift
    return found


@pytest.mark.parametrize("pitch", [0.0, 35.0, -25.0])
def test_a_known_affine_is_found(template, pitch):
    matrix = matrix_with(pitch)
    found = align(template, head_of(template, matrix), SETTINGS)
    points = np.argwhere(template.mask) @ template.affine[:3, :3].T + template.affine[:3, 3]
    off = np.linalg.norm(points @ (found - matrix)[:3, :3].T + (found - matrix)[:3, 3], axis=1)
    assert off.max() < 1.5
    assert measures_of(found[:3, :3])["affine_determinant"] == pytest.approx(0.9 * 0.85 * 0.95, rel=0.02)


def test_the_same_head_gives_the_same_numbers(template):
    head = head_of(template, matrix_with(10.0))
    np.testing.assert_array_equal(align(template, head, SETTINGS), align(template, head, SETTINGS))


def test_a_matrix_is_told_in_words_of_a_head():
    found = measures_of(matrix_with(30.0, (0.8, 0.9, 1.0))[:3, :3])
    assert found["rotation"] == pytest.approx(30)
    assert found["anisotropy"] == pytest.approx(1.25)
    assert (found["zoom_least"], found["zoom_most"]) == (pytest.approx(0.8), pytest.approx(1.0))
    assert found["affine_determinant"] == pytest.approx(0.72)
