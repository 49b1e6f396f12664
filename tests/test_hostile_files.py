"""Broken files and files made to harm: each reader gives a result or a refusal in words, soon, and nothing else."""

import contextlib
import gzip
import io
import json
import logging
import os
import pickle
import re
import struct
import tempfile
import time
import tracemalloc
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from bundle.cli.options import FOLDER, OptionError, parse_overrides
from bundle.cli.run import value_of
from bundle.cohort.datalist import load_section
from bundle.cohort.overlap import voxel_digest
from bundle.cohort.packing import ReadStoredd
from bundle.networks.cards import CARD_FORMAT, read_card
from bundle.networks.encoders import DenseNetEncoder
from bundle.networks.formats import read_state_dict
from bundle.networks.weights import load_encoder
from bundle.prediction.training_record import RECORD_FORMAT, load_record
from bundle.scans.contract import Contract
from bundle.scans.grid import REFERENCE, Grid, to_grid
from bundle.scans.scan import read_scan
from bundle.scans.volumes import VolumeError, read_volume, volume_fault
from tests.fuzzing.targets import CACHED, GRID, TARGETS, attempt, brain, card, mutated, npy, record, soon, warm_up

EACH = 100  # mutated files of each kind
FEW = 40  # of a kind that takes long to read
ROOT = Path(__file__).parents[1]
logger = logging.getLogger(__name__)
often = settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module", autouse=True)
def warm():
    """Templates, libraries and codecs are loaded before anything is timed."""
    with tempfile.TemporaryDirectory() as folder:
        for target in TARGETS.values():
            warm_up(target, Path(folder))


def tried(name, content):
    with tempfile.TemporaryDirectory() as folder:
        return attempt(TARGETS[name], content, Path(folder))


# Mutations of real files


@pytest.mark.long
@pytest.mark.parametrize("name", TARGETS)
def test_mutated_files_are_read_or_refused(name, tmp_path, record_property):
    random, target, refused = np.random.default_rng(list(name.encode())), TARGETS[name], 0
    seeds, each = target.seeds(), FEW if name == "workbook" else EACH
    start = time.perf_counter()
    for number in range(each):
        content = mutated(random, seeds)
        try:
            refused += bool(attempt(target, content, tmp_path))
        except BaseException as error:
            (tmp_path / "culprit").write_bytes(content)
            raise AssertionError(f"{name}, file {number} of {each} ({tmp_path / 'culprit'}): {error!r}") from error
    told = f"{each} mutated {name} files: {each - refused} read, {refused} refused, {time.perf_counter() - start:.1f} s"
    record_property("mutations", told)
    logger.info(told)
    assert refused > each // 20, told


# Any content


@pytest.mark.long
@often
@given(st.binary(max_size=600))
@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_read_or_refused(name, content):
    tried(name, content)


WORDS = st.sampled_from(
    ["participant_id", "age", "sex", "site", "tiv", "diagnosis", "label", "file", "session", "", "é"]
)
CELLS = st.one_of(
    st.text(max_size=12),
    st.floats().map(str),
    st.integers().map(str),
    st.sampled_from(
        ["control", "sz", "F", "n/a", "1", "../x", "=1+1", "$print(1)", "9" * 500, "٣", "1e999", '"', "\0"]
    ),
)


@pytest.mark.long
@often
@given(st.lists(st.one_of(WORDS, st.text(max_size=8)), max_size=8), st.lists(st.lists(CELLS, max_size=9), max_size=6))
def test_a_table_of_any_columns_and_cells(columns, rows):
    for separator in ("\t", ",", ";"):
        text = "\n".join(separator.join(cells) for cells in [columns, *rows])
        tried("table", text.encode("utf-8", "surrogatepass"))


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("x.npy"))
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner)),
    max_leaves=8,
)
RECORDS = st.dictionaries(st.sampled_from([*CACHED, "label", "tiv", "metadata"]), JSON)


@pytest.mark.long
@often
@given(st.dictionaries(st.sampled_from(["training", "validation", "test", "x"]), st.one_of(JSON, st.lists(RECORDS))))
def test_a_datalist_of_any_json(content):
    for name in ("datalist", "cached datalist"):
        tried(name, json.dumps(content).encode())


@pytest.mark.long
@often
@given(st.dictionaries(st.sampled_from([*json.loads(card()), "sha256", "subjects", "made_by", "version"]), JSON))
def test_a_card_of_any_json(entries):
    tried("card", json.dumps({**json.loads(card()), **entries}).encode())
    tried("card", json.dumps(entries).encode())


