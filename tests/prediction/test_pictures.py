"""Charts that are drawn once for many scans have every pixel of one that is drawn anew."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from bundle.drawing import styled
from bundle.metrics.classification import reliability
from bundle.pages.pictures import chart, finished
from bundle.prediction import pictures

RNG = np.random.default_rng(0)
DISTANCES, AGES = RNG.normal(30, 3, 60), RNG.uniform(20, 60, 50)
LABELS = np.arange(40) % 2
VALIDATED = reliability(LABELS, (0.3 + 0.4 * LABELS + RNG.normal(0, 0.1, 40)).clip(0, 1))
NAMES = [f"region {number}" for number in range(17)]
LEFT, RIGHT = RNG.normal(size=17), np.where(np.arange(17) == 3, np.nan, RNG.normal(size=17))


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


@pytest.mark.parametrize("own", [DISTANCES.mean(), DISTANCES.max() + 0.1, 80.0])
def test_a_distance_stands_where_it_stands_when_all_is_drawn_anew(own):
    @styled
    def expected():
        figure, axes = chart()
        axes.hist(DISTANCES, bins=30, color="0.6", label="training subjects")
        axes.axvline(own, color="#D55E00", linewidth=2.5, label="this scan")
        axes.set(xlabel="distance", ylabel="subjects")
        return finished(figure)

    pictures.position(DISTANCES, DISTANCES.min(), "distance")  # leaves nothing behind
    assert np.array_equal(pixels(pictures.position(DISTANCES, own, "distance")), pixels(expected()))


@pytest.mark.parametrize(("estimate", "own"), [(40.0, 35.0), (40.0, np.nan), (58.0, 30.0), (30.0, 90.0)])
def test_ages_stand_where_they_stand_when_all_is_drawn_anew(estimate, own):
    @styled
    def expected():
        figure, axes = chart()
        axes.hist(AGES, bins=25, color="0.6", label="healthy training subjects")
        axes.axvspan(estimate - 5, estimate + 5, color="#0072B2", alpha=0.25)
        axes.axvline(estimate, color="#0072B2", linewidth=2.5, label="looks like")
        if np.isfinite(own):
            axes.axvline(own, color="#D55E00", linewidth=2.5, linestyle="--", label="is")
        axes.set(xlabel="age, years", ylabel="subjects")
        return finished(figure)

    pictures.ages(AGES, 50.0, 2.0, 25.0)
    assert np.array_equal(pixels(pictures.ages(AGES, estimate, 5.0, own)), pixels(expected()))


def test_a_second_scan_leaves_nothing_of_the_first():
    first = pictures.reliability(VALIDATED, 0.2, "patient"), pictures.regional(NAMES, LEFT, RIGHT)
    other = pictures.reliability(VALIDATED, 0.9, "patient"), pictures.regional(NAMES, RIGHT, LEFT)
    again = pictures.reliability(VALIDATED, 0.2, "patient"), pictures.regional(NAMES, LEFT, RIGHT)
    assert first == again
    assert not {*first} & {*other}


def test_a_region_far_from_what_is_expected_has_room():
    near, far = pictures.regional(NAMES, LEFT, RIGHT), pictures.regional(NAMES, 3 * LEFT, RIGHT)
    assert pixels(near).shape == pixels(far).shape
    assert not np.array_equal(pixels(near)[-90:-40], pixels(far)[-90:-40])  # the numbers along the axis
