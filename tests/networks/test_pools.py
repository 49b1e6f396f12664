import pytest
import torch
import torch.nn.functional as F

from bundle.networks.pools import AveragePool, MaxPool

LAYOUTS = [torch.contiguous_format, torch.channels_last_3d]


def by_torch(pool, volumes):
    return F.avg_pool3d(volumes, 2) if isinstance(pool, AveragePool) else F.max_pool3d(volumes, 3, 2, 1)


@pytest.mark.parametrize("pool", [AveragePool(), MaxPool(3, 2, 1)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sides", [(7, 9, 6), (4, 4, 4), (2, 3, 2)])
def test_pools_and_gradients_are_those_of_torch(pool, layout, sides):
    torch.manual_seed(0)
    volumes = torch.randn(3, 5, *sides).to(memory_format=layout).requires_grad_()
    same = volumes.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    found, expected = pool(volumes), by_torch(pool, same)
    assert torch.allclose(found, expected, atol=1e-6)
    weight = torch.randn_like(expected)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    assert torch.allclose(volumes.grad, same.grad, atol=1e-6)


@pytest.mark.parametrize("pool", [AveragePool(), MaxPool(3, 2, 1)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pools_answer_in_the_type_and_layout_they_are_asked_in(pool, layout, dtype):
    volumes = torch.randn(2, 6, 8, 9, 7).to(dtype).to(memory_format=layout)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = pool(volumes)
    assert pooled.dtype == dtype
    assert pooled.is_contiguous(memory_format=layout)
    rounding = 1e-6 if dtype == torch.float32 else 0.02
    assert torch.allclose(pooled.float(), by_torch(pool, volumes.float()), atol=rounding)
