"""What a comparison compares: pretexts, networks, tasks, sizes and seeds, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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

    def __post_init__(self) -> None:
        """Refuse, before any work, what could only fail later."""
        for what, values in (("seeds", self.seeds), ("sizes", self.sizes), ("tasks", self.tasks)):
            if not values or len(set(values)) < len(values):
                raise ValueError(f"`{what}` must name at least one, each once, but is {list(values)}.")
        if alone := [name for name in ("layers", "centre_sites") if name in self.probing]:
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
        if len({slug(method) for method in self.methods}) < len(self.methods):
            raise ValueError(f"Methods need names that differ, also as folders, but there are {quoted(self.methods)}.")

    @property
    def methods(self) -> list[str]:
        """All that is compared, references last."""
        return [*self.pretexts, *self.networks, *self.references]

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
