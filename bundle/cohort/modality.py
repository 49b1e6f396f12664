"""What kind of maps a datalist holds, and whether weights were trained on such maps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from monai.transforms import Compose

from bundle.cohort.datalist import read_object
from bundle.cohort.packing import ReadStoredd
from bundle.networks import read_card
from bundle.networks.weights import SCRATCH
from bundle.scans.load_channels import LoadChannelsd
from bundle.scans.modality import Modality, modality_of


def modality_of_datalist(datalist: str | Path) -> Modality:
    """The modality that a datalist states; one that states none holds grey-matter maps.

    Args:
        datalist: The JSON file; where there is none, nothing is known, and other steps say so.

    Raises:
        ValueError: the modality is not understood.
    """
    stated = read_object(Path(datalist)).get("modality") if Path(datalist).is_file() else None
    return modality_of(stated, f"The datalist {datalist}")


def modality_for_card(datalist: str | Path) -> Any:
    """What a card states of the modality of a training: its name, or its entries where the table does not have it.

    Args:
        datalist: Datalist of the training.
    """
    return modality_of_datalist(datalist).card


def modality_of_weights(weights: str | Path) -> Modality:
    """The modality that weights were trained on, as their card says it.

    Args:
        weights: The file of weights.

    Raises:
        ValueError: the card's modality is not understood.
    """
    card = read_card(weights)
    stated = card.get("modality", card.get("contract", {}).get("modality"))
    return modality_of(stated, f"The card of {weights}")


def require_modality(
    datalist: str | Path | Iterable[str | Path],
    weights: str | Path = SCRATCH,
    modality: Any = None,
    preprocessing: Any = None,
) -> None:
    """Refuse maps of another kind than weights were trained on, than an overlay is for, or of several kinds.

    Args:
        datalist: Datalist, or several that are used together.
        weights: Weights whose card says the modality; `scratch`: of nobody.
        modality: What an overlay says; None: whatever the datalist states.
        preprocessing: Transforms that load the images, which have to load all channels; None: not looked at.

    Raises:
        ValueError: names both kinds, and says what to do.
    """
    paths = [datalist] if isinstance(datalist, (str, Path)) else list(datalist)
    stated = {str(path): modality_of_datalist(path) for path in paths if Path(path).is_file()}
    trained = None if str(weights) == SCRATCH else modality_of_weights(weights)
    asked = None if modality is None else modality_of(modality, "The option modality")
    first = next(iter(stated.items()), None)
    for path, own in stated.items():
        if preprocessing is not None:
            _require_loaded(preprocessing, own, path)
        if trained is not None and own != trained:
            raise ValueError(
                f"{path} holds {own.plural}, but {weights} was trained on {trained.plural}, so its answers would mean "
                f"nothing. Give weights that were trained on {own.plural}, or a datalist of {trained.plural}."
            )
        if asked is not None and own != asked:
            raise ValueError(
                f"{path} holds {own.plural}, but the option modality says {asked.name} ({asked.plural}). Give the "
                f"overlay of that modality, or make the datalist again with `cohort --modality {asked.name}`."
            )
        if first is not None and own != first[1]:
            raise ValueError(
                f"{first[0]} holds {first[1].plural}, and {path} {own.plural}; compare maps of one modality."
            )


def _require_loaded(preprocessing: Any, modality: Modality, datalist: str) -> None:
    """Refuse a preprocessing that would read the first channel alone, or channels that are not there."""
    steps = preprocessing.flatten().transforms if isinstance(preprocessing, Compose) else [preprocessing]
    if any(isinstance(step, ReadStoredd) for step in steps):
        return  # a cache holds what its own preprocessing loaded
    loaded = [step.channels for step in steps if isinstance(step, LoadChannelsd)]
    if loaded == ([modality.channels] if modality.channels else []):
        return
    if modality.channels:
        found = f"({', '.join(loaded[0])})" if loaded else "the first file alone"
        raise ValueError(
            f"{datalist} holds {modality.plural}, of which a scan has {len(modality.channels)} files "
            f"({', '.join(modality.channels)}), but the preprocessing loads {found}. Give the overlay of the modality, "
            f"--config {modality.overlay}, or another with bundle.scans.LoadChannelsd."
        )
    raise ValueError(
        f"{datalist} holds {modality.plural}, one file each, but the preprocessing loads {', '.join(loaded[0])}. Leave "
        "that overlay out, or make the datalist with `cohort --channels`."
    )