FLOATS = st.floats(width=32)
SHORTS = st.one_of(st.integers(-(2**15), 2**15 - 1), st.integers(0, 13), st.sampled_from([1, 1, 10, 12]))


@pytest.mark.long
@often
@given(
    dims=st.lists(SHORTS, min_size=8, max_size=8),
    kind=st.one_of(SHORTS, st.sampled_from([2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1536, 2304])),
    scale=st.lists(FLOATS, min_size=3, max_size=3),
    sizes=st.lists(FLOATS, min_size=8, max_size=8),
    codes=st.tuples(st.integers(-1, 5), st.integers(-1, 5)),
    place=st.lists(FLOATS, min_size=18, max_size=18),
    packed=st.booleans(),
    data=st.binary(max_size=3000),
)
def test_a_nifti_of_any_header(dims, kind, scale, sizes, codes, place, packed, data):
    head = bytearray(TARGETS["nii"].seeds()[0][:352])
    head[40:56] = struct.pack("<8h", *dims)
    head[70:72] = struct.pack("<h", kind)
    head[76:108] = struct.pack("<8f", *sizes)
    head[108:120] = struct.pack("<3f", *scale)
    head[252:328] = struct.pack("<2h18f", *codes, *place)
    content = bytes(head) + data
    tried("nii.gz" if packed else "nii", gzip.compress(content, 1) if packed else content)


@pytest.mark.long
@often
@given(
    st.one_of(
        npst.scalar_dtypes().map(lambda dtype: dtype.str), st.sampled_from(["|O", "<M8[ns]", "|V7", "<f2", ">i4", "x"])
    ),
    st.lists(st.one_of(st.integers(-2, 13), st.integers()), max_size=6),
    st.booleans(),
    st.binary(max_size=2000),
)
def test_an_array_of_any_header(dtype, shape, fortran, data):
    header = str({"descr": dtype, "fortran_order": fortran, "shape": tuple(shape)}).encode() + b"\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data
    tried("npy", content)
    tried("stored volume", content)


ARRAYS = npst.arrays(npst.scalar_dtypes(), npst.array_shapes(min_dims=0, max_dims=4, max_side=6))


@pytest.mark.long
@often
@given(
    st.dictionaries(
        st.sampled_from(
            [
                *("embedding", "ages", "labels", "validation_labels", "healthy", "format"),
                *("regional_volumes", "sexes", "tivs"),
            ]
        ),
        ARRAYS,
    )
)
def test_a_record_of_any_arrays(entries):
    with np.load(io.BytesIO(record(8))) as good:
        everything = {**good, **entries}
    buffer = io.BytesIO()
    np.savez(buffer, **everything)
    tried("record", buffer.getvalue())


NAMES = st.one_of(
    st.text(max_size=8),
    st.sampled_from(list(DenseNetEncoder(1, 4, 2, (1, 1)).state_dict())),
    st.sampled_from(["features.conv1.weight", "features.denseblock9.denselayer9999999.x", "module.encoder.x", "model"]),
)
SHAPES = st.lists(st.integers(0, 5), max_size=5)


@pytest.mark.long
@often
@given(st.dictionaries(st.one_of(NAMES, st.integers()), st.one_of(SHAPES, JSON), max_size=8))
def test_weights_of_any_names_and_shapes(entries):
    content = {name: torch.zeros(v) if isinstance(v, list) and _is_shape(v) else v for name, v in entries.items()}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    tried("weights", buffer.getvalue())


def _is_shape(value):
    return all(type(n) is int and 0 <= n <= 5 for n in value)


@pytest.mark.long
@often
@given(st.dictionaries(st.one_of(st.text(max_size=9), st.sampled_from(["epochs", "loss"]), st.integers()), JSON))
def test_overlays_and_options_of_any_values(entries):
    tried("overlay", yaml.safe_dump(entries).encode())
    for key, value in entries.items():
        tried(
            "options",
            f"--{key}\n{yaml.safe_dump(value, default_flow_style=True, width=10**6)}".encode("utf-8", "replace"),
        )


# Files that say they are large, or unpack to much


