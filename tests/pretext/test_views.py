"""Views: equal to MONAI's transforms, seeded by subject, drawn from the stated distributions."""

import doctest
import json
import math
import pickle

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Flip as MonaiFlip
from monai.transforms import GaussianSmooth, NormalizeIntensity, Resize, SpatialCrop

from bundle.pretext import views
from bundle.pretext.transform import Transform
from bundle.pretext.views import (
    CropResize,
    Cutout,
    Flip,
    GaussianBlur,
    GaussianNoise,
    LeftRightFlip,
    TwoViews,
    ZScore,
    preset,
)

SHAPE = (31, 37, 33)
ALL = [Flip(), GaussianBlur(), GaussianNoise(), Cutout(0.25), CropResize(0.75), ZScore()]
KEYS = [f"sub-{i:02d}/ses-1" for i in range(6)]

each = pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)


def batch(n=3, channels=2, shape=SHAPE, dtype=torch.float32, device="cpu"):
    generator = torch.Generator().manual_seed(7)
    return torch.randn(n, channels, *shape, generator=generator).to(device, dtype)


def draws(transform, n, shape=SHAPE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [transform.make_params(generator, shape) for _ in range(n)]


def chi_square_is_plausible(counts):
    """Within five standard deviations of what equal probabilities give."""
    expected = sum(counts) / len(counts)
    statistic = sum((c - expected) ** 2 / expected for c in counts)
    degrees = len(counts) - 1
    return statistic < degrees + 5 * math.sqrt(2 * degrees)


class TestEqualsMonai:
    """Each transform against MONAI's, or a reference from the definition, for the same parameters."""

    def check(self, transform, reference, tolerance=1e-6, dtype=torch.float32):
        images = batch(dtype=dtype)
        params = draws(transform, len(images))
        out = transform.apply(images, params)
        for result, image, chosen in zip(out, images, params, strict=True):
            torch.testing.assert_close(result, reference(image, **chosen), rtol=0, atol=tolerance)

    def test_flip(self):
        self.check(Flip(), lambda x, axis: MonaiFlip(spatial_axis=axis)(x).as_tensor(), 0)

    @pytest.mark.parametrize("sigma", [(0.1, 1.0), (0.1, 0.1), (0.124, 0.126), (1.0, 1.0), (2.5, 2.6)])
    def test_blur(self, sigma):
        self.check(GaussianBlur(sigma), lambda x, sigma: GaussianSmooth(sigma)(x).as_tensor(), 3e-6)

    def test_blur_of_a_volume_thinner_than_the_kernel(self):
        images = batch(1, 1, (2, 3, 9))
        out = GaussianBlur().apply(images, [{"sigma": 1.0}])
        torch.testing.assert_close(out[0], GaussianSmooth(1.0)(images[0]).as_tensor())

    def test_crop_resize(self):
        def reference(x, start, size):
            crop = SpatialCrop(roi_start=start, roi_end=[a + b for a, b in zip(start, size, strict=True)])(x)
            return Resize(SHAPE, mode="trilinear")(crop).as_tensor()

        self.check(CropResize(0.75), reference)

    def test_zscore(self):
        self.check(ZScore(), lambda x: NormalizeIntensity()(x * 3 + 100).as_tensor(), 2e-5)

    def test_zscore_of_a_constant_is_zero(self):
        assert not ZScore().apply(torch.full((1, 1, 4, 4, 4), 3.0), [{}]).any()

    def test_cutout(self):
        def reference(x, start, size):
            inside = torch.ones(SHAPE, dtype=torch.bool)
            for axis, (first, side) in enumerate(zip(start, size, strict=True)):
                index = torch.arange(SHAPE[axis])
                shape = [-1 if a == axis else 1 for a in range(3)]
                inside = inside & ((index >= first) & (index < first + side)).view(shape)
            return torch.where(inside, 0.0, x)

        self.check(Cutout(0.25), reference, 0)

    def test_noise_is_sigma_times_randn(self):
        def reference(x, sigma, seed):
            generator = torch.Generator().manual_seed(seed)
            return x + sigma * torch.randn(x.shape, generator=generator)

        self.check(GaussianNoise(), reference)

    def test_noise_is_white(self):
        noise = GaussianNoise().apply(torch.zeros(1, 1, 40, 40, 40), [{"sigma": 0.5, "seed": 3}])
        assert abs(noise.mean()) < 5 * 0.5 / 40**1.5
        assert abs(noise.std() - 0.5) < 5 * 0.5 / math.sqrt(2 * 40**3)
        assert abs((noise[..., 1:] * noise[..., :-1]).mean()) < 5 * 0.25 / 40**1.5


class TestApply:
    @each
    def test_a_batch_equals_its_samples(self, transform):
        images = batch(4)
        params = draws(transform, 4)
        together = transform.apply(images, params)
        alone = [transform.apply(images[i : i + 1], params[i : i + 1]) for i in range(4)]
        assert torch.equal(together, torch.cat(alone))

    @each
    def test_none_leaves_a_sample_alone(self, transform):
        images = batch(3)
        out = transform.apply(images, [None, draws(transform, 1)[0], None])
        assert torch.equal(out[[0, 2]], images[[0, 2]])
        assert not torch.equal(out[1], images[1])

    @each
    def test_input_is_not_modified_unless_asked(self, transform):
        images = batch(2)
        before, params = images.clone(), draws(transform, 2)
        out = transform.apply(images, params)
        assert torch.equal(images, before)
        assert transform.apply(images, params, inplace=True) is images
        assert torch.equal(images, out)

    @each
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
    def test_dtypes(self, transform, dtype):
        images = batch(2, dtype=dtype)
        params = draws(transform, 2)
        out = transform.apply(images, params)
        assert out.dtype == dtype
        if dtype == torch.float64:
            return
        wide = transform.apply(images.float(), params)
        torch.testing.assert_close(out.float(), wide.to(dtype).float(), rtol=torch.finfo(dtype).eps, atol=1e-6)

    @each
    @pytest.mark.parametrize("channels", [1, 3])
    def test_channels_last(self, transform, channels):
        images = batch(2, channels)
        params = draws(transform, 2)
        last = images.to(memory_format=torch.channels_last_3d)
        out = transform.apply(last, params)
        assert out.is_contiguous(memory_format=torch.channels_last_3d)
        torch.testing.assert_close(out, transform.apply(images, params), rtol=0, atol=1e-6)

    @each
    def test_parameters_are_plain_numbers(self, transform):
        (params,) = draws(transform, 1)
        copied = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(json.dumps(params)).items()}
        assert copied == params

    def test_a_meta_tensor_becomes_a_tensor(self):
        out = Cutout(0.25).apply(MetaTensor(batch(1)), draws(Cutout(0.25), 1))
        assert type(out) is torch.Tensor

    @pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 7), (31, 37, 31)])
    def test_odd_shapes(self, shape):
        for transform in ALL:
            assert transform.apply(batch(1, 1, shape), draws(transform, 1, shape)).shape == (1, 1, *shape)


