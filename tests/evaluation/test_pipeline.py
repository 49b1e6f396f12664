import numpy as np
import pytest
import torch

from bundle.cohort.folds import Trial
from bundle.evaluation import probing
from bundle.evaluation.features import IDS, Images, covariates, voxels
from bundle.evaluation.pipeline import Probe, probe_pools
from bundle.evaluation.plan import KNOWN, VOXELS
from bundle.evaluation.subjects import Pool, Subjects, draw_pool
from bundle.evaluation.unknown import not_read


def people(n, seed=0):
    rng = np.random.default_rng(seed)
    ids = dict.fromkeys(IDS, "x")
    return [
        {
            **ids,
            "participant_id": f"{seed}-{i}",
            "label": i % 2,
            "age": rng.uniform(20, 60) + i % 2,
            "sex": "F",
            "tiv": 1.0,
        }
        for i in range(n)
    ]


def image_of(record):
    rng = np.random.default_rng(int(record["participant_id"].split("-")[1]))
    return {"image": torch.as_tensor(rng.normal(size=(1, 4, 4, 4)) + record["label"], dtype=torch.float32)}


POOLS = [
    Pool(f"task {k}", people(30 + 10 * k, k), [Trial(20, d, np.arange(d, d + 20), np.arange(24, 30)) for d in (0, 2)])
    for k in (1, 2)
]
EXTRACTORS = {"corner": lambda v: v[:, 0, :2, :2, 0].flatten(1), VOXELS: voxels, KNOWN: None}


@pytest.mark.parametrize("adjust", [(), ("age",)])
def test_every_method_and_task_is_probed_as_it_would_be_alone(adjust):
    probe = Probe([0.1, 1.0], [1e-4, 1e-3], adjust)
    found = list(probe_pools(Images(image_of, batch_size=7), probe, EXTRACTORS, POOLS))
    assert [(p.scores["task"].iloc[0], p.method) for p in found] == [(p.task, m) for p in POOLS for m in EXTRACTORS]
    for probed, pool in zip(found, np.repeat(np.arange(2), 3), strict=True):
        pool = POOLS[pool]
        volumes = torch.stack([image_of(r)["image"] for r in pool.records])
        extractor = EXTRACTORS[probed.method]
        alone = covariates(pool.records) if extractor is None else extractor(volumes).numpy()
        assert np.array_equal(probed.features, alone)
        options = {VOXELS: ([1e-4, 1e-3], "none", adjust), KNOWN: ([0.1, 1.0], "each", ())}
        penalties, scaling, taken = options.get(probed.method, ([0.1, 1.0], "overall", adjust))
        parts = probing.probe_diagnosis(probed.method, alone, pool.records, pool.trials, penalties, scaling, taken)
        for draw, part in enumerate(parts):
            assert probed.scores["score"].to_numpy()[6 * draw : 6 * draw + 6].tolist() == part["score"].tolist()
        assert probed.ids["participant_id"].tolist() == [r["participant_id"] for r in pool.records]


def test_no_image_is_read_for_what_is_known_beside_it():
    def preprocessing(record):
        raise AssertionError("an image was read")

    found = list(probe_pools(Images(preprocessing), Probe(), {KNOWN: None}, POOLS))
    assert [p.method for p in found] == [KNOWN, KNOWN]


def lacking(pool, **unknown):
    return pool._replace(records=[{**record, **unknown} for record in pool.records])


def test_what_is_known_is_named_and_read_alone():
    unknown = lacking(POOLS[0], tiv=np.nan)
    (found,) = probe_pools(Images(image_of), Probe(), {KNOWN: None}, [unknown])
    assert (found.method, found.features.shape[1]) == ("age, sex", 2)
    assert set(found.scores["method"]) == {"age, sex"}
    assert not list(probe_pools(Images(image_of), Probe(), {KNOWN: None}, [lacking(unknown, age=np.nan, sex="")]))
    nobody, everybody = lacking(unknown, age=np.nan, sex="").records, POOLS[1].records
    assert not_read({"a": everybody}) == ""
    said = not_read({"a": unknown.records, "b": nobody})
    assert "not in the line 'age, sex, TIV': TIV (a); age, sex, TIV (b, where there is no such line)" in said


def test_an_effect_that_cannot_be_told_is_refused_and_one_that_is_filled_in_is_said():
    probe, unknown = Probe(adjust=["age", "tiv"]), lacking(POOLS[0], tiv=np.nan)
    for refused in (probe.check, lambda pool: list(probe_pools(Images(image_of), probe, EXTRACTORS, [pool]))):
        with pytest.raises(ValueError, match=r"`adjust` names tiv, but in task 1, N = 20, draw 0 it is known of none"):
            refused(unknown)
    assert probe.adjusted([POOLS[0]]) == "Effects of age, tiv are removed from all features."
    unknown.records[0]["tiv"] = 1.0
    assert probe.adjusted([unknown]).endswith("the mean of those who train: tiv of 39 of 40 scans.")
    assert Probe().adjusted([unknown]) == ""


def test_a_pool_knows_whom_it_tests_and_a_draw_of_it():
    sections = {"training": people(20, 1), "test": people(10, 2)}
    pool = draw_pool("t", sections, [10, 16], 3, seed=0)
    assert pool.tested == sections["test"]
    assert [(t.n, t.draw) for t in pool.of_draw(2).trials] == [(10, 2), (16, 2)]
    assert pool.of_draw(2).records == pool.records
    alone = draw_pool("t", sections, [10, 16], 5, seed=0).of_draw(2)
    assert all(np.array_equal(a.train, b.train) for a, b in zip(alone.trials, pool.of_draw(2).trials, strict=True))


def test_a_protocol_of_another_name_is_refused_where_it_is_given():
    with pytest.raises(ValueError, match="No protocol is named 'fold'; did you mean 'folds'"):
        Subjects({}, protocol="fold")
