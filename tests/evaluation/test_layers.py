"""Features of every block beside each other, and what each of them reads."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from bundle.evaluation import features, layers
from bundle.networks.encoders import DenseNetEncoder


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return DenseNetEncoder(init_features=8, growth_rate=4, block_config=(1, 2, 1)).eval()


def test_blocks_from_one_pass_are_those_of_a_pass_each(encoder):
    batches = [{"image": torch.randn(2, 1, 32, 32, 32)} for _ in range(9)]
    stem, passes = encoder.features.conv0, []
    stem.register_forward_hook(lambda *_: passes.append(1))
    other = DenseNetEncoder(init_features=8, growth_rate=4, block_config=(1, 2, 1))
    images = features.Images(None, pool=2)
    extractors = layers.extractors_of(images, {"a": encoder, "b": other}, [1, 2])
    assert list(extractors) == ["a, block 1", "a, block 2", "a", "b, block 1", "b, block 2", "b"]
    found = features.features_of(extractors, batches, 18)
    assert len(passes) == len(batches)
    with torch.no_grad():
        for name, last in {"a, block 1": 4, "a, block 2": 6}.items():
            kept = [part for part in list(encoder.features)[: last + 1]]
            maps = [F.relu(torch.nn.Sequential(*kept)(batch["image"])) for batch in batches]
            expected = torch.cat([F.adaptive_avg_pool3d(cells, 2).flatten(1) for cells in maps]).numpy()
            np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)
        assert np.array_equal(found["a"], torch.cat([encoder(batch["image"], 2) for batch in batches]).numpy())


def test_the_last_block_alone_is_as_it_was(encoder):
    extractors = layers.extractors_of(features.Images(None, pool=2), {"a": encoder}, [])
    assert list(extractors) == ["a"]
    volumes = torch.randn(2, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(extractors["a"](volumes), encoder(volumes, 2))


def summary_of(names):
    rows = [
        ("t", n, name, 0.5 + place / 100 + n / 1000, 0.4, 0.9) for n in (10, 20) for place, name in enumerate(names)
    ]
    return pd.DataFrame(rows, columns=["task", "n", "method", "auc", "low", "high"])


def test_the_table_has_the_largest_n_and_the_age_error_of_each_block(tmp_path):
    names = ["y, block 1", "y", "r, block 1", "r", "calibrated", "voxels"]
    ages = pd.DataFrame({"method": names, "mae": range(6), "low": 0.0, "high": 9.0})
    table = layers.layers_table(summary_of(names), ages, ["y", "r"], [1], 3)
    aucs = table[table["measure"] == layers.AUC].set_index(["method", "block"])["value"]
    assert aucs[("y", 1)] == pytest.approx(0.52)
    assert aucs[("y", 3)] == pytest.approx(0.53)
    assert aucs[("r", 3)] == pytest.approx(0.55)
    assert set(table["method"]) == {"y", "r", "voxels"}
    assert table[table["measure"] == layers.AGE]["value"].tolist() == [0, 1, 2, 3, 5]
    text = layers.write_layers(tmp_path, table, "A phantom.")
    assert "| y        | 0.520 (0.40–0.90) | 0.530 (0.40–0.90) |" in text
    assert "block 3 (last)" in text
    assert text.startswith("A phantom.")
    assert "chosen beforehand" in text
    assert (tmp_path / "layers.png").stat().st_size > 5_000
    assert len(pd.read_csv(tmp_path / "layers.csv")) == 10
