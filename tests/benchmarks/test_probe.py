"""What a probe gains: the layout of pooling, folds that are made once, text that is written at once.

    make bench

prints seconds for orientation; what is asserted are ratios of one run.
"""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from bundle.evaluation import features, linear
from bundle.networks.encoders import DenseNetEncoder
from tests.benchmarks.measure import CUDA, seconds, table, threads

pytestmark = pytest.mark.bench
SMALL = {"init_features": 16, "growth_rate": 16, "block_config": (3, 6, 8)}  # of configs/phantom.yaml
SUBJECTS, BATCH, METHODS = 48, 16, 5


@pytest.mark.skipif(CUDA, reason="the layout is chosen on CPUs alone")
def test_features_are_faster_where_pooling_has_channels_last(show):
    plain, batches = DenseNetEncoder(**SMALL).eval(), [{"image": torch.randn(BATCH, 1, 40, 48, 40)}] * 3
    extractor = features.Images(None).encoder(copy.deepcopy(plain))

    def embedded(one):
        return seconds(lambda: features.features_of({"m": one}, batches, SUBJECTS))

    with threads(1):
        contiguous, placed = embedded(lambda volumes: plain(volumes, 2)), embedded(extractor)
    rows = [("contiguous", f"{contiguous:.2f}"), ("as it is", f"{placed:.2f}"), ("ratio", f"{contiguous / placed:.2f}")]
    show(table(f"Features of {SUBJECTS} volumes of 40x48x40", ["", "s"], rows))
    assert placed < 0.95 * contiguous


def test_another_method_on_a_draw_waits_for_no_folds(show):
    random = np.random.default_rng(0)
    labels, people = np.arange(200) % 2, np.array([f"sub-{i}" for i in range(200)])
    methods = [random.normal(size=(200, 4)) + labels[:, None] for _ in range(METHODS)]

    def probed(forget):
        for method in methods:
            if forget:
                linear._inner_folds.cache_clear()
            linear.fit_predict(method, labels, people, method[:20], [0.1, 1.0], "each")

    each, once = seconds(lambda: probed(True)), seconds(lambda: probed(False))
    rows = [("each", f"{each:.3f}"), ("once", f"{once:.3f}")]
    show(table(f"{METHODS} methods on a draw of 200", ["folds", "s"], rows))
    assert once < 0.8 * each


def test_the_table_of_an_embedding_is_written_sooner_than_by_pandas(show):
    values = np.random.default_rng(0).normal(size=(400, 1536)).astype(np.float32)
    ids = pd.DataFrame({"participant_id": [f"sub-{i}" for i in range(400)], "age": 30.5})

    def by_pandas():
        whole = pd.concat([ids, pd.DataFrame(values).add_prefix("e")], axis=1)
        return whole.to_csv(sep="\t", index=False, float_format="%.6g")

    pandas, ours = seconds(by_pandas, 3), seconds(lambda: features.embedding_table(ids, values), 3)
    show(table("400 embeddings of 1,536 as text", ["", "s"], [("pandas", f"{pandas:.2f}"), ("ours", f"{ours:.2f}")]))
    assert ours < 0.6 * pandas
