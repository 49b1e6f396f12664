"""y-Aware contrastive pretraining for 3D brain MRI: the Python that MONAI lacks.

From a notebook:

    bundle.pretrain(datalist)            pretrain an encoder; a report with its history and weights
    bundle.load_encoder(weights)         an encoder from its weights, whole or refused
    bundle.EmbeddingTransformer(weights) images become embeddings, as a transformer of scikit-learn
    bundle.probe(embeddings, table)      what a linear model reads of a diagnosis, with intervals and references
    bundle.probe_age(embeddings, table)  what a ridge regression reads of age
    bundle.predict(scans, model)         what a classifier says of scans: a table

docs/python.md shows them at work. The same from a command line: `python -m bundle --help`. The rooms, such as
`bundle.pretext` with its losses and kernels, are listed in CONTRIBUTING.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bundle.later import ROOMS, attribute_of

if TYPE_CHECKING:
    from bundle.evaluation import probe, probe_age
    from bundle.networks import load_encoder
    from bundle.notebook import EmbeddingTransformer, predict, pretrain

__all__ = ["EmbeddingTransformer", "load_encoder", "predict", "pretrain", "probe", "probe_age"]


def __getattr__(name: str) -> Any:
    return attribute_of(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *ROOMS})
