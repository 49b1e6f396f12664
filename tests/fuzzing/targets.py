"""What reads files from outside, each with small real files to start from, and what it may do with a broken one."""

import contextlib
import copy
import gzip
import io
import json
import logging
import os
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import openpyxl
import torch

from bundle.cli.options import check_overlay, check_overrides, parse_overrides, read_config
from bundle.cohort import cache as caches
from bundle.cohort.datalist import load_section, phantom_of
from bundle.cohort.overlap import refuse_overlap
from bundle.cohort.packing import ReadStoredd
from bundle.cohort.participants import CohortError
from bundle.cohort.table import read_cohort
from bundle.files import SECTIONS
from bundle.networks import network_of
from bundle.networks.cards import classifier_card, read_card
from bundle.networks.encoders import DenseNetEncoder, ResNetEncoder
from bundle.networks.formats import read_state_dict
from bundle.networks.weights import load_encoder, save_weights
from bundle.prediction.listing import list_scans
from bundle.prediction.training_record import load_record
from bundle.scans.contract import VERDICTS, Contract
from bundle.scans.grid import Grid
from bundle.scans.limits import LIMITS
from bundle.scans.profile import LEVELS
from bundle.scans.volumes import volume_fault

SECONDS = 5.0  # of computing, that a reader may take for a file of a few kilobytes; what hangs takes for ever
GRID = Grid.of((10, 12, 10), [[-18, 0, 0, 81], [0, 18, 0, -116], [0, 0, 18, -62], [0, 0, 0, 1]])
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Target:
    """A reader, the name its file has, and what it is started from.

    Attributes:
        name: of the file, whose ending decides how it is read.
        seeds: contents of good files.
        read: gives a result, or refuses with a ValueError or an OSError.
        beside: further files of the folder.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    beside: dict[str, Callable[[], bytes]] = field(default_factory=dict)


# Seeds


def as_bytes(write, name):
    """What a function writes to a path of that name."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def brain():
    return np.random.default_rng(0).random(GRID.shape, dtype=np.float32)


def nifti(kind=nib.Nifti1Image, name="x.nii", dtype=np.float32):
    image = kind((100 * brain()).astype(dtype), GRID.matrix)
    return as_bytes(lambda path: nib.save(image, path), name)


