"""The folders that are uploaded, written together or not at all."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.files import read_json, write_json, write_text
from bundle.hub import WEIGHTS, located
from bundle.networks import classifier_card, load_encoder, network_of, read_card
from bundle.networks.formats import read_state_dict, weights_digest, write_weights
from bundle.networks.safetensors_file import is_safetensors
from bundle.prediction.training_record import copy_record
from bundle.publishing.package import files_of, package, require_parts
from bundle.publishing.public_card import public_card
from bundle.publishing.readme import front_matter, readme, template
from bundle.publishing.tested import Tested, read_tested
from bundle.publishing.zoo import zoo_inference, zoo_metadata, zoo_train
from bundle.scans.modality import modality_of
from bundle.scans.profile import modality_of_profile

REPOSITORY, ZOO = "huggingface", "model_zoo"  # folders inside the publication
ENCODER = "pretrained.safetensors"
_COPIED = ("LICENSE", "requirements.txt", "constraints.txt", "bundle", "configs", "docs")
_WANTED = ("contract", "network", "intended_use")  # entries of a card without which nothing is published
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choices:
    """What only the people who publish can know.

    Attributes:
        participants: `publish` what describes single participants, or `leave-out`; None: not said.
        licence: Licence of the weights, as the Hub writes it; None: not said.
        datasets: Trained on, by their names on the Hub.
        repository: `OWNER/NAME` on the Hub, for the README; empty: not known yet.
        title: Title of the README; empty: made from the classes.
        no_zip: Leave the zoo's file out.
    """

    participants: str | None = None
    licence: str | None = None
    datasets: tuple[str, ...] = ()
    repository: str = ""
    title: str = ""
    no_zip: bool = False


@dataclass(frozen=True)
class _Content:
    """What is published: checked weights, their public card, what a test showed, and what was chosen."""

    model: Path
    card: dict[str, Any]
    tested: Tested | None
    encoder: Path | None
    choices: Choices

    @property
    def personal(self) -> bool:
        """Whether what describes single participants is published, too."""
        return self.choices.participants != "leave-out"


def publish(
    folder: Path, root: Path, model: Path, metrics: Path | None, encoder: Path | None, choices: Choices
) -> dict[str, Any]:
    """Make what is uploaded: a repository of the Hugging Face Hub, and the Model Zoo's zip, from one card.

    Args:
        folder: Gets `huggingface/` and `model_zoo/`; must be new or empty.
        root: Root folder of the bundle.
        model: Weights of a classifier with their card.
        metrics: `metrics.json` of `evaluate`; None: the README says that the model was not evaluated.
        encoder: Pretrained weights to be published beside it.
        choices: Choices of those who publish.

    Returns:
        The front matter of the README.

    Raises:
        ValueError: when the weights have no card, the card tells paths or people, a choice is missing, the metrics are
            of other weights, or the folder holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} holds something already; a publication is made anew: give a new or empty folder.")
    require_parts(root)
    model = located(model)
    card = _publishable(model, classifier_card(model), choices)
    digest = weights_digest(model)
    tested = read_tested(metrics, model, digest, card["validation"]["val_threshold"]) if metrics else None
    content = _Content(model, card, tested, located(encoder) if encoder else None, choices)
    draft = folder.with_name(f".part-{os.getpid()}-{folder.name}")
    try:
        front = _write(draft, root, content)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            folder.rmdir()
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    logger.info(f"{folder} is ready; docs/howto/publishing.md says how it is uploaded.")
    return front


def _publishable(weights: Path, card: Mapping[str, Any], choices: Choices) -> dict[str, Any]:
    """The public card, once everything is said that only people can know."""
    if missing := [name for name in _WANTED if not card.get(name)]:
        raise ValueError(f"The card of {weights} has no {', '.join(missing)}; train the classifier again.")
    if members := card["network"].get("members"):
        raise ValueError(
            f"{weights} is an ensemble of {members} members, and what is published holds one network, from which "
            "others load its encoder. Publish a member: --model with the file in member_0, member_1, …."
        )
    kind = modality_of(card.get("modality"), f"The card of {weights}")
    if kind.channels:
        raise ValueError(
            f"{weights} reads {kind.plural}, several files a scan, and what is published takes one file: others could "
            "not use it as it says. Publish a model of one file a scan."
        )
    phantom = bool(card.get("warning"))
    if choices.participants is None and not phantom:
        raise ValueError(
            f"{weights} was trained on people: digests of their ids and images stand in its card, and age, sex, "
            "diagnosis and regional volumes of each in its record. May they be published? Say so with --participants "
            "publish, or --participants leave-out."
        )
    if choices.licence is None and not phantom:
        raise ValueError(f"Under which licence may {weights} be used? Give --license, such as cc-by-nc-4.0.")
    return public_card(card, weights, choices.participants != "leave-out")


