import doctest

import pytest
import torch

from bundle.pretext import models_genesis
from bundle.pretext.models_genesis import LocalShuffle, NonlinearIntensity, Paint
from bundle.pretext.views import TwoViews

SHAPE = (20, 24, 22)
ALL = [NonlinearIntensity(1.0), LocalShuffle(0.3, 1.0), Paint(prob=1.0)]
each = pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)


def volumes(n=3, dtype=torch.float32):
    return torch.randn(n, 2, *SHAPE, generator=torch.Generator().manual_seed(1)).to(dtype)


def draws(transform, n=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [transform.make_params(generator, SHAPE) for _ in range(n)]


def test_examples_in_the_docstrings_run():
    assert doctest.testmod(models_genesis).failed == 0


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_a_volume_changes_within_its_range_and_alone(transform, dtype):
    images = volumes(dtype=dtype)
    params = [draws(transform)[0], None, draws(transform)[1]]
    out = transform.apply(images, params)
    assert out.dtype == dtype
    assert torch.equal(out[1], images[1])
    for before, after in zip(images[[0, 2]], out[[0, 2]], strict=True):
        assert not torch.equal(before, after)
        assert before.min() - 0.01 <= after.min()
        assert after.max() <= before.max() + 0.01
    assert torch.equal(out, transform.apply(images, params))


def test_intensities_keep_their_order_and_follow_the_curve():
    points = ((0.2, 0.9), (0.7, 0.1))
    volume = torch.linspace(-2, 5, 4096, dtype=torch.float64).view(1, 1, 16, 16, 16)
    mapped = NonlinearIntensity().apply(volume, [{"points": points}]).flatten()
    assert (mapped.diff() >= -1e-9).all()
    for t in (0.1, 0.4, 0.8):  # a point of the curve by its definition
        x, y = (3 * t * (1 - t) ** 2 * a + 3 * t**2 * (1 - t) * b + t**3 for a, b in zip(*points, strict=True))
        nearest = int((volume.flatten() - (-2 + 7 * x)).abs().argmin())
        assert mapped[nearest].item() == pytest.approx(-2 + 7 * y, abs=0.02)


def test_shuffling_permutes_the_voxels_of_each_box_and_of_no_other():
    (params,) = draws(LocalShuffle(0.3), 1)
    volume = volumes(1)
    after = LocalShuffle(0.3).apply(volume, [params])[0]
    (depth, height, width), offset = params["size"], params["offset"]
    for d in range(-offset[0], SHAPE[0], depth):
        for h in range(-offset[1], SHAPE[1], height):
            for w in range(-offset[2], SHAPE[2], width):
                box = tuple(slice(max(0, a), a + n) for a, n in ((d, depth), (h, height), (w, width)))
                for channel in (0, 1):
                    before, moved = volume[0, channel][box].flatten(), after[channel][box].flatten()
                    assert torch.equal(before.sort().values, moved.sort().values)
    assert (after != volume[0]).float().mean() > 0.9


@pytest.mark.parametrize("outer", [True, False])
def test_paint_covers_the_boxes_or_all_but_them(outer):
    transform = Paint(outer=float(outer))
    volume = torch.randint(2, (1, 1, *SHAPE)).float()  # 0 and 1, which the noise between them never is
    for params in draws(transform, 5):
        assert params["outer"] is outer
        inside = torch.zeros(SHAPE, dtype=torch.bool)
        for start, size in params["boxes"]:
            inside[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = True
        kept = transform.apply(volume, [params])[0, 0] == volume[0, 0]
        assert torch.equal(kept, inside if outer else ~inside)


def test_the_published_rates():
    painted = draws(Paint(), 2000)
    assert sum(p["outer"] for p in painted) / 2000 == pytest.approx(0.8, abs=0.03)
    assert {len(p["boxes"]) for p in painted if p["outer"]} == {1, 2, 3, 4}
    assert {len(p["boxes"]) for p in painted if not p["outer"]} == {1, 2, 3, 4, 5}
    assert (NonlinearIntensity().prob, LocalShuffle().prob, Paint().prob) == (0.9, 0.5, 0.9)


def test_views_are_the_same_for_any_batch():
    views, images = TwoViews(ALL, seed=3), volumes(3)
    together = views(images, ["a", "b", "c"], 2)
    assert torch.equal(views(images[1:2], ["b"], 2), together[[1, 4]])


def test_refusals():
    with pytest.raises(ValueError, match="LocalShuffle: fraction must be a number in"):
        LocalShuffle(0.0)
    with pytest.raises(ValueError, match="Paint: outer_fraction must be two numbers"):
        Paint(outer_fraction=(0.5, 0.4))
    with pytest.raises(ValueError, match="Paint: boxes must be at least 1"):
        Paint(inner_boxes=0)
