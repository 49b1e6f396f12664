"""Images become embeddings inside scikit-learn."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from bundle.cli.options import FOLDER
from bundle.cli.run import value_of
from bundle.cohort import require_grid
from bundle.evaluation.features import Images
from bundle.files import sha256
from bundle.hints import quoted
from bundle.hub import located
from bundle.networks import as_config, chosen_device, load_encoder, read_card
from bundle.networks.architecture import in_channels_of
from bundle.notebook.running import sentences
from bundle.places import found

ImagePaths = Sequence[str | Path] | NDArray | pd.Series | pd.DataFrame


class EmbeddingTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Embeds images by a frozen, pretrained encoder; a transformer of scikit-learn whose input are paths.

    `fit` learns nothing: it reads the weights, and looks at the images. Nothing is kept between two calls: every
    `transform` reads weights and images again. In a cross-validation an image is thus embedded once in each fold; a
    pipeline with `memory=FOLDER` keeps what a fold has embedded, or embed once with `fit_transform` and cross-validate
    what follows.

    Args:
        weights: File of an encoder, or of a classifier on one, a published folder, or `hf://OWNER/NAME@REVISION`; its
            card says the preprocessing. Without a card it is that of `configs/pretrain.yaml`.
        pool: Cells per side to which the encoder's last feature map is averaged: 1 for the embedding, 2 for the
            features of the paper's probe.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        batch_size: Images in a forward pass.
        num_workers: Processes that read images.

    Attributes:
        weights_sha256_: SHA-256 of the file that was read by `fit`.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> model = make_pipeline(EmbeddingTransformer("models/pretrained.pt"), LogisticRegression())
        >>> model.fit(paths, labels)  # doctest: +SKIP
    """

    def __init__(
        self,
        weights: str | Path = "models/pretrained.pt",
        pool: int = 1,
        device: str = "auto",
        batch_size: int = 8,
        num_workers: int = 0,
    ) -> None:
        self.weights = weights
        self.pool = pool
        self.device = device
        self.batch_size = batch_size
        self.num_workers = num_workers

    def fit(self, X: ImagePaths, y: object = None) -> EmbeddingTransformer:  # noqa: ARG002
        """Read the weights, and refuse images that are missing or lie on another grid.

        Args:
            X: Paths of images.
            y: Ignored.

        Raises:
            ValueError: when an argument, the weights or an image is not right.
        """
        for name in ("pool", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"`{name}` is a whole number from 1 on, but {value!r} was given.")
        paths, file = image_paths(X), self._file()
        encoder: Any = load_encoder(file).encoder
        require_grid([{"image": path} for path in paths], "the images", file)
        if (in_channels_of(encoder) or 1) > 1:
            raise ValueError(
                f"{self.weights} take scans of {in_channels_of(encoder)} files each, and a list of images does not say "
                "which belong together. Give weights of one file a scan, or take `probe` with a datalist."
            )
        pooled = "pool" in inspect.signature(encoder.forward).parameters
        self._n_features_out = encoder.embedding_size * (self.pool**3 if pooled else 1)
        self.weights_sha256_ = sha256(file)
        return self

    def transform(self, X: ImagePaths) -> NDArray[np.float32]:
        """Embed images, in their order.

        Args:
            X: Paths of images.

        Shape:
            output (images, features).

        Raises:
            ValueError: when an image cannot be read, or the weights are others than those that `fit` read.
        """
        check_is_fitted(self)
        file = self._file()
        if sha256(file) != self.weights_sha256_:
            raise ValueError(f"{self.weights} holds other weights than when this was fitted; fit again.")
        records = [{"image": path} for path in image_paths(X)]
        require_grid(records, "the images", file)
        with sentences():
            images = Images(
                _preprocessing(file), int(self.pool), batch_size=int(self.batch_size),
                num_workers=self.num_workers, device=chosen_device(self.device),
            )  # fmt: skip
            return images.features({"embedding": images.encoder(load_encoder(file).encoder)}, records)["embedding"]

    def _file(self) -> Path:
        """The weights, wherever they lie: beside the package, in a published folder, or on the Hub."""
        return located(found(self.weights))

    def __sklearn_tags__(self) -> Any:
        """Paths go in: text, in one dimension, and no numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array = True, True, False
        tags.transformer_tags.preserves_dtype = []
        return tags


def _preprocessing(weights: Path) -> Callable:
    """What the card says is done to an image, or the pretraining's own."""
    stated = read_card(weights).get("preprocessing_steps")
    overrides = {"preprocessing": as_config(stated)} if stated else {}
    return value_of([FOLDER / "pretrain.yaml"], overrides, "preprocessing")


def image_paths(X: ImagePaths) -> list[str]:
    """Paths of images that are there, whatever holds them: a list, an array, a column, or a table of one column.

    Args:
        X: The paths.

    Raises:
        ValueError: when they are no paths, or files are missing.
    """
    if isinstance(X, (str, Path)):
        raise ValueError(f"A list of images is expected, but a single path was given; write [{str(X)!r}].")
    values = np.asarray(X if isinstance(X, (np.ndarray, pd.DataFrame, pd.Series)) else list(X), dtype=object)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.ndim != 1 or not len(values):
        raise ValueError(f"Paths of images are expected, one of each, but the shape is {values.shape}.")
    if odd := [value for value in values if not isinstance(value, (str, Path))]:
        raise ValueError(f"{len(odd)} of {len(values)} are no paths of images, the first one is {odd[0]!r}.")
    if missing := [str(path) for path in values if not Path(path).is_file()]:
        raise ValueError(f"{len(missing)} of {len(values)} images do not exist: {quoted(missing)}.")
    return [str(path) for path in values]
