"""What a notebook uses: functions and a transformer over all rooms."""

from bundle.notebook.predicting import predict
from bundle.notebook.pretraining import Pretraining, pretrain
from bundle.notebook.transformer import EmbeddingTransformer

__all__ = ["EmbeddingTransformer", "Pretraining", "predict", "pretrain"]
