"""From a scan to an answer: the table, maps, pages, and how far a scan is from the training."""

from bundle.prediction.listing import list_scans
from bundle.prediction.maps import Similarity
from bundle.prediction.pages import check_choices, write_pages
from bundle.prediction.table import (
    CheckedDataset,
    Model,
    PredictionTable,
    check_scans,
    count_refused,
    load_model,
    predict_and_embed,
)
from bundle.prediction.training_record import TrainingRecord, write_record

__all__ = [
    "CheckedDataset",
    "Model",
    "PredictionTable",
    "Similarity",
    "TrainingRecord",
    "check_choices",
    "check_scans",
    "count_refused",
    "list_scans",
    "load_model",
    "predict_and_embed",
    "write_pages",
    "write_record",
]
