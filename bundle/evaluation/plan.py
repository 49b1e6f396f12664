"""What a comparison compares: pretexts, networks, tasks, sizes and seeds, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from bundle.hints import nearest, quoted
from bundle.hub import located

SCRATCH = "scratch"
RANDOM, CALIBRATED = "random initialisation", "random, calibrated batch norm"
VOXELS, KNOWN, SITE = "voxels", "age, sex, TIV", "site"
NATIVE, REGIONS = "voxels, native", "regions"  # features that two models read each
NATIVE_LOGISTIC, NATIVE_RIDGE = f"{NATIVE}, logistic", f"{NATIVE}, ridge classifier"
REGIONS_NET, REGIONS_SVM = f"{REGIONS}, elastic net", f"{REGIONS}, RBF-SVM"
FEATURES = {NATIVE_LOGISTIC: NATIVE, NATIVE_RIDGE: NATIVE, REGIONS_NET: REGIONS, REGIONS_SVM: REGIONS}
ENCODERS = (RANDOM, CALIBRATED)  # references that are encoders
REFERENCES = (*ENCODERS, VOXELS, *FEATURES, KNOWN, SITE)
ALL = "all"  # in place of a number of training subjects: everybody of `training`
ONE_SEED = "of one seed, and how far another would move it is not known"  # what tables say where no spread is there
# Options that a comparison sets by itself, or does not know, and what to do about them.
_BY_SEED = "a comparison has `seeds`, each with its own"
_BY_RUN = "a comparison has its own folders and files for each run"
_BY_PLAN = "a comparison has `tasks`, `sizes`, `seeds` and `protocol` of its own"
_BY_PROBE = "give it to `python -m bundle probe` for each of the encoders"
_OF_RUNS = {"seed": _BY_SEED, **dict.fromkeys(("output_dir", "weights", "resume", "dataset_dir", "datalist"), _BY_RUN)}
NOT_ASKED = {
    "pretraining": {**_OF_RUNS, "device": "a comparison has `device`"},
    "fine_tuning": {**_OF_RUNS, "model": _BY_RUN, **dict.fromkeys(("size", "draw", "task"), _BY_PLAN)},
    "probing": {
        **dict.fromkeys(("layers", "centre_sites", "modality", "allow_overlap"), _BY_PROBE),
        **dict.fromkeys(("protocol", "sizes", "draws", "n_folds", "tasks", "age_datalist"), _BY_PLAN),
        **dict.fromkeys(("weights", "output_dir", "dataset_dir", "bundle_root"), _BY_RUN),
        **dict.fromkeys(("method", "note"), "a comparison names its methods itself"),
        "seed": _BY_SEED,
    },
}


class Reading(NamedTuple):
    """A method whose features are read once more, with other options of the probe.

    Attributes:
        of: Pretext, or reference, whose features they are.
        probing: Options of probe.yaml, over those of all.
    """

    of: str
    probing: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is compared; the keys of `configs/compare.yaml`.

    Attributes:
        dataset_dir: Folder with `pretraining.json` and a datalist of each task (`training`, `test`).
        output_dir: Folder that receives runs and results.
        tasks: Names of the datalists.
        pretexts: Name → overlays on pretrain.yaml.
        networks: Name → what a classifier is fine-tuned from: a pretext, `scratch`, a file of weights, or, as `network`
            and `task`, the classifier of another task that another network of this plan comes to.
        sizes: Numbers of training subjects N, or `all`.
        seeds: Seeds of pretraining, draw and initialisation together.
        overlays: Laid over every run.
        pretraining, probing, fine_tuning: options of the three configs.
        device: Device that computes everything; see `networks.chosen_device`.
        document: A Markdown file that shows the results between `<!-- comparison -->` and `<!-- /comparison -->`; or
            None.
        configs: The runnable configs by command: pretrain, probe, train and evaluate.
        digests: Digests of what each overlay says, by its path; another content is another setting.
        references: What the pretexts have to beat, among `REFERENCES`; see `references_of`.
        diagnoses: Tasks whose people of label 0 are controls, on whom the error of age is measured; None: all.
        pretext_options: Name of a pretext → its own options of pretrain.yaml, over those of `pretraining`.
        network_overlays: Name of a network → its own overlays on train.json.
        readings: Name → a pretext or a reference that is probed once more with options of its own.
        stored: Cache that the datalists are of, whose volumes are read in place of images; None: they name images.
    """

    dataset_dir: Path
    output_dir: Path
    tasks: Sequence[str]
    pretexts: Mapping[str, Sequence[str]]
    networks: Mapping[str, str | Mapping[str, str]]
    sizes: Sequence[int | str]
    seeds: Sequence[int]
    overlays: Sequence[str]
    pretraining: Mapping[str, Any]
    probing: Mapping[str, Any]
    fine_tuning: Mapping[str, Any]
    device: str = "auto"
    document: str | None = None
    configs: Mapping[str, Path] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    references: Sequence[str] = REFERENCES
    diagnoses: Sequence[str] | None = None
    stored: Path | None = None
    pretext_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    network_overlays: Mapping[str, Sequence[str]] = field(default_factory=dict)
    readings: Mapping[str, Reading] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse, before any work, what could only fail later."""
        for what, values in (("seeds", self.seeds), ("sizes", self.sizes), ("tasks", self.tasks)):
            if not values or len(set(values)) < len(values):
                raise ValueError(f"`{what}` must name at least one, each once, but is {list(values)}.")
        self._check_options()
        self._check_methods()
        for task in ("pretraining", *self.tasks):
            if not self.datalist(task).is_file():
                raise ValueError(f"There is no datalist {self.datalist(task)}; make it with `python -m bundle cohort`.")

    def _check_options(self) -> None:
        asked = {
            "pretraining": [self.pretraining, *self.pretext_options.values()],
            "fine_tuning": [self.fine_tuning],
            "probing": [self.probing, *(reading.probing for reading in self.readings.values())],
        }
        for part, every in asked.items():
            for name in (name for options in every for name in options):
                if name in NOT_ASKED[part]:
                    why = NOT_ASKED[part][name]
                    raise ValueError(
                        f"`{part}` has {name}, which no run of a comparison is given: {why}. Leave it out."
                    )

    def _check_methods(self) -> None:
        for name, start in self.networks.items():
            if isinstance(start, Mapping):
                self._check_first_stage(name, start)
            elif start != SCRATCH and start not in self.pretexts and not _is_file(start):
                known = nearest(start, [*self.pretexts, SCRATCH])
                raise ValueError(f"The network '{name}' starts from '{start}', which is no pretext and no file{known}")
        for name, reading in self.readings.items():
            read = [*self.pretexts, *(line for line in self.references if line not in (KNOWN, SITE))]
            if reading.of not in read:
                hint = nearest(reading.of, read)
                raise ValueError(f"The reading '{name}' is of '{reading.of}', whose features are not compared{hint}")
            if _adapts(reading.probing) and not self._is_adaptable(reading.of):
                raise ValueError(
                    f"The reading '{name}' adapts '{reading.of}', which has no batch norm with statistics of data, so "
                    f"that nothing would change; read one of {quoted([*self.pretexts, CALIBRATED])}."
                )
        if len({slug(method) for method in self.methods}) < len(self.methods):
            raise ValueError(f"Methods need names that differ, also as folders, but there are {quoted(self.methods)}.")

    def _check_first_stage(self, name: str, start: Mapping[str, str]) -> None:
        if set(start) != {"network", "task"} or (start["network"], start["task"]) not in self._stages():
            raise ValueError(
                f"The network '{name}' starts from {dict(start)}, but {{network: NAME, task: TASK}} is expected, with "
                f"a network ({quoted(self.networks)}) and a task that it is trained on ({quoted(self.tasks)})."
            )
        seen = [name]
        while isinstance(start, Mapping):
            if start["network"] in seen:
                raise ValueError(
                    f"The networks {quoted(seen)} start from each other; let one start from something else."
                )
            seen.append(start["network"])
            start = self.networks.get(seen[-1], SCRATCH)  # type: ignore[assignment]

    def _stages(self) -> list[tuple[str, str]]:
        """Network and task of every classifier; a network that starts from a task's classifier skips that task."""
        skipped = {
            n: start["task"] for n, start in self.networks.items() if isinstance(start, Mapping) and "task" in start
        }
        return [(name, task) for name in self.networks for task in self.tasks if task != skipped.get(name)]

    def trainings(self) -> list[tuple[str, str, int | str]]:
        """Network, task and size of every fine-tuning; a network comes after the one that it starts from."""
        pairs = sorted(self._stages(), key=lambda pair: self._depth(pair[0]))
        return [(name, task, size) for name, task in pairs for size in self.sizes]

    def _depth(self, name: str) -> int:
        """How many networks stand before one."""
        start = self.networks[name]
        return 1 + self._depth(start["network"]) if isinstance(start, Mapping) else 0

    def with_tasks(self, tasks: Sequence[str]) -> Plan:
        """The plan for some of its tasks, without networks whose first stage would be missing.

        Args:
            tasks: Such as those that a group of sites is tested in.
        """
        kept: dict[str, str | Mapping[str, str]] = {}
        for name in sorted(self.networks, key=self._depth):
            start = self.networks[name]
            if not isinstance(start, Mapping) or (start["network"] in kept and start["task"] in tasks):
                kept[name] = start
        return replace(self, tasks=tasks, networks={name: kept[name] for name in self.networks if name in kept})

    def start_file(self, start: str | Mapping[str, str], seed: int, size: int | str) -> Path | None:
        """The weights that a network starts from; None: random ones.

        Args:
            start: Entry of `networks`.
            seed: Seed of the run.
            size: Number of training subjects, of the first stage, too.
        """
        if isinstance(start, Mapping):
            return self.folder(start["network"], seed) / f"{start['task']}_{size}" / "model.pt"
        if start in self.pretexts:
            return self.folder(start, seed) / "pretraining" / "pretrained.pt"
        return None if start == SCRATCH else located(start)

    def given_weights(self) -> dict[str, Path]:
        """Files of weights that the plan is given, by the pretext or network that starts from them."""
        networks = {n: s for n, s in self.networks.items() if isinstance(s, str) and s not in self.pretexts}
        starts = {**{name: str(self.options_of(name).get("start", SCRATCH)) for name in self.pretexts}, **networks}
        return {name: located(start) for name, start in starts.items() if start != SCRATCH}

    @property
    def methods(self) -> list[str]:
        """All that is compared, references last."""
        return [*self.pretexts, *self.readings, *self.networks, *self.references]

    @property
    def probed(self) -> list[str]:
        """All whose features are probed; readings after what they read."""
        return [*self.pretexts, *self.references, *self.readings]

    def source_of(self, method: str) -> str:
        """The method whose features are probed: of a reading what it reads, else the method itself."""
        return self.readings[method].of if method in self.readings else method

    def probing_of(self, method: str) -> dict[str, Any]:
        """Options of the probe of a method: those of all, and a reading's own."""
        return {**self.probing, **(self.readings[method].probing if method in self.readings else {})}

    def adapted_of(self, method: str) -> str | None:
        """The encoder whose batch norm is adapted to the sites that a method is tested at; None where none is."""
        origin = self.source_of(method)
        return origin if _adapts(self.probing_of(method)) and self._is_adaptable(origin) else None

    def _is_adaptable(self, origin: str) -> bool:
        """Whether features are of an encoder that has seen data."""
        return origin in self.pretexts or origin == CALIBRATED

    def options_of(self, pretext: str) -> dict[str, Any]:
        """Options of a pretext's pretraining: those of all, and its own."""
        return {**self.pretraining, **self.pretext_options.get(pretext, {})}

    def datalist(self, task: str) -> Path:
        """The datalist of a task, or of `pretraining`."""
        return Path(self.dataset_dir) / f"{task}.json"

    def folder(self, method: str, seed: int) -> Path:
        """Where the runs of a method and a seed lie."""
        return Path(self.output_dir) / "runs" / slug(method) / f"seed_{seed}"


def _adapts(probing: Mapping[str, Any]) -> bool:
    """Whether options of a probe ask for an encoder that is adapted."""
    return probing.get("adapt", "none") != "none"


def _is_file(start: object) -> bool:
    return isinstance(start, str) and located(start).is_file()


def references_of(asked: str | Sequence[str]) -> tuple[str, ...]:
    """The reference lines that are meant, in the order of tables; the random encoder, that gains refer to, always.

    Args:
        asked: `all`, or names among `REFERENCES`.

    Raises:
        ValueError: for another name.
    """
    names = REFERENCES if asked == "all" else [asked] if isinstance(asked, str) else list(asked)
    for name in names:
        if name not in REFERENCES:
            raise ValueError(f"There is no reference '{name}'{nearest(name, ['all', *REFERENCES])}")
    return tuple(name for name in REFERENCES if name in (RANDOM, *names))


def slug(name: str) -> str:
    """A name as part of a file name."""
    return "".join(c if c.isalnum() else "_" for c in name.lower())
