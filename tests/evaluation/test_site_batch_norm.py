"""Who is tested is read with the statistics of their own site's scans; labels, order and other sites have no part."""

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn

from bundle.adaptation import LEAST, batch_norms, share_of_initial
from bundle.cohort.folds import Trial, fold_trials, site_trials
from bundle.evaluation import probing
from bundle.evaluation.features import ADAPTED_TO, IDS, Images, voxels
from bundle.evaluation.pipeline import Probe, probe_pools
from bundle.evaluation.plan import VOXELS
from bundle.evaluation.site_batch_norm import Adapting, SiteCopies, groups_of, put_apart
from bundle.evaluation.subjects import Pool
from bundle.networks.encoders import DenseNetEncoder

METHOD = Adapting("batch_norm")


class Unpadded(nn.Module):
    """An encoder without padding, so that a factor and a shift of an image are ones of each channel, everywhere."""

    embedding_size = 4

    def __init__(self):
        super().__init__()
        layers = nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 4, 3), nn.BatchNorm3d(4), nn.ReLU()
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten())

    def forward(self, volumes):
        return self.layers(volumes)


def trained(encoder, batches=60):
    """With statistics of data, as a training leaves them."""
    torch.manual_seed(1)
    encoder.train()
    with torch.no_grad():
        for _ in range(batches):
            encoder(torch.randn(6, 1, 9, 9, 9))
    return encoder.eval()


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return trained(Unpadded())


def people(**sizes):
    ids = dict.fromkeys(IDS, "")
    names = [(site, number) for site, size in sizes.items() for number in range(size)]
    return [
        {**ids, "participant_id": f"{site}{number}", "site": site, "label": number % 2, "seed": row, "age": 20.0 + row}
        for row, (site, number) in enumerate(names)
    ]


def image_of(record, gain=None):
    """Noise of a person, with a factor and a shift of the site, and more of it in patients."""
    factor, shift = (gain or {}).get(record["site"], (1.0, 0.0))
    noise = np.random.default_rng(record["seed"]).normal(size=(1, 9, 9, 9)) * (1 + 0.2 * record.get("ill", 0))
    return {"image": torch.as_tensor(factor * noise + shift, dtype=torch.float32)}


IMAGES = Images(image_of, pool=1, batch_size=7)


def by_site(records, task="t"):
    return Pool(task, records, site_trials(records, task))


def adapted_features(encoder, pool, images=IMAGES):
    """Features by person, of those who are tested."""
    apart = put_apart(pool)
    found = SiteCopies(images, {"m": encoder}).features(apart)["m"]
    return {
        str(r["participant_id"]) + str(r["session_id"]): f
        for r, f in zip(apart.pool.records[len(apart.kept) :], found, strict=True)
    }


@torch.no_grad()
def directly(encoder, volumes, shown):
    """Features of volumes by a forward pass of all that show the site, whose input each layer's statistics are."""
    own = copy.deepcopy(encoder).train()
    seen = {}
    for name, module in own.named_modules():
        if isinstance(module, nn.BatchNorm3d):
            module.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0]}))
    own(shown)
    told = copy.deepcopy(encoder).eval()
    for name, values in seen.items():
        columns = values.transpose(0, 1).flatten(1)
        told.get_submodule(name).running_mean.copy_(columns.mean(1))
        told.get_submodule(name).running_var.copy_(columns.var(1))
    return told(volumes).numpy(), seen