def pair_part(ending):
    def write(path):
        nib.save(nib.Nifti1Pair(brain(), GRID.matrix), path.with_name("y.img"))
        path.write_bytes(path.with_name(f"y{ending}").read_bytes())

    return as_bytes(write, f"x{ending}")


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def record(subjects):
    random = np.random.default_rng(0)
    arrays = {"embedding": random.normal(size=(subjects, 6)).astype(np.float32)}
    arrays |= {"ages": random.uniform(20, 80, subjects), "labels": np.arange(subjects) % 2}
    arrays |= {"validation_labels": np.arange(8) % 2, "validation_probabilities": random.random(8)}
    arrays |= {"regional_volumes": random.uniform(1, 9, (subjects, 35)), "tivs": random.uniform(1200, 1700, subjects)}
    arrays |= {"sexes": np.arange(subjects) // 2 % 2.0}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, healthy=brain()[None], format=3, **arrays)
    return buffer.getvalue()


def weights(encoder, **options):
    buffer = io.BytesIO()
    torch.save(encoder.state_dict(), buffer, **options)
    return buffer.getvalue()


def safetensors_weights(encoder):
    return as_bytes(lambda path: save_weights(path, encoder, json.loads(card(kind="encoder"))), "x.safetensors")


def card(**more):
    measures = {name: list(map(float, range(len(LEVELS)))) for name in (*LIMITS, "left and right")}
    profile = {"grid": GRID.card, "scans": 3, "levels": list(LEVELS), "measures": measures, "sides": [0.5] * 144}
    known = {"kind": "classifier", "class_names": ["control", "patient"], "validation": {"val_threshold": 0.5}}
    network = {"init_features": 8, "growth_rate": 4, "block_config": [1, 1, 1, 1]}
    known |= {"network": network, "contract": profile, "fingerprints": {"participants": ["ab"], "images": []}}
    return json.dumps({"format": 1, "warning": "", **known, **more}).encode()


RECORD = {"image": "x.npy", "participant_id": "sub-1", "session_id": None, "site": "a", "age": 20.5, "sex": "F"}
DATALIST = json.dumps({"training": [{**RECORD, "tiv": 1400, "label": 0}] * 2, "validation": [], "test": [RECORD]})
BARE = b'{"training": [], "validation": [], "test": ["x.npy"]}'
CACHED = {**RECORD, "intensity": [1.0, 0.0], "image_digest": "ab"}
CACHE = json.dumps({"cache_format": 1, "training": [CACHED], "validation": [], "test": [CACHED]})
PHANTOM = b'{"warning": "a", "best_auc": {"x": 0.9}}'
ENTRY = {"name": "0" * 32, "source": "x", "intensity": [1, 0], "image_digest": "a", "shape": [1, 2, 2, 2], "bytes": 9}
TABLE = "participant_id\tage\tsex\tsite\ttiv\tdiagnosis\tfile\n"
TABLE += "sub-1\t20.5\tF\ta\t1400\tcontrol\tx\n2\tn/a\tmale\tb\t\tsz\ty\n"


def workbook():
    book = openpyxl.Workbook()
    for line in TABLE.splitlines():
        book.active.append(line.split("\t"))
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


OVERLAY = (
    b"# Overlay\nepochs: 3\nsigma: 2.5\nblock_config: [1, 2]\ntrain#trainer#max_epochs: 3\nloss: {_target_: a.B}\n"
)
OPTIONS = b"--epochs\n3\n--sigma=2.5\n--resume\n--block_config\n[1, 2]\n--lr_scheduler\n{_target_: torch.optim.Adam}\n"


# Readers


@cache
def base():
    return read_config(ROOT / "configs" / "pretrain.yaml")


def examine(path):
    """The contract never raises; the two readers of volumes agree on what cannot be read at all."""
    seen = Contract({"grid": GRID.card}).examine(path)
    assert seen.verdict in VERDICTS
    if path.name.endswith((".nii", ".nii.gz", ".npy")):
        assert volume_fault(path) is None or seen.verdict == "refuse"
    if seen.volume is None:
        raise ValueError(seen.reasons)


def read_table_fully(path):
    try:
        read_cohort(path, "{participant_id}.npy", workers=1)
    finally:
        list_scans(path)


def read_datalist(path):
    for section in SECTIONS:
        load_section(path, section, ["age", "sex", "site", "tiv"], cached="cache" in path.name)


def read_cards(path):
    known = read_card(path.with_suffix(".pt"))
    refuse_overlap(path.with_suffix(".pt"), [], "nobody")
    if known:
        Contract(classifier_card(path.with_suffix(".pt")).get("contract"))
        network = network_of(path.with_suffix(".pt"))
        assert not any("$" in str(value) for value in network.values())


def read_weights(path):
    read_state_dict(path)
    load_encoder(path)


def read_safetensors(path):
    read_card(path)
    read_weights(path)


def read_record(path):
    load_record(path.with_name("model.pt"))


def read_ledger(path):
    for name in caches._entries(path.parent):
        assert path.parent in caches._volume(path.parent, name).resolve().parents


def read_overlay(path):
    check_overlay(base(), read_config(path), [], "overlay")


def read_options(path):
    text = path.read_bytes().decode(errors="replace")
    check_overrides(base(), parse_overrides(text.split("\n")))


TARGETS = {
    "nii": Target("x.nii", lambda: [nifti(), nifti(nib.Nifti2Image), nifti(dtype=np.uint8)], examine),
    "nii.gz": Target("x.nii.gz", lambda: [nifti(name="x.nii.gz"), nifti(nib.Nifti2Image, "x.nii.gz")], examine),
    "npy": Target("x.npy", lambda: [npy(brain()), npy((100 * brain()[None]).astype(np.int16))], examine),
    "mgz": Target("x.mgz", lambda: [nifti(nib.MGHImage, "x.mgz")], examine),
    "pair": Target("x.hdr", lambda: [pair_part(".hdr")], examine, {"x.img": lambda: pair_part(".img")}),
    "table": Target("x.tsv", lambda: [TABLE.encode(), TABLE.replace("\t", ",").encode()], read_table_fully),
    "workbook": Target("x.xlsx", lambda: [workbook()], read_table_fully),
    "datalist": Target("x.json", lambda: [DATALIST.encode(), BARE], read_datalist),
    "cached datalist": Target("cache.json", lambda: [CACHE.encode()], read_datalist),
    "ledger": Target("volumes.jsonl", lambda: [json.dumps(ENTRY).encode() + b"\n"], read_ledger),
    "stored volume": Target(
        "x.npy",
        lambda: [npy(brain()[None].astype(np.float16)), npy(np.zeros((1, 4, 4, 4), np.uint8))],
        lambda path: ReadStoredd()({"image": str(path), "intensity": [1.0, 0.0]}),
    ),
    "card": Target("model.json", lambda: [card(), card(kind="encoder", subjects=3)], read_cards),
    "record": Target("model_record.npz", lambda: [record(8), record(30)], read_record),
    "weights": Target(
        "model.pt",
        lambda: [
            weights(DenseNetEncoder(1, 4, 2, (1, 1))),
            weights(ResNetEncoder(1, 2)),
            weights(DenseNetEncoder(1, 4, 2, (1, 1)), _use_new_zipfile_serialization=False),
        ],
        read_weights,
    ),
    "safetensors": Target(
        "model.safetensors",
        lambda: [safetensors_weights(DenseNetEncoder(1, 4, 2, (1, 1))), safetensors_weights(ResNetEncoder(1, 2))],
        read_safetensors,
    ),
    "phantom": Target("phantom.json", lambda: [PHANTOM], lambda path: phantom_of([str(path)])),
    "overlay": Target("x.yaml", lambda: [OVERLAY], read_overlay),
    "options": Target("x.txt", lambda: [OPTIONS], read_options),
}  # fmt: skip


# What is not allowed


RUNNING = ("pickle.find_class", "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn")
CHANGING = ("os.remove", "os.rename", "os.rmdir", "os.symlink", "os.link", "os.mkdir", "shutil.rmtree")


class Watch:
    """Sees what Python does while a file is read: audit hooks cannot be got round by the code they watch."""

    folder: Path | None = None
    seen: list[str]

    def __init__(self):
        self.seen = []
        sys.addaudithook(self._hook)

    def _hook(self, event, arguments):
        if self.folder is None:
            return
        writes = event == "open" and isinstance(arguments[0], (str, bytes)) and self._writes(arguments)
        if event in RUNNING:
            self.seen.append(f"{event} {str(arguments)[:200]}")
        elif writes or event in CHANGING:
            self._outside(event, arguments[0])

    @staticmethod
    def _writes(arguments):
        return bool(set(arguments[1] or "") & set("wax+")) or bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR))

    def _outside(self, event, path):
        found = os.path.realpath(os.fsdecode(path))
        if found != os.devnull and "__pycache__" not in found and not found.startswith(str(self.folder)):
            self.seen.append(f"{event} {found}")

    @contextlib.contextmanager
    def watching(self, folder):
        self.seen.clear()
        self.folder = Path(os.path.realpath(folder))
        try:
            yield
        finally:
            self.folder = None
        assert not self.seen, f"reading did this: {self.seen}"