def announcing(voxels):
    """A kilobyte that announces very many voxels, in each format."""
    side = round(voxels ** (1 / 3))
    head = bytearray(TARGETS["nii"].seeds()[1][:544])  # NIfTI-2, whose sides are 64-bit numbers
    head[16:80] = struct.pack("<8q", 3, side, side, side, 1, 1, 1, 1)
    header = str({"descr": "<f8", "fortran_order": False, "shape": (side, side, side)}).encode().ljust(117) + b"\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(800)
    mgh = bytearray(gzip.decompress(TARGETS["mgz"].seeds()[0])[:1000])
    mgh[4:20] = struct.pack(">4i", side, side, side, 1)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as parts:
        parts.writestr("embedding.npy", array)
    short = bytearray(TARGETS["nii"].seeds()[0][:352])
    short[40:56] = struct.pack("<8h", 3, 10000, 10000, 10000, 1, 1, 1, 1)
    return {
        "nii": [bytes(head) + bytes(400), bytes(short)],
        "nii.gz": [gzip.compress(bytes(head) + bytes(400)), gzip.compress(bytes(short))],
        "npy": [array],
        "stored volume": [array],
        "mgz": [gzip.compress(bytes(mgh))],
        "record": [archive.getvalue()],
    }


@pytest.mark.parametrize("name", announcing(10**12))
def test_a_kilobyte_that_announces_a_trillion_voxels_is_refused_at_once(name):
    for voxels in (10**9, 10**12, 2**60):
        for content in announcing(voxels)[name]:
            assert len(content) < 2000
            tracemalloc.start()
            try:
                assert tried(name, content)
                assert tracemalloc.get_traced_memory()[1] < 8 * voxels / 400
            finally:
                tracemalloc.stop()


def bomb(first):
    """Four megabytes that unpack to four gigabytes."""
    return gzip.compress(first) + gzip.compress(bytes(2**24)) * 256


@pytest.mark.long
@pytest.mark.parametrize("name", ["nii.gz", "mgz"])
def test_what_unpacks_to_gigabytes_is_not_unpacked(name):
    content = bomb(gzip.decompress(TARGETS[name].seeds()[0]))
    tracemalloc.start()
    try:
        assert "unpacks to more than" in tried(name, content)
        assert tracemalloc.get_traced_memory()[1] < 2**32 / 64  # of what it would unpack to
    finally:
        tracemalloc.stop()


def test_a_header_extension_does_not_unpack_the_rest():
    """A NIfTI extension of -16 bytes would have all that follows read."""
    head = bytearray(TARGETS["nii"].seeds()[0])
    head[108:112] = struct.pack("<f", 384)
    content = bytes(head[:348]) + b"\1\0\0\0" + struct.pack("<2i", -16, 6) + bytes(24) + bytes(head[352:])
    assert "unpacks to more than" in tried("nii.gz", bomb(content))