@pytest.mark.parametrize("kind", [Unpadded, lambda: DenseNetEncoder(1, 8, 4, (1,))])
def test_statistics_and_features_are_those_of_one_pass_of_all_volumes_of_the_site(kind):
    torch.manual_seed(0)
    encoder = trained(kind())
    before = copy.deepcopy(encoder.state_dict())
    records = people(a=22, b=25, c=39)
    found = adapted_features(encoder, by_site(records))
    for site in "abc":
        own = [r for r in records if r["site"] == site]
        volumes = torch.stack([image_of(r)["image"] for r in own])
        expected, seen = directly(encoder, volumes, volumes)
        adapted = IMAGES.adapted(encoder, own)
        for name, values in seen.items():
            columns = values.transpose(0, 1).flatten(1)
            norm = adapted.get_submodule(name)
            assert norm.running_mean.numpy() == pytest.approx(columns.mean(1).numpy(), abs=1e-5)
            assert norm.running_var.numpy() == pytest.approx(columns.var(1).numpy(), rel=1e-4)
        got = np.stack([found[r["participant_id"]] for r in own])
        assert got == pytest.approx(expected, abs=1e-5)
    assert len(seen) == len(batch_norms(encoder))
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_a_factor_and_a_shift_of_a_new_site_are_taken_out(encoder):
    records = people(a=22, b=22)
    plain = adapted_features(encoder, by_site(records))
    images = Images(lambda r: image_of(r, {"b": (5.0, 2.0)}), pool=1)
    moved = adapted_features(encoder, by_site(records), images)
    for name, features in plain.items():
        assert moved[name] == pytest.approx(features, abs=1e-4)
    extractor = {"m": images.encoder(encoder)}
    raw = images.features(extractor, records[22:])["m"] - IMAGES.features(extractor, records[22:])["m"]
    assert np.abs(raw).max() > 0.5  # what the encoder as pretrained would see


def test_most_of_it_is_taken_out_of_a_densenet_whose_padding_is_zero():
    torch.manual_seed(0)
    encoder, records = trained(DenseNetEncoder(1, 8, 4, (1,))), people(a=22, b=22)
    images = Images(lambda r: image_of(r, {"b": (3.0, 0.5)}), pool=1)
    plain, moved = (adapted_features(encoder, by_site(records), how) for how in (IMAGES, images))
    extractor = {"m": images.encoder(encoder)}
    raw = images.features(extractor, records[22:])["m"] - IMAGES.features(extractor, records[22:])["m"]
    left = np.stack([moved[r["participant_id"]] - plain[r["participant_id"]] for r in records[22:]])
    assert np.abs(left).mean() < 0.15 * np.abs(raw).mean()


def test_labels_order_and_other_sites_have_no_part(encoder):
    records = people(a=45, b=22)
    found = adapted_features(encoder, by_site(records))
    flipped = [{**r, "label": 1 - r["label"]} for r in records]
    turned = sorted(flipped, key=lambda r: r["label"])
    fewer = [r for r in records if r["site"] == "a"] + people(a=0, x=20)
    for other in (flipped, turned, fewer):
        again = adapted_features(encoder, by_site(other))
        for name in (r["participant_id"] for r in other if r["site"] == "a"):
            assert again[name] == pytest.approx(found[name], abs=1e-6)


def test_scores_are_those_of_training_features_as_pretrained_and_test_features_of_a_copy(encoder):
    """Put together by hand, trial by trial: in the protocol `sites` everybody has both."""
    records = [{**r, "ill": r["label"]} for r in people(a=22, b=24, c=20)]
    pool = by_site(records)
    volumes = torch.stack([image_of(r)["image"] for r in records])
    with torch.no_grad():
        plain = encoder(volumes).numpy()
    sources = {"m": IMAGES.encoder(encoder), VOXELS: voxels}
    probe = Probe([0.1, 1.0], [1e-3], adapt="batch_norm")
    found = {p.method: p for p in probe_pools(IMAGES, probe, sources, [pool], SiteCopies(IMAGES, {"m": encoder}))}
    expected = []
    for trial in pool.trials:
        features = plain.copy()
        features[trial.test] = directly(encoder, volumes[trial.test], volumes[trial.test])[0]
        parts = probing.probe_diagnosis("m", features, records, [trial], [0.1, 1.0])
        expected += [(r.participant_id, r.score) for part in parts for r in part.itertuples()]
    got = found["m"].scores
    assert got["participant_id"].tolist() == [name for name, _ in expected]
    assert got["score"].to_numpy() == pytest.approx([score for _, score in expected], abs=1e-4)
    assert len(found["m"].ids) == len(found["m"].features) == 2 * len(records)
    assert found["m"].ids[ADAPTED_TO].tolist() == [""] * 66 + [r["site"] for r in records]
    alone = next(probe_pools(IMAGES, Probe([0.1, 1.0], [1e-3]), {VOXELS: voxels}, [pool]))
    assert found[VOXELS].scores.equals(alone.scores)  # of no network
    assert ADAPTED_TO not in found[VOXELS].ids
    unadapted = next(probe_pools(IMAGES, Probe([0.1, 1.0]), {"m": sources["m"]}, [pool]))
    assert not np.allclose(unadapted.scores["score"], got["score"], atol=0.05)


