"""What a command would do, read from its configs and data: nothing is started and no file is written."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

from bundle.cli.components import check_components, check_references
from bundle.cli.ensemble import members_asked
from bundle.cli.run import stated_by_config
from bundle.cli.run_record import RECORD, merged_as_written
from bundle.cohort.datalist import load_section
from bundle.evaluation.comparison import Comparison
from bundle.evaluation.site_batch_norm import put_apart
from bundle.files import SECTIONS
from bundle.networks.architecture import stated_network
from bundle.networks.cards import read_card
from bundle.networks.encoders import checkpointed_units, set_checkpointing
from bundle.networks.formats import weights_digest
from bundle.networks.lineage import lineage
from bundle.people import person_of
from bundle.phantom.cohort import TASKS
from bundle.phantom.fields import reference_grid
from bundle.prediction.incoming import counted
from bundle.prediction.output import AnswerFolder
from bundle.training.engines import PrecisionInferer

Row = tuple[str, str]
FLOAT32 = 4  # bytes
NOTHING_DONE = "Nothing was started, and no file was written.\n"


def preview(command: str, files: Sequence[Path], overrides: Mapping[str, Any]) -> str:
    """What a command of a config would do, as text.

    Args:
        command: Pretrain, probe, train, evaluate or inference.
        files: The config and its overlays, or a record.
        overrides: Id → value, already checked.

    Raises:
        ValueError: for what would be refused once the command runs, as far as it can be seen now.
    """
    config = merged_as_written(files, overrides)
    check_components(config)
    check_references(config, files)
    members = members_asked(command, config)
    config |= {"ensemble": None} if members else {}
    config |= {name: value for name, value in {"cache_rate": 0.0, "num_workers": 0}.items() if name in config}
    if "checks" in config:
        ConfigParser({**copy.deepcopy(config), **stated_by_config(config, command)}).get_parsed_content("checks")
    parser = ConfigParser(config)
    rows = [("configs", ", ".join(map(str, files))), *_PREVIEWS[command](parser)]
    if members:
        rows.append(("ensemble", f"{members} members, one after another, each as above with a seed of its own"))
    return as_text(rows)


def preview_comparison(comparison: Comparison) -> str:
    """Which runs of a comparison are done, and which would be run."""
    plan = comparison.plan
    done, missing = comparison.progress()
    names, cached = ("pretraining", *plan.tasks), plan.stored is not None
    rows = [(name, counts(load_section(plan.datalist(name), "training", cached=cached))) for name in names]
    rows += [("done", f"{len(done)} runs"), ("to run", f"{len(missing)} runs")]
    rows += [("", name) for name in missing]
    return as_text([*rows, ("output", state_of(Path(plan.output_dir)))])


def preview_cache(datalist: Path, output: Path, storage: str) -> str:
    """What a cache would hold."""
    rows = [(name, counts(load_section(datalist, name))) for name in SECTIONS]
    return as_text([("datalist", str(datalist)), *rows, ("storage", storage), ("output", state_of(output))])


def preview_phantom(output: Path, resolution: float, pretraining: int, per_task: int, second: str | None = None) -> str:
    """What a phantom would hold."""
    shape, _ = reference_grid(resolution)
    tasks = [(task, f"{per_task} subjects") for task in TASKS]
    volume = ("volume", f"{'×'.join(map(str, shape))} voxels of {resolution:g} mm")
    more = [("second", f"maps of {second.upper()} of the same people")] if second else []
    return as_text([("pretraining", f"{pretraining} subjects"), *tasks, volume, *more, ("output", state_of(output))])


def as_text(rows: Sequence[Row]) -> str:
    """Rows of name and content in two columns, and that nothing was done."""
    width = max(len(name) for name, _ in rows) + 2
    return "".join(f"{name:<{width}}{content}\n" for name, content in rows) + NOTHING_DONE


# One function a command


def _training(parser: ConfigParser) -> Iterator[Row]:
    """Pretraining or fine-tuning."""
    get = parser.get_parsed_content
    sections = {"training": get("train#dataset#data"), "validation": get("validate#dataset#data")}
    yield "datalist", get("datalist")
    yield from ((name, counts(records)) for name, records in sections.items())
    if said := lineage(get("start" if "start" in parser else "weights")):
        yield "started from", said
    steps, epochs, batch = len(get("train#dataloader")), get("epochs"), get("batch_size")
    yield "steps", f"{steps} an epoch, {steps * epochs} in {epochs} epochs"
    views = 2 if "prepare_batch" in parser["train"] else 1
    part = min(batch, (get("micro_batch") if "micro_batch" in parser else None) or batch)
    yield "batch", _batch(batch, part, views)
    volume = get("train#dataset")[0]["image"].shape
    network = _network(parser)
    yield "network", _size(network)
    yield "volume", "×".join(map(str, volume))
    yield "memory", _memory(network, (part * views, *volume), _bytes_each(parser))
    yield from _device(parser)
    yield from _training_outputs(parser, views)


def _evaluation(parser: ConfigParser) -> Iterator[Row]:
    get = parser.get_parsed_content
    card, records = get("card"), get("validate#dataset#data")
    yield "datalist", get("datalist")
    yield "test", counts(records)
    yield "model", f"{get('model')}: {' or '.join(card['class_names'])}"
    yield "steps", f"{math.ceil(len(records) / get('batch_size'))} of {get('batch_size')} images"
    yield "network", _size(_network(parser))
    yield from _device(parser)
    yield "output", state_of(Path(get("output_dir")))


def _probing(parser: ConfigParser) -> Iterator[Row]:
    get = parser.get_parsed_content
    subjects = get("study#subjects")
    for pool in subjects.pools():
        yield pool.task, f"{counts(pool.records)}; {len(pool.trials)} probes a method, protocol {subjects.protocol}"
    if subjects.age_datalist:
        fit, test = subjects.of_age()
        yield "age", f"{len(fit)} images fit, {len(test)} test"
        if get("study#probe").adapting:
            yield (
                "adapted to",
                "; ".join(f"{where} ({people} people)" for where, people in put_apart(pool).people.items()),
            )
    yield "weights", str(get("weights"))
    with torch.device("meta"):
        yield "encoder", _size(get("encoder"))
    yield from _device(parser)
    yield "output", state_of(Path(get("output_dir")))


def _prediction(parser: ConfigParser) -> Iterator[Row]:
    get = parser.get_parsed_content
    yield "scans", f"{counted(get('dataset_dir'), get('images'))}, from {get('dataset_dir')}; nothing was prepared"
    yield "model", f"{get('model')}, computed by {get('backend')}"
    yield "map", f"{get('explain')}, of {get('target')}"
    if get("adapt_to") is not None:
        yield "adapted to", f"{counted(get('adapt_to'))} scans of {get('adapt_to')}, which were not read"
    model = Path(get("model"))
    yield "network", _size(stated_network(model, read_card(model).get("network", {}), _network(parser)))
    yield from _device(parser)
    folder = AnswerFolder(get("output_dir"), get("existing"))
    digest = read_card(model).get("sha256") or weights_digest(model)
    yield "output", f"{folder.path}, {folder.check(str(digest))}"


_PREVIEWS: dict[str, Callable[[ConfigParser], Iterator[Row]]] = {
    "pretrain": _training,
    "train": _training,
    "evaluate": _evaluation,
    "probe": _probing,
    "inference": _prediction,
}


# Subjects, batches, places


def counts(records: Sequence[Mapping[str, Any]]) -> str:
    """How many images, subjects, sites and labels some records have."""
    subjects, sites = {person_of(r.get("participant_id")) for r in records}, {r.get("site", "") for r in records}
    labels = Counter(r.get("label", -1) for r in records)
    named = {0: "controls", 1: "patients"}
    diagnoses = ", ".join(f"{labels[label]} {name}" for label, name in named.items() if labels[label])
    text = f"{len(records)} images, {len(subjects)} subjects, {len(sites - {''})} sites"
    return f"{text}, {diagnoses}" if diagnoses else text


def _batch(batch: int, part: int, views: int) -> str:
    text = f"{batch} subjects" + (f", {2 * batch} views" if views == 2 else "")
    return f"{text}; {part} subjects in memory at a time" if part < batch else text


def _device(parser: ConfigParser) -> Iterator[Row]:
    device = parser.get_parsed_content("torch_device")
    capacity = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
    yield "device", f"{device}" + (f" with {_gib(capacity)}" if capacity else "")


def _training_outputs(parser: ConfigParser, views: int) -> Iterator[Row]:
    folder = Path(parser.get_parsed_content("output_dir"))
    yield "weights", state_of(Path(parser.get_parsed_content("weights" if views == 2 else "model")))
    yield "output", state_of(folder)
    saved = [int(path.stem.rpartition("_")[2]) for path in folder.glob("checkpoint_*.pt")]
    if parser.get_parsed_content("resume"):
        yield "resume", f"from epoch {max(saved)}" if saved else "there is no checkpoint: from epoch 0"
    elif saved:
        yield "resume", f"no; a run of {max(saved)} epochs is there, which --resume would continue"


def state_of(path: Path) -> str:
    """Where something would be written, and what lies there already."""
    if path.is_dir():
        names = sorted(p.name for p in path.iterdir())
        held = f" of an earlier run, see {RECORD}," if RECORD in names else ""
        return f"{path}, where {len(names)} entries{held} lie; same names are replaced" if names else f"{path}, empty"
    return f"{path}, which is there and would be replaced" if path.exists() else f"{path}, new"


# Network and memory


def _network(parser: ConfigParser) -> nn.Module:
    """The network without its numbers: shapes alone, on torch's meta device."""
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    if "checkpointing" in parser:
        set_checkpointing(network.encoder, parser.get_parsed_content("checkpointing"))
    return network


