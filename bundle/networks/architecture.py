"""What a network is made of, as a card states it: the name of one of our encoders with plain numbers, and no code."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.networks.nets import DenseNet
from torch import nn

from bundle.networks.cards import NETWORK
from bundle.networks.classifiers import EncoderClassifier
from bundle.networks.encoders import DenseNetEncoder, Encoder, ResNetEncoder, densenet_options
from bundle.networks.ensembles import Ensemble
from bundle.networks.transformers import SwinEncoder, ViTEncoder

logger = logging.getLogger(__name__)

ENCODERS: dict[str, type[Encoder]] = {
    kind.__name__: kind for kind in (DenseNetEncoder, ResNetEncoder, SwinEncoder, ViTEncoder)
}


def described(network: nn.Module) -> dict[str, Any]:
    """The entry `network` of a card, from which `as_options` or `made_encoder` make the same network again.

    Args:
        network: An encoder, a classifier on top of one, or MONAI's DenseNet.

    Returns:
        The options of a MONAI DenseNet; or `encoder`, the name of the encoder's class, and of our own `arguments`. Of
        an ensemble also `members`, how many there are.

    Example:
        >>> described(ResNetEncoder(width=8))
        {'encoder': 'ResNetEncoder', 'arguments': {'in_channels': 1, 'width': 8}}
    """
    if isinstance(network, Ensemble):
        return {"members": len(network.members), **described(network.members[0])}
    if isinstance(network, EncoderClassifier):
        return described(network.encoder)
    kind = type(network)
    if isinstance(network, Encoder) and ENCODERS.get(kind.__name__) is kind:
        return {"encoder": kind.__name__, "arguments": network.arguments}
    if isinstance(network, DenseNet):
        return as_densenet(densenet_options(network.state_dict()))
    return {"encoder": f"{kind.__module__}.{kind.__qualname__}"}


def as_densenet(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of MONAI's DenseNet that a card states: its channels only where there are several.

    Args:
        options: Arguments of a `DenseNetEncoder`.
    """
    several = {"in_channels": options["in_channels"]} if options["in_channels"] != 1 else {}
    return {name: options[name] for name in NETWORK} | several


def in_channels_of(network: nn.Module) -> int | None:
    """Channels of the volumes that a network takes; None where its layers do not say it.

    Args:
        network: An encoder, a classifier or an ensemble.
    """
    stated = [module.arguments for module in network.modules() if isinstance(module, Encoder)]
    if stated and "in_channels" in stated[0]:
        return int(stated[0]["in_channels"])
    first = next((module for module in network.modules() if isinstance(module, nn.Conv3d)), None)
    return None if first is None else first.in_channels


def require_in_channels(network: nn.Module, found: int, whose: str) -> None:
    """Refuse volumes of another number of channels than a network takes.

    Args:
        network: Network that is to see them.
        found: Channels of a preprocessed volume.
        whose: Words that say whose volumes these are.

    Raises:
        ValueError: with both numbers, and what to do.
    """
    expected = in_channels_of(network)
    if expected not in (None, found):
        raise ValueError(
            f"The volumes of {whose} have {found} channel(s), but the {type(network).__name__} takes {expected}. Give "
            "the overlay of their modality (such as --config configs/modality_gm_wm.yaml), or weights of such volumes."
        )


def made_encoder(path: Path, stated: Mapping[str, Any]) -> Encoder:
    """A new encoder as a card states it.

    Args:
        path: Path of the weights, for the message.
        stated: The card's entry `network`, checked.

    Raises:
        ValueError: for an encoder that is not ours, or arguments that do not fit it.
    """
    _refuse_foreign(path, stated)
    try:
        return ENCODERS[stated["encoder"]](**stated.get("arguments", {}))
    except TypeError as error:
        raise ValueError(f"The card of {path} states arguments that no {stated['encoder']} has: {error}.") from error


def made_classifier(path: Path, stated: Mapping[str, Any]) -> nn.Module:
    """A new classifier as a card states it.

    Args:
        path: Path of the weights, for the message.
        stated: Architecture; see `as_options`.

    Raises:
        ValueError: see `made_encoder`.
    """
    if "members" in stated:
        return Ensemble(made_classifier(path, _of_one(stated)), stated["members"])
    if "encoder" in stated:
        return EncoderClassifier(made_encoder(path, stated))
    return DenseNet(**{"spatial_dims": 3, "in_channels": 1, "out_channels": 2, **stated})


def stated_network(path: Path, stated: Mapping[str, Any], network: nn.Module) -> nn.Module:
    """The classifier whose architecture a card states: the given one, or a new one on its device.

    Args:
        path: Path of the weights, for the message.
        stated: The card's entry `network`, checked; of a DenseNet it may lack options, which are those of `network`.
        network: Network of a config. Where the card states an encoder that is not ours, it is this one.
    """
    own = described(network)
    if "encoder" not in stated and "encoder" not in own:
        stated = {**own, **stated}
    if not stated or _plain(stated) == _plain(own) or stated.get("encoder", "") not in ("", *ENCODERS):
        return network
    logger.info(f"The network is that of the card: {', '.join(f'{n} {v}' for n, v in stated.items())}.")
    parameter = next(network.parameters())
    return made_classifier(path, stated).to(parameter.device)


def _of_one(stated: Mapping[str, Any]) -> dict[str, Any]:
    """The network of one member of an ensemble."""
    return {name: value for name, value in stated.items() if name != "members"}


def _plain(stated: Mapping[str, Any]) -> str:
    return json.dumps(stated, sort_keys=True, default=list)


def as_options(path: Path, stated: Mapping[str, Any]) -> dict[str, Any]:
    """A classifier of a stated architecture, as options of `train.json` and `inference.json`.

    Args:
        path: Path of the weights, for the message.
        stated: Architecture; see `made_encoder`, or options of MONAI's DenseNet.

    Raises:
        ValueError: for an encoder that is not ours.
    """
    if "members" in stated:
        one = as_options(path, _of_one(stated))
        dense = {"_target_": "DenseNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2, **one}
        member = one.get("network_def", dense)
        ensemble = {"_target_": "bundle.networks.Ensemble", "network": member, "members": stated["members"]}
        return {"network_def": ensemble}
    if "encoder" not in stated:
        return dict(stated)
    _refuse_foreign(path, stated)
    encoder = {"_target_": f"bundle.networks.{stated['encoder']}", **stated.get("arguments", {})}
    return {"network_def": {"_target_": "bundle.networks.EncoderClassifier", "encoder": encoder}}


def _refuse_foreign(path: Path, stated: Mapping[str, Any]) -> None:
    if stated.get("encoder") not in ENCODERS:
        raise ValueError(
            f"{path} holds an encoder {stated.get('encoder')}, none of this bundle's ({', '.join(ENCODERS)}); it "
            "is not made from a card, since that would run its code. Give an overlay that makes it: `encoder` for the "
            "probe, or network_def: {_target_: bundle.networks.EncoderClassifier, encoder: {_target_: …}} for a "
            "classifier (docs/howto/encoders.md)."
        )