class TestDraws:
    def test_cuboid_is_inside_and_uniformly_placed(self):
        shape = (8, 12, 9)
        params = draws(Cutout(0.25), 4000, shape)
        for axis, (side, expected) in enumerate(zip(shape, (2, 3, 3), strict=True)):
            assert {p["size"][axis] for p in params} == {expected}
            starts = [p["start"][axis] for p in params]
            counts = [starts.count(first) for first in range(side - expected + 1)]
            assert sum(counts) == len(params)  # no cuboid starts elsewhere, so that all lie inside
            assert chi_square_is_plausible(counts)

    def test_places_of_the_axes_are_independent(self):
        starts = torch.tensor([p["start"] for p in draws(CropResize(0.75), 4000)], dtype=torch.float64)
        correlation = torch.corrcoef(starts.T) - torch.eye(3)
        assert correlation.abs().max() < 5 / math.sqrt(4000)

    @pytest.mark.parametrize(
        ("fraction", "side", "expected"),
        [(0.25, 121, 31), (0.25, 145, 37), (0.75, 121, 91), (0.1, 30, 3), (1.0, 33, 33), (1e-9, 33, 1)],
    )
    def test_sides_are_rounded_up(self, fraction, side, expected):
        (params,) = draws(Cutout(fraction), 1, (side,) * 3)
        assert params["size"] == (expected,) * 3

    @pytest.mark.parametrize("transform", [GaussianBlur(), GaussianNoise()])
    def test_sigma_is_uniform_in_its_range(self, transform):
        sigmas = [p["sigma"] for p in draws(transform, 4000)]
        assert all(0.1 <= s < 1.0 for s in sigmas)
        assert chi_square_is_plausible(np.histogram(sigmas, bins=9, range=(0.1, 1.0))[0].tolist())

    def test_the_axis_of_a_flip_is_one_of_three(self):
        axes = [p["axis"] for p in draws(Flip(), 3000)]
        counts = [axes.count(axis) for axis in range(3)]
        assert sum(counts) == 3000
        assert chi_square_is_plausible(counts)

    @pytest.mark.parametrize("prob", [0.0, 0.2, 0.5, 1.0])
    def test_rate_of_application(self, prob):
        keys = [f"sub-{i}" for i in range(2000)]
        rows = TwoViews([Cutout(0.25, prob), Flip(prob)]).make_params(keys, epoch=0, shape=SHAPE)
        for column in zip(*rows, strict=True):
            rate = np.mean([chosen is not None for chosen in column])
            assert abs(rate - prob) <= 4 * math.sqrt(prob * (1 - prob) / len(rows))

    def test_transforms_apply_independently(self):
        keys = [f"sub-{i}" for i in range(2000)]
        rows = TwoViews("all_tf").make_params(keys, epoch=0, shape=SHAPE)
        applied = torch.tensor([[p is not None for p in row] for row in rows], dtype=torch.float64)
        views_1, views_2 = applied.chunk(2)
        correlation = torch.corrcoef(torch.cat([views_1, views_2], 1).T) - torch.eye(10)
        assert correlation.abs().max() < 5 / math.sqrt(2000)

    def test_a_probability_shifts_nothing_else(self):
        always = TwoViews([Flip(1.0), Cutout(0.25)]).make_params(KEYS, 0, SHAPE)
        never = TwoViews([Flip(0.0), Cutout(0.25)]).make_params(KEYS, 0, SHAPE)
        assert [row[1] for row in always] == [row[1] for row in never]
        assert all(row[0] is None for row in never)


