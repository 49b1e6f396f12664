"""An order of the subjects in which several of a site follow each other, so that a batch has people to compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from bundle.training.resume import EpochSampler


class SiteSampler(EpochSampler):
    """Deals out a cohort by small groups of one site, in random order.

    In each epoch the subjects of each site are shuffled and cut into groups, and all groups are shuffled. Everybody
    comes once, as with any order; a batch has people of about `batch_size / people_per_site` sites. The order depends
    on seed and epoch alone. Of several processes each takes its turn, so that the batch of all together is one of this
    order.

    Args:
        dataset: Records of the training are in its `data`, each with a `site`; an unknown site, the empty text, makes
            no groups.
        people_per_site: Subjects of a group; the last group of a site may be smaller.
        kwargs: Those of `EpochSampler`: `num_replicas`, `rank`, `seed`, `drop_last`, `even_divisible`.

    Raises:
        ValueError: for a group of fewer than two.
    """

    def __init__(self, dataset: Any, people_per_site: int, **kwargs: Any) -> None:
        if people_per_site < 2:
            raise ValueError(
                f"`people_per_site` is {people_per_site}, but somebody alone has nobody to be compared with; give at "
                "least 2."
            )
        super().__init__(dataset=dataset, **kwargs)
        self.people_per_site = people_per_site
        self._members = _members(dataset.data)

    def whole(self) -> Iterator[int]:
        """The order of a whole epoch, as far as it is this process' share."""
        order = self._order(torch.Generator().manual_seed(self.seed + self.epoch))
        short = max(0, self.total_size - len(order))
        return iter([*order, *order[:short]][self.rank : self.total_size : self.num_replicas])

    def _order(self, generator: torch.Generator) -> list[int]:
        groups = []
        for members in self._members:
            shuffled = _shuffled(members, generator)
            size = self.people_per_site
            groups += [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
        return [one for group in _shuffled(groups, generator) for one in group]


def _members(records: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Places of the records of each site, and one list for each record without."""
    sites: dict[str, list[int]] = {}
    alone = []
    for place, record in enumerate(records):
        site = str(record.get("site") or "")
        if site:
            sites.setdefault(site, []).append(place)
        else:
            alone.append([place])
    return [*(sites[site] for site in sorted(sites)), *alone]


def _shuffled(items: Sequence[Any], generator: torch.Generator) -> list[Any]:
    return [items[place] for place in torch.randperm(len(items), generator=generator).tolist()]