def _write(draft: Path, root: Path, content: _Content) -> dict[str, Any]:
    """Write both folders; the front matter of the README."""
    hub = draft / REPOSITORY
    for path in (path for part in _COPIED for path in files_of(root / part)):
        target = hub / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    for target in (hub / WEIGHTS, hub / "models" / "model.pt"):
        _write_weights(content.model, content.card, target)
        if content.personal:
            copy_record(content.model, target)
    if content.encoder:
        _add_encoder(content.encoder, hub, content.personal)
    _adapt_configs(hub, content)
    front = _write_texts(hub, content)
    if not content.choices.no_zip:
        package(hub, draft / ZOO)
    return front


def _adapt_configs(hub: Path, content: _Content) -> None:
    size = int(load_encoder(hub / WEIGHTS).encoder.embedding_size)  # type: ignore[arg-type]
    options = network_of(content.model)
    metadata, inference, train = (hub / "configs" / f"{name}.json" for name in ("metadata", "inference", "train"))
    write_json(metadata, zoo_metadata(read_json(metadata), content.card, size, content.tested))
    write_json(inference, zoo_inference(read_json(inference), content.card, options))
    write_json(train, zoo_train(read_json(train), content.card, options))


def _write_weights(weights: Path, card: Mapping[str, Any], target: Path) -> None:
    """The same weights in the format of the target: the very file where it is of it."""
    if is_safetensors(target) or is_safetensors(weights):
        write_weights(target, read_state_dict(weights), card)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(weights, target)
    write_json(target.with_suffix(".json"), card)


def _add_encoder(encoder: Path, hub: Path, personal: bool) -> None:
    card = read_card(encoder)
    if not card:
        raise ValueError(f"{encoder} has no card; an encoder of which nothing is known is not published.")
    public = public_card(card, encoder, personal)
    for target in (hub / ENCODER, hub / "models" / "pretrained.pt"):
        _write_weights(encoder, public, target)


def _write_texts(hub: Path, content: _Content) -> dict[str, Any]:
    """README, config and example; the bundle's own README becomes `docs/software.md`."""
    card, choices, grid = content.card, content.choices, content.card["contract"]["grid"]
    title = choices.title or "Brain MRI y-Aware classification: {1} or {0}".format(*card["class_names"])
    licence = choices.licence or "apache-2.0"
    digest = read_card(hub / WEIGHTS)["sha256"]
    front = front_matter(card, content.tested, title, licence, choices.datasets)
    shown = {
        "card": {**dict.fromkeys(("warning", "subjects", "pretrained", "config", "epoch", "made_by")), **card},
        "network": _listed(card["network"]),
        "shape": " × ".join(map(str, grid["shape"])),
        "voxel": f"{abs(grid['affine'][0][0]):g}",
        "kind": modality_of_profile(card["contract"]),
        "tested": content.tested,
        "personal": content.personal,
        "encoder": content.encoder,
        "title": title,
        "licence": licence,
        "repository": choices.repository,
        "digest": digest,
    }
    text = readme(front, shown)
    (hub / "docs" / "README.md").rename(hub / "docs" / "software.md")
    write_text(hub / "README.md", text)
    write_text(hub / "docs" / "README.md", text.partition("\n---\n")[2].lstrip())
    write_text(hub / "example.py", template("example.py.jinja").render(shape=grid["shape"]) + "\n")
    write_json(hub / "config.json", _config(card, digest))
    return front


def _listed(stated: Mapping[str, Any]) -> str:
    options = ", ".join(f"{name} {value}" for name, value in stated.get("arguments", stated).items())
    return f"{stated.get('encoder', 'DenseNet')}: {options}"


def _config(card: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """`config.json`: what software that knows nothing of cards looks for."""
    return {
        "model_type": "brain_mri_yaware_classification",
        "library_name": "monai",
        "network": card["network"],
        "id2label": {str(label): name for label, name in enumerate(card["class_names"])},
        "operating_point": card["validation"]["val_threshold"],
        "grid": card["contract"]["grid"],
        "tensors_sha256": digest,
    }