class TestTwoViews:
    def test_shape_and_order(self):
        images = batch(3)
        out = TwoViews()(images, KEYS[:3], epoch=0)
        assert out.shape == (6, 2, *SHAPE)
        for row, view in enumerate(out):
            kept = view != 0
            assert torch.equal(view[kept], images[row % 3][kept])
            assert (~kept).sum() == 2 * 8 * 10 * 9  # 25 % of each side, rounded up

    def test_the_default_is_cutout(self):
        images = batch(2)
        expected = TwoViews([Cutout(fraction=0.25, prob=1.0)])(images, KEYS[:2], 3)
        assert torch.equal(TwoViews()(images, KEYS[:2], 3), expected)
        assert torch.equal(TwoViews("cutout")(images, KEYS[:2], 3), expected)

    def test_the_views_are_the_transforms_one_after_the_other(self):
        images, maker = batch(4), TwoViews("all_tf", seed=5)
        expected = images.repeat(2, 1, 1, 1, 1)
        rows = maker.make_params(KEYS[:4], 2, SHAPE)
        for transform, column in zip(maker.transforms, zip(*rows, strict=True), strict=True):
            expected = transform.apply(expected, column)
        assert torch.equal(maker(images, KEYS[:4], 2), expected)

    @pytest.mark.parametrize("name", ["cutout", "crop", "all_tf"])
    def test_composition_and_order_of_the_batch_do_not_matter(self, name):
        images, maker = batch(6, 1), TwoViews(name, seed=1)
        whole = dict(zip(KEYS, maker(images, KEYS, 4).view(2, 6, 1, *SHAPE).unbind(1), strict=True))
        order = [4, 1, 5, 0, 2, 3]
        for rows in (order, order[:2], order[2:5], [order[5]]):
            keys = [KEYS[r] for r in rows]
            parts = maker(images[rows], keys, 4).view(2, len(rows), 1, *SHAPE).unbind(1)
            for key, part in zip(keys, parts, strict=True):
                assert torch.equal(part, whole[key])

    def test_global_randomness_is_neither_read_nor_changed(self):
        images, maker = batch(2), TwoViews("all_tf")
        torch.manual_seed(0)
        state = torch.get_rng_state()
        first = maker(images, KEYS[:2], 0)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(1)
        assert torch.equal(maker(images, KEYS[:2], 0), first)

    def test_draws_are_the_same_on_every_machine_and_release(self):
        (row, *_) = TwoViews("all_tf", seed=0).make_params(["sub-01/ses-1"], epoch=1, shape=(121, 145, 121))
        assert row == [
            {"axis": 0},
            None,
            {"sigma": pytest.approx(0.32549584068432214, rel=1e-12), "seed": 3198890957321667911},
            None,
            {"start": (27, 29, 1), "size": (91, 109, 91)},
        ]

    def test_views_differ_between_seeds_epochs_keys_and_views(self):
        seen = [
            json.dumps(row)
            for seed in range(3)
            for epoch in range(3)
            for row in TwoViews("cutout", seed).make_params(KEYS, epoch, (121, 145, 121))
        ]
        assert len(set(seen)) == len(seen) == 3 * 3 * 2 * len(KEYS)

    def test_parts_of_the_seed_are_not_mixed_up(self):
        assert views._hash(1, 11, "a", 1) != views._hash(11, 1, "a", 1)
        assert views._hash(0, 0, "a', 1", 1) != views._hash(0, 0, "a", 1)

    def test_input_is_not_modified(self):
        images = batch(2)
        before = images.clone()
        TwoViews([ZScore(), *preset("all_tf")])(images, KEYS[:2], 0)
        assert torch.equal(images, before)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_a_batch_of_one(self, dtype):
        out = TwoViews("all_tf")(batch(1, 1, dtype=dtype), KEYS[:1], 0)
        assert out.shape == (2, 1, *SHAPE)
        assert out.dtype == dtype
        assert out.isfinite().all()

    def test_no_gradient_is_recorded(self):
        images = batch(1).requires_grad_()
        assert not TwoViews("all_tf")(images, KEYS[:1], 0).requires_grad

    def test_memory_format_and_type(self):
        images = MetaTensor(batch(2, 3).to(memory_format=torch.channels_last_3d))
        out = TwoViews("crop")(images, KEYS[:2], 0)
        assert type(out) is torch.Tensor
        assert out.is_contiguous(memory_format=torch.channels_last_3d)

    def test_pickles(self):
        images, maker = batch(1), TwoViews("all_tf", seed=2)
        copied = pickle.loads(pickle.dumps(maker))
        assert torch.equal(copied(images, KEYS[:1], 1), maker(images, KEYS[:1], 1))

    def test_from_a_monai_config(self):
        config = {
            "views": {
                "_target_": "bundle.pretext.TwoViews",
                "transforms": [{"_target_": "bundle.pretext.Cutout", "fraction": 0.25, "prob": 1.0}],
                "seed": 3,
            }
        }
        made = ConfigParser(config).get_parsed_content("views")
        assert made.make_params(KEYS, 0, SHAPE) == TwoViews("cutout", 3).make_params(KEYS, 0, SHAPE)


