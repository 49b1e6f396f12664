"""Brainmarks' dataset of grey-matter maps: the sections of a datalist."""

from pathlib import Path

import datasets
from brainmarks.datasets.base import HFDataset
from brainmarks.datasets.registry import register_dataset

from bundle.cohort import load_section

SECTIONS = {"train": "training", "validation": "validation", "test": "test"}


@register_dataset
def grey_matter(space: str, datalist: str, target: str = "label") -> dict[str, HFDataset]:
    """Maps and one column to tell from them.

    Args:
        space: of the model; only `grey_matter` has maps.
        datalist: of `python -m bundle cohort`, with all three sections.
        target: column of the records with few values, such as label or sex.
    """
    if space != "grey_matter":
        raise ValueError(
            f"These are grey-matter maps, which a model of the space '{space}' cannot read; take `yaware`."
        )
    found = {}
    for name, section in SECTIONS.items():
        records = [record for record in load_section(Path(datalist), section) if record[target] is not None]
        columns = {"path": [str(r["image"]) for r in records], target: [r[target] for r in records]}
        found[name] = HFDataset(datasets.Dataset.from_dict(columns), target_key=target)
    return found