def _size(network: nn.Module) -> str:
    count = sum(p.numel() for p in network.parameters())
    return f"{type(network).__name__}, {count:,} parameters, {count * FLOAT32 / 2**20:.1f} MiB as float32"


def _bytes_each(parser: ConfigParser) -> int:
    """Bytes of a number in a feature map."""
    precision = parser.get_parsed_content("precision") if "precision" in parser else "float32"
    return PrecisionInferer(precision).dtype_on(parser.get_parsed_content("torch_device")).itemsize


def _memory(network: nn.Module, shape: Sequence[int], each: int) -> str:
    activations = activation_bytes(network, shape, each)
    weights = 4 * FLOAT32 * sum(p.numel() for p in network.parameters())  # gradients, and two moments of Adam
    total = activations + weights + 2 * FLOAT32 * math.prod(shape)
    return (
        f"about {_gib(total)} in a training step: {_gib(activations)} activations, {_gib(weights)} weights, "
        "gradients and optimiser; estimated from shapes, without workspace"
    )


def activation_bytes(network: nn.Module, shape: Sequence[int], each: int = FLOAT32) -> int:
    """Bytes that autograd keeps of one forward pass in training mode, by shapes alone.

    With checkpointing, what is kept of all units, and the most that computing one of them again takes.

    Args:
        network: Network on the meta device.
        shape: Shape of the volumes, (N, C, D, H, W).
        each: Bytes of a number.
    """
    volumes = torch.empty(shape, device="meta")
    kept = _saved(network, volumes)
    encoder = getattr(network, "encoder", network)
    if getattr(encoder, "checkpointing", False):
        kept += max(_each_unit(encoder, volumes))
    return kept * each // FLOAT32


def _each_unit(encoder: nn.Module, volumes: Tensor) -> Iterator[int]:
    features = encoder.get_submodule("features")
    assert isinstance(features, nn.Sequential)
    for unit in checkpointed_units(features):
        yield _saved(unit, volumes)
        with torch.no_grad():
            volumes = unit(volumes)


def _saved(network: nn.Module, volumes: Tensor) -> int:
    own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(volumes)  # the graph keeps the tensors, so that no address comes twice
    del output
    return sum(kept.values())


def _gib(count: float) -> str:
    return f"{count / 2**30:.2f} GiB"