class TestPresets:
    def test_contents(self):
        assert repr(preset("cutout")) == "[Cutout(prob=1.0, fraction=0.25)]"
        assert repr(preset("crop")) == "[CropResize(prob=1.0, fraction=0.75)]"
        assert repr(preset("all_tf")) == (
            "[Flip(prob=0.5), GaussianBlur(prob=0.5, sigma=(0.1, 1.0)), GaussianNoise(prob=0.5, sigma=(0.1, 1.0)), "
            "Cutout(prob=0.5, fraction=0.25), CropResize(prob=0.5, fraction=0.75)]"
        )

    @pytest.mark.parametrize(("name", "nearest"), [("cut-out", "cutout"), ("croped", "crop"), ("all-tf", "all_tf")])
    def test_the_nearest_name_is_suggested(self, name, nearest):
        with pytest.raises(ValueError, match=f"named '{name}'; did you mean '{nearest}'"):
            preset(name)
        with pytest.raises(ValueError, match="did you mean"):
            TwoViews(name)


class TestRefusals:
    @pytest.mark.parametrize("prob", [math.nan, -0.1, 1.1, math.inf, "0.5", None, True])
    def test_probability(self, prob):
        for make in (lambda: Flip(prob), lambda: Cutout(0.25, prob), lambda: GaussianBlur(prob=prob)):
            with pytest.raises(ValueError, match=r"prob must be a number in \[0, 1\], but got"):
                make()

    @pytest.mark.parametrize("fraction", [0, -0.25, 1.01, math.nan, "0.25", None, True])
    def test_fraction(self, fraction):
        for kind in (Cutout, CropResize):
            with pytest.raises(ValueError, match=rf"{kind.__name__}: fraction must be a number in \(0, 1\]"):
                kind(fraction)

    @pytest.mark.parametrize("sigma", [1.0, (1.0,), (1.0, 0.1), (0.0, 1.0), (0.1, math.inf), ("0.1", 1), None])
    def test_sigma(self, sigma):
        for kind in (GaussianBlur, GaussianNoise):
            with pytest.raises(ValueError, match=f"{kind.__name__}: sigma must be two numbers"):
                kind(sigma)

    @pytest.mark.parametrize("images", [batch(1)[0], batch(1).long(), np.zeros((1, 1, 4, 4, 4)), None])
    def test_images(self, images):
        with pytest.raises(ValueError, match="images must be a floating-point batch"):
            TwoViews()(images, KEYS[:1], 0)
        with pytest.raises(ValueError, match="images must be a floating-point batch"):
            Flip().apply(images, [{"axis": 0}])

    @pytest.mark.parametrize("keys", [[], KEYS[:1], KEYS[:3], "ab", None])
    def test_number_of_keys(self, keys):
        with pytest.raises(ValueError, match="keys must be a list of one per image, 2 here"):
            TwoViews()(batch(2), keys, 0)

    def test_number_of_parameters(self):
        with pytest.raises(ValueError, match="params must be a list of one per image, 2 here"):
            Flip().apply(batch(2), [{"axis": 0}])

    def test_keys_are_strings(self):
        with pytest.raises(ValueError, match="keys must be strings such as"):
            TwoViews()(batch(2), [1, 2], 0)

    @pytest.mark.parametrize("value", [1.5, "1", None])
    def test_seed_and_epoch_are_integers(self, value):
        with pytest.raises(ValueError, match="seed must be an integer"):
            TwoViews(seed=value)
        with pytest.raises(ValueError, match="epoch must be an integer"):
            TwoViews()(batch(1), KEYS[:1], value)

    def test_numpy_integers_are_integers(self):
        plain, numpy = TwoViews(seed=3), TwoViews(seed=np.int64(3))
        assert plain.make_params(KEYS, 2, SHAPE) == numpy.make_params(KEYS, np.int32(2), SHAPE)

    @pytest.mark.parametrize("transforms", [[], [None], ["cutout"], [Cutout]])
    def test_transforms(self, transforms):
        with pytest.raises(ValueError, match="transforms must be the name of a preset or a list"):
            TwoViews(transforms)


