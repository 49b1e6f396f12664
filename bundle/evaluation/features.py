"""What a linear model is given of a subject: features of a frozen encoder, the voxels themselves, or what is known."""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.data import DataLoader, Dataset
from numpy.typing import NDArray
from torch import Tensor, nn

from bundle.adaptation import estimate_statistics, even_batches
from bundle.evaluation.one_pass import AllBlocks, OneBlock, outputs_of
from bundle.files import replacing
from bundle.networks.encoders import check_encoder
from bundle.training.engines import PrecisionInferer

Extractor = Callable[[Tensor], Tensor]  # volumes (N, C, D, H, W) to features (N, p)
AT_ONCE = 2  # batches computed side by side on a CPU; each needs its own memory
COVARIATES = ("age", "sex", "tiv")
SEXES = {"F": 0.0, "M": 1.0}
logger = logging.getLogger(__name__)
IDS = ("participant_id", "session_id", "site", "age", "label", "section")
ADAPTED_TO = "adapted_to"  # of a record: the site that its encoder is adapted to; empty: none


@dataclass(frozen=True)
class Images:
    """How images become features.

    Args:
        preprocessing: Transform of a record, the one of pretraining.
        pool: Cells per side to which an encoder's last feature map is averaged; 2 gives the paper's 8,192 features of
            DenseNet121. Of an encoder whose forward pass takes no `pool`, the features are its embedding.
        precision: Precision of the embedding; see `training.PrecisionInferer`.
        batch_size: Volumes per forward pass.
        num_workers: Worker processes of the data loader.
        device: Device to compute on.
    """

    preprocessing: Callable
    pool: int = 2
    precision: str = "float32"
    batch_size: int = 16
    num_workers: int = 0
    device: str | torch.device = "cpu"

    def batches(self, records: Sequence[Mapping]) -> DataLoader:
        """Batches of preprocessed records, in their order."""
        dataset = Dataset(list(records), self.preprocessing)
        return DataLoader(dataset, batch_size=self.batch_size, num_workers=self.num_workers)

    def encoder(self, encoder: nn.Module) -> Extractor:
        """Features of a frozen encoder, (N, E · pool³); it is put in evaluation mode."""
        frozen = _placed(check_encoder(encoder), self.device).eval()
        pooled: dict[str, Any] = {"pool": self.pool} if "pool" in inspect.signature(frozen.forward).parameters else {}
        if not pooled and self.pool > 1:
            logger.info(f"{type(frozen).__name__} takes no `pool`: the features are its embedding.")
        return partial(PrecisionInferer(self.precision), network=frozen, **pooled)

    def blocks(self, encoder: nn.Module, numbers: Sequence[int]) -> dict[int, Extractor]:
        """Features after some blocks of a frozen encoder, by their number, and after the last as −1; from one pass.

        Args:
            encoder: Encoder; it is put in evaluation mode.
            numbers: Blocks before the last, from 1 on; see `networks.blocks.chosen_blocks`.
        """
        every = AllBlocks(_placed(check_encoder(encoder), self.device).eval(), self.pool, self.precision)
        return {number: OneBlock(every, number) for number in (*numbers, -1)}

    def calibrate(self, encoder: nn.Module, records: Sequence[Mapping]) -> nn.Module:
        """Estimate an encoder's batch-norm statistics on the images of records; see `calibrate`."""
        return calibrate(encoder, self.batches(records), self.device)

    def adapted(self, encoder: nn.Module, records: Sequence[Mapping]) -> nn.Module:
        """A copy of an encoder, whose batch-norm statistics are those of the images of records; see `even_batches`."""
        dataset, rows = Dataset(list(records), self.preprocessing), [list(part) for part in even_batches(len(records))]
        batches = DataLoader(dataset, batch_sampler=rows, num_workers=self.num_workers)
        return calibrate(copy.deepcopy(encoder), batches, self.device)

    def features(
        self, extractors: Mapping[str, Extractor], records: Sequence[Mapping]
    ) -> dict[str, NDArray[np.float32]]:
        """Features of records by each extractor, (subjects, p); an image is read once for all of them."""
        return features_of(extractors, self.batches(records), len(records), self.device) if extractors else {}


def features_of(
    extractors: Mapping[str, Extractor],
    batches: Iterable[Mapping],
    subjects: int,
    device: str | torch.device = "cpu",
) -> dict[str, NDArray[np.float32]]:
    """Features of volumes by each of several extractors; the next batches are read while one is computed.

    Args:
        extractors: Name → what computes features.
        batches: A data loader; each batch has "image" (N, C, D, H, W).
        subjects: Volumes of all batches.
        device: Device to compute on.

    Shape:
        each output (subjects, p) float32.

    Raises:
        ValueError: when there are fewer volumes than `subjects`, or more.
    """

    @torch.no_grad()
    def compute(batch: Mapping) -> dict[str, Tensor]:
        volumes = batch["image"].to(device)
        return {name: values.float().cpu() for name, values in outputs_of(extractors, volumes).items()}

    found: dict[str, NDArray[np.float32]] = {}
    first = 0
    with _side_by_side(torch.device(device)) as pool:
        for part in _in_order(pool, compute, batches):
            last = first + len(next(iter(part.values())))
            for name, values in part.items() if last <= subjects else ():  # into its place: voxels are large
                if name not in found:
                    found[name] = np.empty((subjects, values.shape[1]), np.float32)
                found[name][first:last] = values.numpy()
            first = last
    if first != subjects:
        raise ValueError(f"`batches` gave {first} volumes, but `subjects` is {subjects}; give the number of all.")
    return found


