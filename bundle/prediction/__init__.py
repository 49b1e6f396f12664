"""From a scan to an answer: the table, maps, pages, and how far a scan is from the training."""

from bundle.prediction.adapting import adapted
from bundle.prediction.checking import CheckedDataset, check_scans
from bundle.prediction.incoming import incoming_scans, needs_preparation
from bundle.prediction.judgement import validation_of
from bundle.prediction.listing import list_scans
from bundle.prediction.maps import Similarity
from bundle.prediction.output import AnswerFolder
from bundle.prediction.pages import check_choices, write_pages
from bundle.prediction.table import (
    Model,
    PredictionTable,
    load_model,
    predict_and_embed,
)
from bundle.prediction.training_record import TrainingRecord, write_record

__all__ = [
    "AnswerFolder",
    "CheckedDataset",
    "Model",
    "PredictionTable",
    "Similarity",
    "TrainingRecord",
    "adapted",
    "check_choices",
    "check_scans",
    "incoming_scans",
    "list_scans",
    "load_model",
    "needs_preparation",
    "predict_and_embed",
    "validation_of",
    "write_pages",
    "write_record",
]


def __getattr__(name: str) -> object:  # `predict`, which stands above all rooms
    import bundle.later

    return bundle.later.attribute_of(__name__, name)