def test_in_draws_a_row_is_one_person_and_stays_where_it_was(encoder):
    records = people(a=20, b=10, z=20, y=21)
    test = np.arange(30, 71)
    pool = Pool("t", records, [Trial(8, d, np.arange(d, d + 8), test) for d in (0, 15)])
    apart = put_apart(pool)
    assert [r["participant_id"] for r in apart.pool.records] == [r["participant_id"] for r in records]
    assert all(
        np.array_equal(a.train, b.train) and np.array_equal(a.test, b.test)
        for a, b in zip(apart.pool.trials, pool.trials, strict=True)
    )
    assert [r[ADAPTED_TO] for r in apart.pool.records] == [""] * 30 + ["z"] * 20 + ["y"] * 21
    assert apart.people == {"y in t": 21, "z in t": 20}


def test_who_was_scanned_often_shows_the_site_once(encoder):
    records = people(a=22, b=22)
    often = [
        *records,
        *({**records[3], "participant_id": "sub-a3", "session_id": f"ses-{k}", "seed": 100 + k} for k in range(5)),
    ]
    once, found = (adapted_features(encoder, by_site(each)) for each in (records, often))
    for name, features in once.items():
        assert found[name] == pytest.approx(features, abs=1e-6)
    volumes = torch.stack([image_of(r)["image"] for r in records[:22]])
    last = image_of(often[-1])["image"][None]
    assert found["sub-a3ses-4"] == pytest.approx(directly(encoder, last, volumes)[0][0], abs=1e-5)


def test_small_sites_that_are_tested_together_are_one():
    rows = groups_of(people(a=20, b=12, c=8, d=30), "t")
    assert {name: len(own) for name, own in rows.items()} == {"a": 20, "d": 30, "b; c": 20}
    twice = [*people(a=20, b=19), {**people(b=1)[0], "session_id": "2"}]
    with pytest.raises(ValueError, match="in t there are 19 of 'b': statistics of so few are chance"):
        groups_of(twice, "t")


RECORDS = people(a=22, b=22, c=22)
EVERY = np.arange(66)


@pytest.mark.parametrize(
    ("pool", "reason"),
    [
        (
            by_site(people(a=22, b=19)),
            r"needs at least 20 people who are tested at a site, .* in t there are 19 of 'b'",
        ),
        (
            Pool("t", people(a=40, b=10, c=9), [Trial(40, 0, np.arange(40), np.arange(40, 59))]),
            "there are 19 of 'b', 'c'",
        ),
        (
            Pool("t", RECORDS, fold_trials(RECORDS, 3, 1, 0, "t")),
            r"t both trains and tests at 'a', 'b', 'c' .*as folds",
        ),
        (Pool("t", RECORDS, [Trial(30, 2, EVERY[:23], EVERY[22:])]), r"trains and tests at 'b' \(N = 30, draw 2\)"),
        (
            Pool("t", [{**RECORDS[0], "site": None}, *RECORDS[1:]], [Trial(22, 0, EVERY[:22], EVERY[22:])]),
            "The site of 'a0' in t is unknown, so that nobody can tell whether it is a new one",
        ),
    ],
)
def test_sites_that_cannot_be_adapted_to_are_refused(pool, reason):
    Adapting().check(pool)
    with pytest.raises(ValueError, match=reason) as refused:
        METHOD.check(pool)
    assert str(refused.value).endswith("or use `adapt: none`.")