@cache
def watch():
    return Watch()


@contextlib.contextmanager
def soon(seconds=SECONDS):
    """Computing ends soon: time of this process, so that a busy machine changes nothing."""
    start = time.process_time()
    yield
    assert time.process_time() - start < seconds, "takes too long"


def warm_up(target, folder):
    """Read the good files once: libraries, templates and codecs are loaded before anything is timed or watched."""
    for seed in target.seeds():
        with contextlib.suppress(AssertionError):
            attempt(target, seed, folder, seconds=60)


def attempt(target, content, folder, seconds=SECONDS):
    """Read a file of any content: a result or a refusal in words, soon, and nothing else.

    Returns:
        What was refused, in words; empty for a result.
    """
    path = folder / target.name
    path.write_bytes(content)
    for name, make in target.beside.items():
        if not (folder / name).exists():
            (folder / name).write_bytes(make())
    before = sorted(folder.iterdir())
    refusal = ""
    logging.disable(logging.CRITICAL)
    with soon(seconds), warnings.catch_warnings(), np.errstate(all="ignore"), watch().watching(folder):
        warnings.simplefilter("ignore")
        try:
            target.read(path)
        except CohortError as error:
            refusal = str(error)
        except (ValueError, OSError) as error:
            refusal = str(error)
            assert refusal, "a refusal says why"
        finally:
            logging.disable(logging.NOTSET)
    assert sorted(folder.iterdir()) == before, "leaves files behind"
    return refusal


# Mutations


