"""What a run that is resumed must have in common with the one it goes on with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bundle.cli.inputs import input_files
from bundle.cli.rules import inside
from bundle.files import sha256

# What may differ: where things lie (of what is read, the content counts), how fast and how often, and plumbing. The
# length of the training is compared apart: it may grow.
MAY_DIFFER = (
    *("bundle_root", "dataset_dir", "datalist", "weights", "model", "start", "output_dir", "storage", "resume"),
    *("second_datalist", "second_weights", "second_start", "second_recipe", "second_says"),
    *("first_maps", "second_maps", "everybody"),
    *("method", "allow_other_grid", "ensemble"),  # of an ensemble, each member is a usual run
    *("device", "torch_device", "num_workers", "cache_rate", "channels_last", "keep_memory", "compile"),
    *("checkpointing", "val_interval", "checkpoint_interval", "patience", "early_stop", "allow_overlap"),
    *("first_process", "placed_network", "network", "recipe", "settings", "sections", "tested", "checks", "scalars"),
    *("checkpoints", "imports", "initialize", "training", "run", "finalize", "_desc_", "_meta_", "made_by"),
    *("train#handlers", "train#sampler#num_replicas", "train#sampler#rank", "train#sampler#drop_last"),
    *("train#additional_metrics", "train#trainer#additional_metrics"),
    *("train#sampler#even_divisible", "train#dataloader", "train#trainer#loss_function", "validate"),
)


def settings_of(command: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of a run, by its id: a plain value, or the digest of a file that is read.

    Args:
        command: Pretrain or train.
        config: All configs and options together, as written.
    """
    files = {name: path for name, path in input_files(command, config).items() if path.is_file()}
    settings: dict[str, Any] = {f"content of {name}": sha256(path) for name, path in files.items()}
    todo = dict(config)
    while todo:
        name, value = todo.popitem()
        if name in MAY_DIFFER or name.endswith("#_desc_"):
            continue
        if isinstance(value, (Mapping, list)) and value:
            todo |= inside(name, value)
        else:
            plain = value if isinstance(value, (int, float, type(None))) else str(value).replace("#", "::")
            settings[name.replace("#", ".")] = plain  # MONAI writes :: for every # of a config
    return settings
