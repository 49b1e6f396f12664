"""What a comparison compares: pretexts, networks, tasks, sizes and seeds, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bundle.hints import nearest, quoted

SCRATCH = "scratch"
RANDOM, CALIBRATED = "random initialisation", "random, calibrated batch norm"
VOXELS, KNOWN, SITE = "voxels", "age, sex, TIV", "site"
NATIVE, REGIONS = "voxels, native", "regions"  # features that two models read each
NATIVE_LOGISTIC, NATIVE_RIDGE = f"{NATIVE}, logistic", f"{NATIVE}, ridge classifier"
REGIONS_NET, REGIONS_SVM = f"{REGIONS}, elastic net", f"{REGIONS}, RBF-SVM"
FEATURES = {NATIVE_LOGISTIC: NATIVE, NATIVE_RIDGE: NATIVE, REGIONS_NET: REGIONS, REGIONS_SVM: REGIONS}
REFERENCES = (RANDOM, CALIBRATED, VOXELS, *FEATURES, KNOWN, SITE)
ALL = "all"  # in place of a number of training subjects: everybody of `training`


UNREAD = ("layers", "centre_sites")  # options of a probe that a comparison does not know


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
        networks: Name → pretext that a classifier is fine-tuned from, or `scratch`.
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
        readings: Name → a pretext or a reference that is probed once more with options of its own.
        stored: Cache that the datalists are of, whose volumes are read in place of images; None: they name images.
    """

    dataset_dir: Path
    output_dir: Path
    tasks: Sequence[str]
    pretexts: Mapping[str, Sequence[str]]
    networks: Mapping[str, str]
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
    readings: Mapping[str, Reading] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse, before any work, what could only fail later."""
        for what, values in (("seeds", self.seeds), ("sizes", self.sizes), ("tasks", self.tasks)):
            if not values or len(set(values)) < len(values):
                raise ValueError(f"`{what}` must name at least one, each once, but is {list(values)}.")
        asked = {*self.probing, *(name for reading in self.readings.values() for name in reading.probing)}
        if alone := [name for name in UNREAD if name in asked]:
            raise ValueError(
                f"`probing` has {' and '.join(alone)}, which a comparison does not know; give it to `python -m bundle "
                "probe` for each of the encoders."
            )
        self._check_methods()
        for task in ("pretraining", *self.tasks):
            if not self.datalist(task).is_file():
                raise ValueError(f"There is no datalist {self.datalist(task)}; make it with `python -m bundle cohort`.")

    def _check_methods(self) -> None:
        for name, start in self.networks.items():
            if start != SCRATCH and start not in self.pretexts:
                known = nearest(start, [*self.pretexts, SCRATCH])
                raise ValueError(f"The network '{name}' starts from '{start}', which is no pretext{known}")
        for name, reading in self.readings.items():
            read = [*self.pretexts, *(line for line in self.references if line not in (KNOWN, SITE))]
            if reading.of not in read:
                hint = nearest(reading.of, read)
                raise ValueError(f"The reading '{name}' is of '{reading.of}', whose features are not compared{hint}")
        if len({slug(method) for method in self.methods}) < len(self.methods):
            raise ValueError(f"Methods need names that differ, also as folders, but there are {quoted(self.methods)}.")

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

    def options_of(self, pretext: str) -> dict[str, Any]:
        """Options of a pretext's pretraining: those of all, and its own."""
        return {**self.pretraining, **self.pretext_options.get(pretext, {})}

    def datalist(self, task: str) -> Path:
        """The datalist of a task, or of `pretraining`."""
        return Path(self.dataset_dir) / f"{task}.json"

    def folder(self, method: str, seed: int) -> Path:
        """Where the runs of a method and a seed lie."""
        return Path(self.output_dir) / "runs" / slug(method) / f"seed_{seed}"


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