def test_archives_that_unpack_to_more_than_they_should_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("bundle.scans.npy.MOST_BYTES", 10_000)
    with zipfile.ZipFile(tmp_path / "model_record.npz", "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("embedding.npy", bytes(10**6))
    with pytest.raises(ValueError, match="no record of a training"):
        load_record(tmp_path / "model.pt")
    torch.save({"features.x": torch.zeros(10**6)}, tmp_path / "good.pt")
    with (
        zipfile.ZipFile(tmp_path / "good.pt") as old,
        zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert read_state_dict(tmp_path / "good.pt")
    with pytest.raises(ValueError, match="no readable file of plain weights"):
        read_state_dict(tmp_path / "x.pt")


@pytest.mark.parametrize(
    "entries",
    [
        {"features.conv0.weight": torch.zeros(1, 1, 1, 1, 1).expand(10**9, 1, 7, 7, 7)},
        {"features.conv1.weight": torch.zeros(10**6, 1, 1, 1, 1)},
        {
            "features.conv0.weight": torch.zeros(64, 1, 7, 7, 7),
            "features.denseblock1.denselayer1.layers.conv2.weight": torch.zeros(32, 128, 3, 3, 3),
            "features.denseblock1.denselayer99999999.layers.conv2.weight": torch.zeros(1),
        },
        {"features.conv0.weight": torch.zeros(4, 4).to_sparse()},
        {"features.conv0.weight": torch.zeros(4, 1, 7, 7, 7, dtype=torch.complex64)},
    ],
    ids=["a view of 10⁹ filters", "a network of terabytes", "10⁸ layers", "sparse", "complex"],
)
def test_weights_that_show_an_impossible_network_are_refused_at_once(entries, tmp_path):
    torch.save(entries, tmp_path / "x.pt")
    with soon(), pytest.raises(ValueError, match=r"x\.pt|named"):
        load_encoder(tmp_path / "x.pt")


@pytest.mark.long
@pytest.mark.parametrize("size", [1e-3, 0.02])
def test_tiny_voxels_are_not_resampled_to_terabytes(size, tmp_path):
    affine = np.diag([size, size, 1 / size**2, 1])
    nib.save(nib.Nifti1Image(brain(), affine), tmp_path / "x.nii")
    with soon(60):
        Contract().examine(tmp_path / "x.nii")
    finer = to_grid(brain(), np.diag([0.5, 0.5, 0.5, 1]), REFERENCE)  # as before: three samples an axis
    assert finer.shape == REFERENCE.shape


def test_yaml_that_unfolds_to_billions_is_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    for text in ("{" + ", ".join(lines) + "}", "&a [*a]"):
        with soon(), pytest.raises(OptionError, match="holds more than"):
            parse_overrides(["--tasks", text])


# Files that would run code


class Payload:
    """Unpickling makes a folder."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path):
    path = tmp_path / "it ran"
    yield path
    assert not path.exists(), "a payload was run"


def pickled(folder, payload):
    """The payload in every kind of file that could hold a pickle."""
    held = np.array([[[payload]]], dtype=object)
    np.save(folder / "object.npy", held, allow_pickle=True)
    np.savez(folder / "archive.npz", embedding=held)
    (folder / "plain.npy").write_bytes(pickle.dumps(payload))
    (folder / "plain.pkl").write_bytes(pickle.dumps(payload))
    (folder / "archive.npy").write_bytes((folder / "archive.npz").read_bytes())
    torch.save({"x": payload}, folder / "zip.pt")
    torch.save({"x": payload}, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    image = nib.Nifti1Image(brain(), GRID.matrix)
    image.header.extensions.append(nib.nifti1.Nifti1Extension(16, pickle.dumps(payload)))  # "pypickle"
    nib.save(image, folder / "extension.nii")
    return sorted(folder.iterdir())


def test_the_payload_works(tmp_path):
    np.save(tmp_path / "x.npy", np.array([Payload(tmp_path / "it ran")], dtype=object), allow_pickle=True)
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert (tmp_path / "it ran").exists()


def test_no_reader_unpickles(tmp_path, marker):
    (tmp_path / "files").mkdir()
    for path in pickled(tmp_path / "files", Payload(marker)):
        for read in (read_volume, lambda p: read_scan(p, GRID), read_state_dict, load_encoder, volume_fault):
            with contextlib.suppress(ValueError):
                read(path)
        with pytest.raises(ValueError, match="cached volume"):
            ReadStoredd()({"image": str(path), "intensity": [1.0, 0.0]})
    (tmp_path / "files" / "archive.npz").rename(tmp_path / "model_record.npz")
    with pytest.raises(ValueError, match="no record"):
        load_record(tmp_path / "model.pt")


CONFIGS = [("pretrain.yaml",), ("probe.yaml",), ("train.json",), ("inference.json",)]
CONFIGS += [("pretrain.yaml", f"{name}.yaml") for name in ("resolution_4mm", "published_recipe")]


@pytest.mark.parametrize("files", CONFIGS, ids=lambda files: files[-1])
def test_no_preprocessing_of_ours_unpickles(files, tmp_path, marker, monkeypatch):
    """MONAI's NumpyReader unpickled before 1.6: whoever lowers the version learns it here."""
    monkeypatch.chdir(ROOT)
    preprocessing = value_of([FOLDER / name for name in files], {}, "preprocessing")
    (tmp_path / "files").mkdir()
    for path in pickled(tmp_path / "files", Payload(marker)):
        if path.name != "extension.nii":
            with pytest.raises(RuntimeError):
                preprocessing({"image": str(path)})
    preprocessing({"image": str(tmp_path / "files" / "extension.nii")})


@pytest.mark.parametrize("files", [files for files in CONFIGS if files[0] != "inference.json"], ids=lambda f: f[-1])
def test_training_makes_no_room_for_what_a_file_announces(files, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    preprocessing = value_of([FOLDER / name for name in files], {}, "preprocessing")
    for name in ("nii", "nii.gz", "npy"):
        for number, content in enumerate(announcing(10**9)[name]):
            path = tmp_path / f"{number}.{name}"
            path.write_bytes(content)
            with pytest.raises(RuntimeError) as found:
                preprocessing({"image": str(path)})
            assert isinstance(found.value.__cause__, VolumeError)
            assert f"{path} " in str(found.value.__cause__)


# Names that lead elsewhere


def test_a_ledger_names_no_file_outside_the_cache(tmp_path):
    from bundle.cohort import cache as caches

    good = {"source": "x", "intensity": [1, 0], "image_digest": "a", "shape": [1], "bytes": 3}
    (tmp_path / "precious.npy").write_bytes(b"abc")
    (tmp_path / "cache" / "volumes").mkdir(parents=True)
    entry = {"name": "../../precious", **good}
    (tmp_path / "cache" / "volumes.jsonl").write_text(json.dumps(entry) + "\n" + json.dumps([entry]) + "\n{}\n")
    assert caches._entries(tmp_path / "cache") == {}


# Formats


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (CARD_FORMAT + 1, "reads up to 1: a newer one wrote it. Update"),
        (0, "expected a number from 1 to 1"),
        ("1", "expected a number from 1 to 1"),
        (True, "expected a number from 1 to 1"),
        (1.0, "expected a number from 1 to 1"),
    ],
)
def test_unknown_formats_are_refused(found, sentence, tmp_path):
    (tmp_path / "model.json").write_bytes(card(format=found))
    with pytest.raises(ValueError, match=sentence):
        read_card(tmp_path / "model.pt")
    with np.load(io.BytesIO(record(8))) as good:
        later = RECORD_FORMAT + 1 if found == CARD_FORMAT + 1 else found
        np.savez(tmp_path / "model_record.npz", **{**good, "format": np.array(later)})
    with pytest.raises(ValueError, match=re.sub("to 1", f"to {RECORD_FORMAT}", sentence)):
        load_record(tmp_path / "model.pt")
    (tmp_path / "d.json").write_text(json.dumps({"cache_format": found, "test": [CACHED]}))
    with pytest.raises(ValueError, match=sentence):
        load_section(tmp_path / "d.json", "test", cached=True)


def test_files_of_before_formats_are_read(tmp_path):
    old = {name: value for name, value in json.loads(card()).items() if name != "format"}
    (tmp_path / "model.json").write_text(json.dumps(old))
    assert read_card(tmp_path / "model.pt")["kind"] == "classifier"
    with np.load(io.BytesIO(record(8))) as good:
        assert good["format"] in range(1, RECORD_FORMAT + 1)
        np.savez(tmp_path / "model_record.npz", **{n: a for n, a in good.items() if n != "format"})
    assert load_record(tmp_path / "model.pt").size == 6
    (tmp_path / "d.json").write_text(json.dumps({"test": [CACHED]}))
    assert load_section(tmp_path / "d.json", "test", cached=True)


# Cards of impossible content


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"network": {"init_features": "$print(1)"}}, "has network .* as whole numbers"),
        ({"network": {"logging_file": "x.conf"}}, "has network"),
        ({"network": {"block_config": [6, 10**9]}}, "has network"),
        ({"validation": {"val_threshold": "high"}}, "has validation .* expected numbers"),
        ({"fingerprints": [1]}, "expected lists of digests"),
        ({"class_names": ["a", "a"]}, "two names that differ"),
        ({"class_names": "ab"}, "two names that differ"),
    ],
)
def test_a_card_that_says_what_no_training_writes_is_refused(entries, sentence, tmp_path):
    (tmp_path / "model.json").write_bytes(card(**entries))
    with pytest.raises(ValueError, match=sentence):
        read_card(tmp_path / "model.pt")


@pytest.mark.parametrize(
    "profile",
    [
        {"grid": {"shape": [10**5] * 3, "affine": GRID.card["affine"]}},
        {"grid": {"shape": [1.5, 2, 3], "affine": GRID.card["affine"]}},
        {"grid": {**GRID.card, "affine": [[0.0] * 4] * 4}},
        {"grid": {**GRID.card, "affine": [[float("nan")] * 4] * 4}},
        {"grid": []},
        {"measures": {"plateau": [1.0]}},
        {"measures": {"plateau": ["x"] * 11}},
        {"measures": [1]},
        {"sides": [1.0] * 144},
    ],
)
def test_a_profile_that_no_training_writes_is_refused(profile):
    with pytest.raises(ValueError, match="The card's"):
        Contract(profile)


def test_what_is_compared_with_a_card_did_not_change():
    assert Grid.from_card(GRID.card) == GRID
    assert voxel_digest(np.load(io.BytesIO(npy(brain())))) == voxel_digest(brain())