def _placed(encoder: nn.Module, device: str | torch.device) -> nn.Module:
    """An encoder on a device; on a CPU it pools with channels last: the same maxima, four times as fast."""
    placed = encoder.to(device)
    if torch.device(device).type == "cpu" and all(weights.is_contiguous() for weights in placed.parameters()):
        for pool in (m for m in placed.modules() if isinstance(m, nn.MaxPool3d) and not m.return_indices):
            pool.register_forward_pre_hook(_with_channels_last)
            pool.register_forward_hook(_contiguous)
    return placed


def _with_channels_last(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    layout = torch.channels_last_3d
    return tuple(volumes.contiguous(memory_format=layout) if volumes.dim() == 5 else volumes for volumes in given)


def _contiguous(_: nn.Module, given: tuple[Tensor, ...], pooled: Tensor) -> Tensor:  # noqa: ARG001
    return pooled.contiguous()


@contextlib.contextmanager
def _side_by_side(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Threads that compute a batch each, with their share of a CPU's cores; of a GPU, one.

    Small volumes leave little to divide within a batch: two batches on a core each are faster than one on two cores.
    """
    cores = torch.get_num_threads()
    threads = min(AT_ONCE, cores) if device.type == "cpu" else 1
    torch.set_num_threads(cores // threads)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool
    finally:
        torch.set_num_threads(cores)


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Mapping], dict[str, Tensor]], batches: Iterable[Mapping]
) -> Iterator[dict[str, Tensor]]:
    """What a function makes of batches, in their order; few of them wait in memory."""
    waiting: deque[Future] = deque()
    for batch in batches:
        waiting.append(pool.submit(function, batch))
        if len(waiting) > 2 * AT_ONCE:
            yield waiting.popleft().result()
    yield from (future.result() for future in waiting)


def voxels(volumes: Tensor) -> Tensor:
    """The preprocessed volumes themselves as features.

    Shape:
        volumes (N, C, D, H, W), output (N, C · D · H · W).
    """
    return volumes.flatten(1)


def calibrate(encoder: nn.Module, batches: Iterable[Mapping], device: str | torch.device) -> nn.Module:
    """Estimate an encoder's batch-norm statistics on volumes, as training would; learn nothing.

    An encoder as initialised has never seen data: its batch norm does nothing. What training adds is seen best
    against the same network with working batch norm.

    Args:
        encoder: Changed in place.
        batches: A data loader; each batch has "image" (N, C, D, H, W).
        device: Device to compute on.
    """
    encoder = _placed(encoder, device)
    estimate_statistics(encoder, (batch["image"].to(device) for batch in batches))
    return encoder


def covariates(records: Sequence[Mapping]) -> NDArray[np.float64]:
    """Age (years), sex (F 0, M 1) and TIV (mL) of each record; unknown = NaN. Shape (subjects, 3)."""
    return np.array(
        [[float(r["age"]), SEXES.get(r["sex"], np.nan), float(r["tiv"])] for r in records], dtype=np.float64
    )


def ids_of(records: Sequence[Mapping], task: str) -> pd.DataFrame:
    """Who the rows of an embedding are: a table of `IDS` and the task, and, where records say it, `ADAPTED_TO`."""
    names = (*IDS, ADAPTED_TO) if any(ADAPTED_TO in record for record in records) else IDS
    return pd.DataFrame({name: [r[name] for r in records] for name in names}).assign(task=task)


def write_embedding(path: Path, ids: pd.DataFrame, embedding: NDArray[np.float32]) -> None:
    """Write an embedding as `.npz`: the array `embedding`, and one of each column of its ids.

    Args:
        path: The file.
        ids: A row of each subject.
        embedding: Embedding of the subjects.

    Shape:
        ids N rows, embedding (N, p).
    """
    columns = {str(name): _plain(ids[name]) for name in ids}
    with replacing(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, embedding=embedding, **columns)


def embedding_table(ids: pd.DataFrame, embedding: NDArray[np.float32]) -> str:
    """Ids and an embedding as tab-separated text, e0, e1, … with six digits: as of `to_csv`, sooner.

    Args:
        ids: A row of each subject.
        embedding: Embedding of the subjects.

    Shape:
        ids N rows, embedding (N, p).
    """
    end = "\x1e\n"  # cells that have a line break of their own are quoted, and stay whole
    head, *rows = ids.to_csv(sep="\t", index=False, float_format="%.6g", lineterminator=end).split(end)[:-1]
    digits = "\t".join(["%.6g"] * embedding.shape[1])
    lines = ["\t".join([head, *(f"e{number}" for number in range(embedding.shape[1]))])]
    for row, values in zip(rows, embedding, strict=True):
        lines.append(f"{row}\t{(digits % tuple(values.tolist())).replace('nan', '')}")
    return "\n".join(lines) + "\n"


def _plain(column: pd.Series) -> np.ndarray:
    """A column as numbers or fixed-width text: arrays of objects could only be pickled."""
    return column.to_numpy(dtype=None if column.dtype.kind in "fi" else "U")
