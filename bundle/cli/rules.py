"""What values options may have: one table for all commands, wherever a value was written."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bundle.hints import nearest

EXPRESSIONS = ("$", "@", "%")
SEED_LIMIT = 2**32 - 1  # of NumPy


@dataclass(frozen=True)
class Rule:
    """What a value may be.

    Attributes:
        expected: Words that end the sentence "…, but … is expected".
        holds: Whether a value is so.
        choices: The names among the values, for a hint.
    """

    expected: str
    holds: Callable[[Any], bool]
    choices: tuple[str, ...] = ()


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def whole(low: int, high: int | None = None) -> Rule:
    """A whole number from `low` to `high`."""
    words = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
    return Rule(words, lambda v: _is_number(v) and isinstance(v, int) and low <= v and (high is None or v <= high))


def number(low: float, high: float = math.inf, *, without_low: bool = False) -> Rule:
    """A number from `low`, or above it, to `high`."""
    if math.isinf(high):
        words = f"a number above {low:g}" if without_low else f"a number of at least {low:g}"
    else:
        words = f"a number in {'(' if without_low else '['}{low:g}, {high:g}]"
    return Rule(words, lambda v: _is_number(v) and low <= v <= high and not (without_low and v == low))


def one_of(*names: str) -> Rule:
    """One of some names."""
    return Rule(" or ".join(filter(None, [", ".join(names[:-1]), names[-1]])), lambda v: v in names, names)


def like(pattern: str, words: str) -> Rule:
    """Text of a form."""
    return Rule(words, lambda v: isinstance(v, str) and re.fullmatch(pattern, v) is not None)


def each(rule: Rule, fewest: int = 1) -> Rule:
    """A list whose items follow a rule; one without items only where `fewest` is 0."""

    def holds(value: Any) -> bool:
        return isinstance(value, (list, tuple)) and len(value) >= fewest and all(map(rule.holds, value))

    return Rule(f"a list of {'any number' if fewest == 0 else f'at least {fewest}'}, each {rule.expected}", holds)


def either(*rules: Rule) -> Rule:
    """Whatever one of some rules allows."""
    choices = tuple(name for rule in rules for name in rule.choices)
    return Rule(", or ".join(r.expected for r in rules), lambda v: any(r.holds(v) for r in rules), choices)


def _is_point(value: Any) -> bool:
    name, _, text = str(value).partition("=")
    is_number = re.fullmatch(r"\d*\.?\d+([eE]-?\d+)?|\d+\.", text)
    return name in ("sensitivity", "specificity", "probability") and bool(is_number) and float(text) <= 1


ABOVE_ZERO, FROM_ZERO = number(0, without_low=True), number(0)
SHARE = number(0, 1)
BETWEEN = Rule("a share between 0 and 1", lambda v: _is_number(v) and 0 < v < 1)
TEMPERATURE = number(0.001, 100)  # beyond, a loss is the nearest negative alone, or nothing
COUNT, SEED = whole(1), whole(0, SEED_LIMIT)
PROJECTOR_LAYERS = whole(2, 3)
NULL = Rule("null", lambda v: v is None)
MAPPING = Rule("a mapping", lambda v: isinstance(v, Mapping))
TWO_NAMES = Rule("two names that differ", lambda v: isinstance(v, list) and len(v) == len(set(map(str, v))) == 2)
DATALISTS = Rule(
    "task: datalist, or task: {training: datalist, test: datalist}",
    lambda v: isinstance(v, Mapping) and bool(v) and all(isinstance(source, (str, Mapping)) for source in v.values()),
)
REFERENCES = (  # of a probe, in the order of its tables
    *("random initialisation", "random, calibrated batch norm", "voxels", "voxels, native, logistic"),
    *("voxels, native, ridge classifier", "regions, elastic net", "regions, RBF-SVM", "age, sex, TIV", "site"),
)
LINES = Rule(
    f"all, or a list of any of {', '.join(map(repr, REFERENCES))}",
    lambda v: v == "all" or (isinstance(v, (list, tuple)) and all(name in REFERENCES for name in v)),
    REFERENCES,
)
GROUPS = Rule(
    "name: [sites]",
    lambda v: isinstance(v, Mapping) and bool(v) and all(isinstance(sites, list) and sites for sites in v.values()),
)

PRESERVED = Rule(
    "a list of age and sex (a diagnosis cannot be preserved: it would have to be known of test subjects, and their "
    "features would then tell it)",
    lambda v: isinstance(v, (list, tuple)) and all(name in ("age", "sex") for name in v),
)

# Options of configs by their name at the top level; the same for every command that has them.
OPTIONS: dict[str, Rule] = {
    "epochs": COUNT,
    "batch_size": COUNT,
    "micro_batch": either(COUNT, NULL),
    "sigma": either(one_of("scott", "silverman"), ABOVE_ZERO),
    "temperature": TEMPERATURE,
    "own_share": either(SHARE, NULL),
    "within_share": SHARE,
    "start": like(r"\S.*", "scratch, or a file of weights"),
    "second_start": like(r"\S.*", "scratch, or a file of weights"),
    "average": either(BETWEEN, NULL),
    "keep": one_of("best", "last"),
    "allow_other_grid": Rule("true or false", lambda v: isinstance(v, bool)),
    "projector_layers": PROJECTOR_LAYERS,
    "learning_rate": ABOVE_ZERO,
    "head_learning_rate": ABOVE_ZERO,
    "weight_decay": FROM_ZERO,
    "cache_rate": SHARE,
    "num_workers": whole(0),
    "val_interval": COUNT,
    "checkpoint_interval": COUNT,
    "patience": COUNT,
    "device": like(r"auto|cpu|mps|cuda(:\d+)?", "auto, cpu, cuda, a GPU by its number such as cuda:1, or mps"),
    "lr_step": COUNT,
    "lr_factor": ABOVE_ZERO,
    "method": either(like(r"\S.*", "a name"), NULL),
    "seed": SEED,
    "draw_seed": SEED,
    "ensemble": either(whole(2, 32), NULL),
    "draw": whole(0),
    "size": either(whole(2), NULL),
    "validation_share": number(0, 0.5, without_low=True),
    "class_weight": either(one_of("balanced"), NULL, MAPPING),
    "class_names": TWO_NAMES,
    "operating_point": Rule(
        "youden, or sensitivity, specificity or probability with a value in [0, 1], such as sensitivity=0.9",
        lambda v: v == "youden" or _is_point(v),
    ),
    "conformal_level": BETWEEN,
    "specificities": each(BETWEEN),
    "views": either(one_of("cutout", "crop", "cutout_flip", "all_tf"), each(MAPPING)),
    "modality": either(NULL, like(r"\w+", "a name of `python -m bundle modalities`"), MAPPING),
    "metadata_columns": each(one_of("age", "sex", "site", "tiv")),
    "target": one_of("metadata", "volumes"),
    "precision": one_of("float32", "bfloat16", "float16", "auto"),
    "storage": one_of("float32", "float16"),
    "init_features": COUNT,
    "growth_rate": COUNT,
    "block_config": each(COUNT),
    "in_channels": COUNT,
    "protocol": one_of("draws", "folds", "sites"),
    "sizes": each(COUNT),
    "draws": COUNT,
    "n_folds": whole(2),
    "pool": COUNT,
    "layers": either(one_of("last", "all"), each(COUNT)),
    "centre_sites": Rule("true or false", lambda v: isinstance(v, bool)),
    "adjust": each(one_of("age", "sex", "tiv"), fewest=0),
    "harmonize": one_of("none", "centre", "combat", "project", "coral"),
    "harmonize_keep": PRESERVED,
    "adapt": one_of("none", "batch_norm"),
    "penalties": each(ABOVE_ZERO),
    "voxel_penalties": each(ABOVE_ZERO),
    "native_penalties": each(ABOVE_ZERO),
    "net_penalties": each(ABOVE_ZERO),
    "svm_penalties": each(ABOVE_ZERO),
    "references": LINES,
    "adapt_to": either(like(r"\S.*", "a folder, datalist or table of scans of the new site"), NULL),
    "augmentations": whole(0),
    "prevalence": either(BETWEEN, NULL),
    "explain": one_of("regions", "occlusion", "integrated_gradients", "gradcam++", "smoothgrad", "none"),
    "backend": one_of("torch", "onnx"),
    "existing": one_of("refuse", "append", "overwrite"),
    "prepared_only": Rule("true or false", lambda v: isinstance(v, bool)),
    "preparation": one_of("ants", "deepmriprep"),
    "series": either(whole(0), NULL),
    "dicom_out": Rule("true or false", lambda v: isinstance(v, bool)),
    "grid_shape": each(COUNT, fewest=3),
}
# What a command means by a name of its own, or more strictly than others.
OWN: dict[str, dict[str, Rule]] = {
    "pretrain": {"batch_size": whole(2)},  # an anchor is compared with others
    "probe": {"tasks": DATALISTS, "second_tasks": DATALISTS},
    "inference": {"target": one_of("class", "similarity")},
    "compare": {
        "protocol": one_of("draws", "sites"),
        "seeds": each(SEED),
        "tasks": each(like(r"[^/\\]+", "the name of a datalist")),
        "site_groups": either(GROUPS, NULL),
        "min_site": COUNT,
        "min_label": COUNT,
        "pretrain_on": one_of("controls", "everybody"),
        "other_sites": one_of("tested", "training"),
        "diagnoses": either(each(like(r"[^/\\]+", "the name of a task"), fewest=0), NULL),
        "readings": MAPPING,
    },
    "phantom": {
        "resolution": number(1, 12),
        "pretraining": whole(8, 99999),
        "per_task": whole(8, 99999),
        "second": either(one_of("fa"), NULL),
        "second_missing": number(0, 0.9),
        "workers": either(COUNT, NULL),
    },
    "prepare": {
        "workers": COUNT,
        "threads": COUNT,
        "backend": one_of("ants", "deepmriprep"),
        "series": either(whole(0), NULL),
    },
    "cohort": {
        "shape": either(each(COUNT, fewest=3), NULL),
        "modality": like(r"\S.*", "a name of `python -m bundle modalities`, or a config that states one's own"),
        "missing_channels": one_of("refuse", "keep"),
        "workers": COUNT,
    },
    "cache": {"storage": one_of("float16", "uint8"), "workers": either(whole(0), NULL)},
    "positives": {"batch_size": whole(2), "sigma": each(like(r".+", "a bandwidth"))},
    "convert-weights": {"format": either(one_of("pt", "safetensors"), NULL)},
    "publish": {
        "participants": either(one_of("publish", "leave-out"), NULL),
        "license": either(like(r"[a-z0-9][a-z0-9.+-]*", "a licence as the Hub writes it, such as cc-by-4.0"), NULL),
        "repository": like(r"([\w.-]+/[\w.-]+)?", "OWNER/NAME"),
        "datasets": each(like(r"[\w.-]+(/[\w.-]+)?", "the name of a dataset on the Hub"), fewest=0),
    },
    "export": {"formats": each(one_of("torchscript", "onnx", "torch.export"))},
}
# Arguments of components, at any depth.
ARGUMENTS: dict[str, Rule] = {
    "max_epochs": COUNT,
    "batch_size": COUNT,
    "num_workers": whole(0),
    "cache_rate": SHARE,
    "temperature": TEMPERATURE,
    "lr": ABOVE_ZERO,
    "weight_decay": FROM_ZERO,
    "step_size": COUNT,
    "gamma": ABOVE_ZERO,
    "interval": COUNT,
    "hidden_size": COUNT,
    "projection_size": COUNT,
    "projector_layers": PROJECTOR_LAYERS,
    "own_share": either(SHARE, NULL),
    "within_share": SHARE,
    "people_per_site": whole(2),
    "site_weight": FROM_ZERO,
    "steepness": ABOVE_ZERO,
    "width": COUNT,
    "norm": one_of("batch", "group"),
    "prob": SHARE,
    "mismatch": SHARE,
    "missing": one_of("refuse", "zero"),
}


def rules_of(command: str) -> dict[str, Rule]:
    """The rules of a command, by the names of its options.

    Args:
        command: Such as `pretrain`; `inference` for `predict`.
    """
    return {**OPTIONS, **OWN.get(command, {})}


def faults(command: str, values: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with some values, a sentence each; expressions can only be judged when they are evaluated.

    Args:
        command: Command whose rules hold.
        values: Option → value, as written; `train#trainer#max_epochs` is an argument of a component.

    Example:
        >>> next(faults("pretrain", {"epochs": 0}))
        'epochs is 0, but a whole number of at least 1 is expected.'
    """
    rules = rules_of(command)
    for key, value in values.items():
        *path, name = re.split("#|::", str(key))
        if name == "_desc_":
            continue
        rule = ARGUMENTS.get(name) if path else rules.get(name)
        if rule and not _is_open(value) and not rule.holds(value):
            hint = nearest(value, rule.choices) if rule.choices and isinstance(value, str) else "."
            yield f"{key} is {value!r}, but {rule.expected} is expected{hint}"
        elif isinstance(value, (Mapping, list)):
            yield from faults(command, inside(str(key), value))


def inside(key: str, value: Mapping[str, Any] | list[Any]) -> dict[str, Any]:
    """The entries of a nested value by their ids, such as `train#trainer`."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    return {f"{key}#{name}": item for name, item in items}


def _is_open(value: Any) -> bool:
    """Whether a value is known only when the config is evaluated: an expression, or a component in its place."""
    return (isinstance(value, str) and value.startswith(EXPRESSIONS)) or (
        isinstance(value, Mapping) and "_target_" in value
    )
