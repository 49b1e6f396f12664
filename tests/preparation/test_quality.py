import math

import pytest

from bundle.preparation.outcome import FAIL, OK, WARN
from bundle.preparation.quality import LIMITS, expected, grade, verdict_of

GOOD = {
    "voxel_size": 1.0, "brain_volume": 1500, "mask_on_border": 0.0, "affine_determinant": 0.85, "zoom_least": 0.87,
    "zoom_most": 0.99, "anisotropy": 1.12, "rotation": 12, "mask_dice": 0.97, "t1_contrast": 0.33, "csf_to_gm": 0.5,
    "contrast_to_noise": 3.4, "gm_share": 0.46, "wm_share": 0.32, "warped_mask_dice": 0.97, "template_likeness": 0.82,
    "folded": 0.0, "modulation_error": 0.001,
}  # fmt: skip


def test_a_usual_head_passes_without_a_word():
    assert set(GOOD) == set(LIMITS)
    assert grade(GOOD) == (OK, ())


def test_a_sentence_says_value_limit_and_meaning():
    status, (sentence,) = grade({**GOOD, "mask_dice": 0.85})
    assert status == FAIL
    assert sentence == (
        "The overlap of the brain mask with the template's (Dice) is 0.850, expected at least "
        f"{LIMITS['mask_dice'].fail[0]:g}: the head may be cropped, upside down, or badly registered."
    )


def test_the_worst_decides_and_stands_first():
    status, reasons = grade({**GOOD, "voxel_size": 2.0, "t1_contrast": -0.04, "brain_volume": 1050})
    assert status == FAIL
    assert [reason.split(" is ")[0] for reason in reasons] == [
        "The contrast of white and grey matter, (WM − GM) / WM,",
        "The longest edge of a voxel",
        "The volume inside the skull",
    ]
    assert grade({"brain_volume": 1050})[0] == WARN


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", LIMITS)
def test_what_could_not_be_measured_fails(name, value):
    limit = LIMITS[name]
    if limit.fail[0] <= value <= limit.fail[1]:
        return  # an open end
    status, (sentence,) = grade({name: value})
    assert status == FAIL
    assert "could not be measured" in sentence


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_nested_and_every_end_has_a_meaning(name):
    limit = LIMITS[name]
    assert limit.fail[0] <= limit.warn[0] < limit.warn[1] <= limit.fail[1]
    assert bool(limit.low) == math.isfinite(limit.warn[0])
    assert bool(limit.high) == math.isfinite(limit.warn[1])
    for edge in limit.warn:
        if math.isfinite(edge):
            assert verdict_of(name, edge) == OK
            outside = edge + (1 if edge == limit.warn[1] else -1) * 10.0**-limit.digits
            assert grade({name: outside})[0] != OK
            shown = grade({name: outside})[1][0]
            assert f"{edge:,.{limit.digits}f}" != shown.split(" is ")[1].split(",")[0].split(" ")[0]


def test_what_is_expected_is_said_in_words():
    assert expected("brain_volume") == "1,100 to 2,000 mL"
    assert expected("brain_volume", FAIL) == "900 to 2,200 mL"
    assert expected("rotation") == "at most 45 degrees"


def test_other_measures_are_left_alone():
    assert grade({"something": -1.0}) == (OK, ())