def test_examples_in_the_docstrings_run():
    results = doctest.testmod(views)
    assert results.attempted >= 8
    assert results.failed == 0


def test_a_transform_of_ones_own():
    class Negate(Transform):
        @staticmethod
        def change_(volume):
            volume.neg_()

    images = batch(1)
    assert torch.equal(TwoViews([Negate()])(images, KEYS[:1], 0)[1], -images[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestCuda:
    @pytest.fixture
    def no_sync(self):
        """Any wait for the host is an error."""
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        yield
        torch.cuda.set_sync_debug_mode("default")

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_nothing_waits_for_the_host(self, dtype, no_sync):
        images = batch(3, dtype=torch.float32)
        torch.cuda.set_sync_debug_mode("default")
        images = images.to("cuda", dtype)
        torch.cuda.set_sync_debug_mode("error")
        out = TwoViews([*preset("all_tf"), ZScore(), *ALL])(images, KEYS[:3], 0)
        assert out.dtype == dtype
        assert out.device == images.device

    @each
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_equals_the_cpu_but_for_noise(self, transform, dtype):
        images = batch(3, dtype=dtype)
        params = draws(transform, 3)
        out, expected = transform.apply(images.cuda(), params).cpu(), transform.apply(images, params)
        if isinstance(transform, GaussianNoise):
            for noise, chosen in zip((out - images).float(), params, strict=True):
                assert abs(noise.std() - chosen["sigma"]) < 0.02
        else:
            tolerance = max(1e-5, 2 * torch.finfo(dtype).eps)
            torch.testing.assert_close(out, expected, rtol=tolerance, atol=tolerance)

    @pytest.mark.parametrize("name", ["cutout", "crop", "all_tf"])
    def test_the_batch_does_not_matter(self, name):
        images, maker = batch(6, 1).cuda(), TwoViews(name, seed=1)
        whole = maker(images, KEYS, 4)
        part = maker(images[[4, 1]], [KEYS[4], KEYS[1]], 4)
        assert torch.equal(part, whole[[4, 1, 10, 7]])

    @pytest.mark.parametrize("name", ["cutout", "crop", "all_tf"])
    def test_memory(self, name):
        images = batch(8, 1, (64, 72, 64)).cuda()
        size = images.numel() * images.element_size()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        TwoViews(name)(images, [*KEYS, "sub-90", "sub-91"], 0)
        # The two views, and the working memory of a few volumes.
        assert torch.cuda.max_memory_allocated() - before < 3 * size


def test_a_left_right_flip_reverses_the_first_axis_of_half_of_the_views():
    images = torch.randn(1, 1, 6, 7, 5)
    flipped = LeftRightFlip().apply(images, [{"axis": 0}])
    assert torch.equal(flipped, images.flip(2))
    views = TwoViews("cutout_flip", seed=0)
    rows = views.make_params([f"sub-{n}" for n in range(500)], 0, (6, 7, 5))
    assert {row[0]["axis"] for row in rows if row[0]} == {0}
    assert 420 < sum(row[0] is not None for row in rows) < 580
    assert all(row[1] is not None for row in rows)
    assert rows[0] != rows[500]  # the two views of somebody