def mutated(random, seeds):
    """A good file with a few changes; archives are also changed inside, where a checksum would stop other changes."""
    content = seeds[random.integers(len(seeds))]
    if random.random() < 0.6:
        with contextlib.suppress(Exception):  # what is broken already is changed outside
            return _changed_inside(random, content, seeds)
    return _changed(random, content, seeds)


def _changed_inside(random, content, seeds):
    if content[:2] == b"\x1f\x8b":
        return gzip.compress(_changed(random, gzip.decompress(content), seeds), 1)
    if content[:2] == b"PK":
        return _repacked(random, content)
    if content[:1] == b"{":
        return "\n".join(_json(random, line) for line in content.decode().splitlines()).encode("utf-8", "replace")
    return _changed(random, content, seeds)


def _changed(random, content, seeds):
    raw = bytearray(content)
    for _ in range(random.integers(1, 4)):
        place = int(random.integers(len(raw) + 1) if random.random() < 0.4 else random.integers(min(len(raw), 360) + 1))
        kind = random.integers(7)
        if kind == 0 and raw:
            raw[min(place, len(raw) - 1)] ^= 1 << int(random.integers(8))
        elif kind == 1:
            raw[place : place + 1] = bytes([random.integers(256)])
        elif kind == 2:
            raw[place : place + 4] = NUMBERS[random.integers(len(NUMBERS))]
        elif kind == 3:
            raw = raw[:place]
        elif kind == 4:
            raw[place:place] = raw[place : place + int(random.integers(1, 200))]
        elif kind == 5:
            raw[place:place] = TOKENS[random.integers(len(TOKENS))]
        else:
            other = seeds[random.integers(len(seeds))]
            raw[place:] = other[place:]
    return bytes(raw)


def _repacked(random, content):
    """The same archive with one part changed, or named otherwise."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        names = old.namelist()
        chosen = names[random.integers(len(names))] if random.random() < 0.5 else names[0]
        for name in names:
            part = old.read(name)
            changed = _changed(random, part, [part]) if name == chosen else part
            renamed = name == chosen and random.random() < 0.05
            new.writestr("../../x.npy" if renamed else name, changed)
    return buffer.getvalue()


def _json(random, line):
    """The same JSON with one or two values replaced."""
    try:
        content = json.loads(line)
    except ValueError:
        return line
    for _ in range(random.integers(1, 3)):
        holder, places = content, []
        while isinstance(holder, (dict, list)) and holder:
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            key = keys[int(random.integers(len(keys)))]
            places.append((holder, key))
            holder = holder[key]
        if places:
            holder, key = places[int(random.integers(len(places)))]
            holder[key] = copy.deepcopy(VALUES[random.integers(len(VALUES))])
    return json.dumps(content)


NUMBERS = [
    np.array(value, kind).tobytes()[:4]
    for kind in ("<i4", ">i4", "<f4", ">f4", "<i2")
    for value in (0, 1, -1, 127, -32768, 32767, *((2**31 - 1, -(2**31)) if kind[1:] != "i2" else ()))
] + [np.array(value, "<f4").tobytes() for value in (np.nan, np.inf, -np.inf, 1e30, 1e-30)]
TOKENS = [
    *(
        b"\0",
        b"\n",
        b"\r",
        b"\t",
        b'"',
        b"'",
        b",",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"{",
        b"[" * 3000,
        b"1e999",
        b"9" * 400,
    ),
    *(
        b"$",
        b"@",
        b"%",
        b"NaN",
        b"-Infinity",
        b"null",
        b"../../",
        b"/etc/passwd",
        b"<script>",
        b"&a [*a]",
        b"!!python/",
    ),
    *(
        "é☃".encode(),
        b"\xed\xa0\x80",
        b"\x80\x04\x95cos\nsystem\n(S'touch x'\ntR.",
        b"PK\x03\x04",
        b"\x1f\x8b",
        b"!!int ''",
    ),
]
VALUES = [
    *(
        None,
        True,
        -1,
        0,
        2,
        10**400,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x",
        "\0",
        "\ud800",
        "$print(1)",
        "../../x",
    ),
    *(
        [],
        {},
        [[]],
        [1, 2],
        {"a": 1},
        [None],
        "@run",
        "%x.yaml",
        "1",
        "é",
        [0.5] * 11,
        [0.5] * 144,
        [10**6] * 3,
        -(10**30),
    ),
]