def test_a_site_that_age_is_learned_from_is_refused():
    pools = [by_site(people(a=22, b=22))]
    METHOD.check_ages(pools, people(c=3))
    Adapting().check_ages(pools, people(b=1))
    with pytest.raises(ValueError, match=r"t tests at 'b', where `training` of pretraining\.json has people, too"):
        METHOD.check_ages(pools, people(b=1, c=3))


def test_networks_without_statistics_of_data_are_refused(encoder):
    for network in (DenseNetEncoder(1, 8, 8, (1,), norm="group"), nn.BatchNorm3d(2, track_running_stats=False)):
        Adapting().check_network(network, "w.pt")
        with pytest.raises(ValueError, match=r"w\.pt has no batch norm that keeps statistics"):
            METHOD.check_network(network, "w.pt")
    METHOD.check_network(encoder, "w.pt")
    METHOD.check_statistics(encoder, "w.pt")
    for batches, left in ((0, "100 %"), (1, "90 %"), (43, "1 %")):
        Adapting().check_statistics(trained(Unpadded(), batches), "w.pt")
        with pytest.raises(ValueError, match=f"{left} of the batch-norm statistics of w.pt are still as initialised"):
            METHOD.check_statistics(trained(Unpadded(), batches), "w.pt")
    METHOD.check_statistics(trained(Unpadded(), 44), "w.pt")


def test_the_share_that_is_left_is_measured():
    """Where all batches have a mean of 3, the running mean lacks of it what is left of its beginning."""
    norm = nn.BatchNorm3d(1, momentum=0.2)
    for _ in range(7):
        norm(torch.full((2, 1, 2, 2, 2), 3.0))
    assert share_of_initial(norm) == pytest.approx(1 - float(norm.running_mean) / 3, rel=1e-5)
    converted = nn.BatchNorm3d(1)
    assert share_of_initial(converted) == 1
    converted.running_mean.fill_(0.1)  # of other software, which does not count
    assert share_of_initial(converted) == 0
    cumulative = nn.BatchNorm3d(1, momentum=None)
    cumulative(torch.zeros(2, 1, 2, 2, 2))
    assert share_of_initial(cumulative) == 0
    assert share_of_initial(nn.Conv3d(1, 1, 1)) == 0


def test_other_words_and_two_ways_at_once_are_refused():
    with pytest.raises(ValueError, match="`adapt` cannot be 'batchnorm'; did you mean 'batch_norm'"):
        Adapting("batchnorm")
    for kind in ("centre", "combat", "project", "coral"):
        with pytest.raises(ValueError, match=f"`adapt: batch_norm` and `harmonize: {kind}` both take effects of sites"):
            Probe(harmonize=kind, adapt="batch_norm")
    assert Probe(adjust=("age",), adapt="batch_norm").adapting


def test_a_table_says_what_was_done():
    pools = [by_site(people(a=22, b=20), "one"), by_site(people(c=30, d=20), "two")]
    found = METHOD.sentence(pools, "Beside.")
    assert found.startswith("Adaptive batch norm: features of tested subjects come from copies of the encoder whose")
    assert found.endswith("Beside. People by whose scans: a in one (22), b in one (20), c in two (30), d in two (20).")
    assert Adapting().sentence(pools, "Beside.") == ""
    assert METHOD.sentence().endswith("read with the encoder as pretrained.")
    assert LEAST == 20
    assert re.search("unlabelled scans of their site", found)
