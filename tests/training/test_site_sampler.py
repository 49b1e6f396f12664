import itertools
from types import SimpleNamespace

import pytest

from bundle.training.site_sampler import SiteSampler

SITES = [*"aaaaaaaaaaaaa", *"bbbbbbb", *"ccc", "", "", "d"]


def sampler(seed=0, people_per_site=4, rank=0, num_replicas=1, **options):
    data = [{"site": site} for site in SITES]
    dataset = type("Data", (SimpleNamespace,), {"__len__": lambda self: len(self.data)})(data=data)
    return SiteSampler(dataset, people_per_site, seed=seed, rank=rank, num_replicas=num_replicas, **options)


def epoch(made, number=0):
    made.set_epoch(number)
    return list(made)


def test_everybody_comes_once_and_the_order_depends_on_seed_and_epoch_alone():
    first = epoch(sampler())
    assert sorted(first) == list(range(len(SITES)))
    assert epoch(sampler()) == first
    assert epoch(sampler(), 1) != first
    assert epoch(sampler(seed=1)) != first


def test_people_of_a_site_come_in_groups():
    order = [SITES[place] for place in epoch(sampler())]
    runs = [(site, len(list(group))) for site, group in itertools.groupby(order)]
    lengths = {site: sorted(n for s, n in runs if s == site) for site in "abcd"}
    assert sum(lengths["a"]) == 13
    assert max(lengths["a"]) >= 4  # two groups may meet
    assert len(lengths["a"]) <= 4
    assert lengths["c"] == [3]


def test_a_resumed_epoch_leaves_out_what_was_seen_and_the_next_is_whole():
    whole, made = epoch(sampler(), 3), sampler()
    made.skip = 10
    assert epoch(made, 3) == whole[10:]
    assert epoch(made, 3) == whole


@pytest.mark.parametrize("even", [False, True])  # as the overlay for several processes sets both
def test_processes_take_turns_in_one_order(even):
    whole, options = epoch(sampler()), {"num_replicas": 3, "drop_last": even, "even_divisible": even}
    made = [sampler(rank=rank, **options) for rank in range(3)]
    parts = [epoch(one) for one in made]
    assert [len(part) for part in parts] == [len(one) for one in made] == ([8, 8, 8] if even else [9, 9, 8])
    assert [parts[place % 3][place // 3] for place in range(sum(map(len, parts)))] == whole[: sum(map(len, parts))]


def test_an_uneven_cohort_is_filled_up_where_nobody_is_dropped():
    whole = epoch(sampler())
    parts = [epoch(sampler(rank=rank, num_replicas=3)) for rank in range(3)]
    assert [parts[place % 3][place // 3] for place in range(27)] == [*whole, whole[0]]


def test_groups_of_one_are_refused():
    with pytest.raises(ValueError, match="`people_per_site` is 1"):
        sampler(people_per_site=1)
