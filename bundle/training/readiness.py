"""What is refused before the first step: a training that could not end, or would be another method than it says."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bundle.networks.architecture import require_in_channels
from bundle.people import person_codes

LEAST = 2  # people in a section: a loss that compares needs two, and so do the measures of a representation
COMPARED = 1024  # records whose similarity is looked at
NEAR = 1e-6  # a weight so near to 0 or 1 is the same as 0 or 1
logger = logging.getLogger(__name__)


def require_sections(
    sections: Mapping[str, Sequence[Mapping[str, Any]]],
    batch_size: int,
    epochs: int,
    val_interval: int,
    datalist: str | Path,
    keep: str = "best",
) -> None:
    """Refuse sections that no training can use.

    Args:
        sections: Records of `training` and `validation`.
        batch_size: Subjects of a step; the loss of a smaller batch is another one.
        epochs: Epochs of the training.
        val_interval: Epochs between two validations; a validation writes the weights.
        datalist: Datalist that holds the sections, for messages.
        keep: Whose weights are kept: those of the `best` validation, or of the `last`.

    Raises:
        ValueError: a section has fewer than `LEAST` people, a batch is larger than the training section, no validation
            would come, or none after the last epoch whose weights are to be kept.
    """
    for name, records in sections.items():
        people = len(np.unique(person_codes([r.get("participant_id", "") for r in records])))
        if people < LEAST:
            held = "is empty" if not records else f"has {len(records)} image(s) of {people} person"
            raise ValueError(
                f"The section '{name}' of {datalist} {held}, but at least {LEAST} people are needed there. Build the "
                "datalist with more people, or with other shares: `cohort --fractions training=0.8 validation=0.2`."
            )
    images = len(sections["training"])
    if batch_size > images:
        raise ValueError(
            f"`batch_size` is {batch_size}, but 'training' of {datalist} has {images} images: no step would see so "
            f"many. Give --batch_size {images} or less."
        )
    if val_interval > epochs:
        raise ValueError(
            f"`val_interval` is {val_interval}, but there are {epochs} epochs: no validation would write weights. "
            f"Give --val_interval {epochs} or less."
        )
    if keep == "last" and epochs % val_interval:
        raise ValueError(
            f"`keep` last writes the weights of the last validation, which with {epochs} epochs and `val_interval` "
            f"{val_interval} comes after epoch {epochs - epochs % val_interval}. Give a --val_interval that divides "
            "the epochs, such as 1."
        )


def require_metadata(
    loss: nn.Module, records: Sequence[Mapping[str, Any]], columns: Sequence[str], datalist: str | Path
) -> None:
    """Refuse metadata that would make the loss another one, such as SimCLR where no age is known.

    A loss that does not read metadata says so by `reads_metadata = False`, and one that reads columns of certain names,
    in a certain order, by `columns`, its own or its kernel's. A kernel without names takes whatever column is given.

    Args:
        loss: Loss of the training.
        records: Records of the training, each with `metadata` (M,), NaN = unknown.
        columns: Names of the metadata.
        datalist: Datalist that holds the records, for messages.

    Raises:
        ValueError: the columns are others than the loss's, or in another order; a column is known of fewer than two
            people or the same for all; or the loss's kernel calls no two, or all, of them similar.
    """
    if not getattr(loss, "reads_metadata", True):
        return
    _require_named(loss, columns)
    table = np.stack([r["metadata"] for r in records])
    for name, values in zip(columns, table.T, strict=True):
        _require_spread(name, values[~np.isnan(values)], len(values), datalist)
    if (kernel := getattr(loss, "kernel", None)) is not None:
        chosen = np.unique(np.linspace(0, len(table) - 1, min(len(table), COMPARED)).round().astype(int))
        _require_graded(kernel, torch.as_tensor(table[chosen]))


def columns_of(loss: nn.Module) -> list[str] | None:
    """Names of the metadata that a loss was made for, in order; None where it, or its kernel, takes any."""
    names = getattr(loss, "columns", None) or getattr(getattr(loss, "kernel", None), "columns", None)
    return None if names is None else list(names)


def _require_named(loss: nn.Module, columns: Sequence[str]) -> None:
    """Refuse columns that are not those which the loss was made for: a sigma of years would be applied to sexes."""
    names = columns_of(loss)
    if names is None or names == list(columns):
        return
    raise ValueError(
        f"`metadata_columns` are [{', '.join(columns)}], but {type(loss).__name__} compares people by "
        f"[{', '.join(names)}], in this order: one column would be read as another. Leave `metadata_columns` out, or "
        "give a kernel of each column (`kernel: {_target_: bundle.pretext.ProductKernel, NAME: …}`), such as "
        "--config configs/metadata_age_sex.yaml or configs/pretext_supervised_sex.yaml."
    )


def _require_spread(name: str, known: np.ndarray, people: int, datalist: str | Path) -> None:
    if len(np.unique(known)) > 1:
        if 2 * len(known) < people:
            logger.warning(
                f"`{name}` is known of {len(known)} of {people} training images only. The others are compared with "
                "nobody but themselves, as in SimCLR."
            )
        return
    value = "one site" if name == "site" else f"{known[0]:g}" if len(known) else ""
    same = f"the same wherever it is known, {value} in {len(known)} of {people} images" if len(known) else ""
    raise ValueError(
        f"In 'training' of {datalist} the metadata column `{name}` is {same or 'known of nobody'}. The loss could "
        "not compare anybody by it, and would train another method than its name says. Fill the column in, leave it "
        "out of `metadata_columns`, or take a method without metadata (--config configs/pretext_simclr.yaml)."
    )


def _require_graded(kernel: nn.Module, metadata: torch.Tensor) -> None:
    weights = kernel(metadata)
    others = weights[~torch.eye(len(weights), dtype=torch.bool)]
    if float(others.max()) < NEAR:
        raise ValueError(
            f"The kernel {_text(kernel)} calls no two of {len(weights)} training images similar (largest weight "
            f"{float(others.max()):.2g}): the loss would be SimCLR. Give a larger bandwidth, such as --sigma 5, or "
            "--config configs/pretext_simclr.yaml."
        )
    if float(others.min()) > 1 - NEAR:
        raise ValueError(
            f"The kernel {_text(kernel)} calls all of {len(weights)} training images equal (smallest weight "
            f"{float(others.min()):.6f}): there would be nobody to be told apart. Give a smaller bandwidth, such as "
            "--sigma 5."
        )


def _text(module: nn.Module) -> str:
    return " ".join(str(module).split())


def require_loss(
    loss: nn.Module, network: nn.Module, images: Sequence[Mapping[str, Any]], target: str = "metadata"
) -> None:
    """Refuse a loss of another output than the network's, as of two pretexts that were laid over each other.

    The network is run by shapes alone, and the loss on two subjects.

    Args:
        loss: Loss of the training.
        network: Network that will be trained.
        images: The training data set; each item has `image` (C, D, H, W) and `metadata` (M,).
        target: What the loss compares the output with: `metadata`, or the volumes themselves.

    Raises:
        ValueError: with both, and what to do.
    """
    pair = [images[0], images[1]]
    with torch.random.fork_rng(devices=[]):
        shape = _by_shapes(network, (4, *pair[0]["image"].shape)).shape
        values = [torch.as_tensor(item["metadata" if target == "metadata" else "image"]) for item in pair]
        try:
            copy.deepcopy(loss).cpu()(torch.rand(shape), torch.stack(values))
        except (ValueError, RuntimeError, IndexError) as error:
            said = str(error).splitlines()[0].rstrip(".")
            raise ValueError(
                f"The loss {type(loss).__name__} does not fit what {type(network).__name__} gives, {tuple(shape)} of "
                f"two subjects ({said}). If overlays of two pretexts were given, leave one of them out."
            ) from error


def require_network(network: nn.Module, images: Sequence[Mapping[str, Any]], smallest_batch: int) -> None:
    """Refuse a network for other channels, or one that halves a volume more often than it can be halved.

    One image is read, and the network is run by shapes alone.

    Args:
        network: Network that will be trained.
        images: The training data set; each item has `image` (C, D, H, W).
        smallest_batch: Volumes of the smallest batch of an epoch; batch norm needs two values of each channel.

    Raises:
        ValueError: with the shape, and what to do.
    """
    shape = tuple(images[0]["image"].shape)
    require_in_channels(network, shape[0], "the training")
    try:
        _by_shapes(network, (smallest_batch, *shape))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{type(network).__name__} cannot be trained on {smallest_batch} volume(s) of "
            f"{'×'.join(map(str, shape[1:]))} voxels ({str(error).splitlines()[0]}). Give fewer blocks (--block_config "
            "[6,12,24]), images of a higher resolution, or a larger --batch_size."
        ) from error


def _by_shapes(network: nn.Module, shape: Sequence[int]) -> torch.Tensor:
    """The output of a copy in training, which has a shape and no numbers."""
    return copy.deepcopy(network).to("meta").train()(torch.empty(tuple(shape), device="meta"))
