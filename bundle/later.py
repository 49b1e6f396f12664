"""Names that are imported when somebody asks for them: `import bundle` stays light, and no room imports upwards."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# module: name → module that has it. What runs a config stands above all rooms, in `notebook`; people look for it here.
# Of `cohort` and `scans`, what needs torch: a table with its images does not.
PLACES = {
    "bundle": {
        "load_encoder": "bundle.networks",
        "predict": "bundle.notebook",
        "pretrain": "bundle.notebook",
        "probe": "bundle.evaluation",
        "probe_age": "bundle.evaluation",
        "EmbeddingTransformer": "bundle.notebook",
    },
    "bundle.cohort": {
        "BothMaps": "bundle.cohort.both_maps",
        "ReadStoredd": "bundle.cohort.packing",
        "fill_cache": "bundle.cohort.cache",
        "fingerprints": "bundle.cohort.overlap",
        "grid_of_cohort": "bundle.cohort.regrid",
        "modality_for_card": "bundle.cohort.modality",
        "modality_of_datalist": "bundle.cohort.modality",
        "recipe_of_cache": "bundle.cohort.cache",
        "refuse_overlap": "bundle.cohort.overlap",
        "require_grid": "bundle.cohort.regrid",
        "require_modality": "bundle.cohort.modality",
        "say_seen": "bundle.cohort.overlap",
    },
    "bundle.scans": {
        "LoadChannelsd": "bundle.scans.load_channels",
        "relative_to_cerebellum": "bundle.scans.reference_region",
    },
    "bundle.prediction": {"predict": "bundle.notebook"},
    "bundle.pretext": {"pretrain": "bundle.notebook"},
}
ROOMS = (
    *("adaptation", "cli", "cohort", "dicom", "evaluation", "metrics", "networks", "notebook", "pages", "phantom"),
    *("prediction", "preparation", "pretext", "publishing", "scans", "training"),
)


def attribute_of(module: str, name: str) -> Any:
    """What a module hands on of another one, imported now.

    Args:
        module: Module, as Python names it.
        name: Name of the attribute.

    Raises:
        AttributeError: when there is none of this name.
    """
    if module == "bundle" and name in ROOMS:
        return import_module(f"bundle.{name}")
    if name not in PLACES[module]:
        raise AttributeError(f"module '{module}' has no attribute '{name}'")
    return getattr(import_module(PLACES[module][name]), name)
