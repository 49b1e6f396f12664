"""`.safetensors` beside `.pt`: the same tensors, the same card, the same protections."""

import hashlib
import json
import struct

import numpy as np
import pytest
import safetensors.torch
import torch
from monai.networks.nets import DenseNet121
from safetensors import safe_open

from bundle.cli.main import main
from bundle.networks import classifier_card, export_classifier, load_encoder, load_network, origin, read_card
from bundle.networks.conversion import change_format
from bundle.networks.formats import read_state_dict, refuse_twin, weights_digest
from bundle.networks.safetensors_file import LARGEST_HEADER
from bundle.networks.weights import save_weights, start_from
from bundle.training.handlers import BestWeights

CARD = {"kind": "classifier", "class_names": ["control", "patient"], "validation": {"val_threshold": 0.4}}
CARD |= {"network": {"init_features": 8, "growth_rate": 4, "block_config": [1, 1, 1, 1]}, "warning": "A phantom – é."}
FILES = ("model.pt", "model.safetensors")


def classifier():
    sizes = {"init_features": 8, "growth_rate": 4, "block_config": (1, 1, 1, 1)}
    return DenseNet121(3, in_channels=1, out_channels=2, **sizes)


@pytest.fixture(params=FILES)
def saved(request, tmp_path):
    network = classifier()
    save_weights(tmp_path / request.param, network, CARD)
    return network, tmp_path / request.param


def plain_digest(path):
    """The digest as its documentation says it, from the bytes of the file alone."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header, body, digest = json.loads(raw[8 : 8 + length]), raw[8 + length :], hashlib.sha256()
    kinds = {"F32": "float32", "F16": "float16", "I64": "int64", "BF16": "bfloat16", "BOOL": "bool"}
    for name in sorted(set(header) - {"__metadata__"}):
        start, end = header[name]["data_offsets"]
        digest.update(f"{name} {kinds[header[name]['dtype']]} {header[name]['shape']}\n".encode() + body[start:end])
    return digest.hexdigest()


def test_every_reader_takes_either_format(saved):
    network, path = saved
    content = network.state_dict()
    assert all(content[name].equal(tensor) for name, tensor in read_state_dict(path).items())
    card = classifier_card(path)
    assert {name: card[name] for name in CARD} == CARD
    assert next(iter(card)) == "warning"
    assert card["sha256"] == weights_digest(path) == origin(path)["sha256"]
    other = classifier()
    load_network(path, other)
    assert all(content[name].equal(tensor) for name, tensor in other.state_dict().items())
    start_from(classifier(), path)
    assert load_encoder(path).encoder.state_dict()["features.conv0.weight"].equal(content["features.conv0.weight"])
    beside = {"model.json"} if path.suffix == ".pt" else set()
    assert {file.name for file in path.parent.iterdir()} == {path.name} | beside


def test_the_digest_is_of_the_tensors_as_it_is_said(tmp_path):
    for storage in ("float32", "float16"):
        save_weights(tmp_path / "a.safetensors", classifier(), CARD, storage)
        assert read_card(tmp_path / "a.safetensors")["sha256"] == plain_digest(tmp_path / "a.safetensors")


def test_other_software_reads_the_file_and_the_card(tmp_path):
    save_weights(tmp_path / "a.safetensors", classifier(), CARD)
    with safe_open(tmp_path / "a.safetensors", "pt") as opened:
        assert opened.metadata()["format"] == "pt"
        assert json.loads(opened.metadata()["card"])["class_names"] == ["control", "patient"]
        assert set(opened.keys()) == set(classifier().state_dict())


def test_weights_that_share_memory_or_have_another_layout_are_written_whole(tmp_path):
    module = torch.nn.Linear(3, 3)
    module.other = module.weight
    module.across = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3).T)
    save_weights(tmp_path / "a.safetensors", module, {})
    found = read_state_dict(tmp_path / "a.safetensors")
    assert all(found[name].equal(tensor) for name, tensor in module.state_dict().items())


def test_there_and_back_is_the_same(tmp_path):
    save_weights(tmp_path / "model.pt", classifier(), CARD, "float16")
    there = change_format(tmp_path / "model.pt", tmp_path / "there")
    back = change_format(there, tmp_path / "back")
    assert (there.name, back.name) == ("model.safetensors", "model.pt")
    one, other = read_state_dict(tmp_path / "model.pt"), read_state_dict(back)
    assert one.keys() == other.keys()
    assert all(one[n].dtype == other[n].dtype and one[n].equal(other[n]) for n in one)
    cards = [{**read_card(path), "sha256": None} for path in (tmp_path / "model.pt", there, back)]
    assert cards[0] == cards[1] == cards[2]


def test_the_command_converts_beside_the_weights_and_takes_the_record_along(tmp_path, capsys):
    save_weights(tmp_path / "model.pt", classifier(), CARD)
    np.savez(tmp_path / "model_record.npz", a=np.zeros(1))
    assert main(["convert-weights", str(tmp_path / "model.pt")]) == 0
    assert read_card(tmp_path / "model.safetensors")["kind"] == "classifier"
    there = ["--output", str(tmp_path / "there"), "--format", "safetensors"]
    assert main(["convert-weights", str(tmp_path / "model.pt"), *there]) == 0
    assert sorted(p.name for p in (tmp_path / "there").iterdir()) == ["model.safetensors", "model_record.npz"]
    assert main(["convert-weights", str(tmp_path / "model.pt")]) == 1
    assert "is there already; move it away, or give another --output" in capsys.readouterr().err


def test_foreign_weights_become_safetensors_with_a_card(tmp_path):
    torch.save({"model": {f"module.{n}": t for n, t in classifier().state_dict().items()}}, tmp_path / "a.pth")
    command = ["convert-weights", str(tmp_path / "a.pth"), "--output", str(tmp_path / "m"), "--format", "safetensors"]
    assert main(command) == 0
    assert read_card(tmp_path / "m" / "a.safetensors")["converted_from"]["file"] == "a.pth"


# Cards inside and beside


def test_a_card_beside_has_to_agree_with_the_one_inside(tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(path, classifier(), CARD)
    card = read_card(path)
    path.with_suffix(".json").write_text(json.dumps(card))
    assert read_card(path) == card
    path.with_suffix(".json").write_text(json.dumps({**card, "class_names": ["a", "b"]}))
    with pytest.raises(ValueError, match=r"model\.json is no card of .*model\.safetensors.*they differ in class_names"):
        read_card(path)


def test_the_card_of_weights_of_torch_beside_is_theirs_alone(tmp_path):
    save_weights(tmp_path / "model.pt", classifier(), CARD)
    change_format(tmp_path / "model.pt", tmp_path)
    assert read_card(tmp_path / "model.safetensors")["sha256"] == weights_digest(tmp_path / "model.safetensors")
    (tmp_path / "model.pt").unlink()
    with pytest.raises(ValueError, match="they differ in sha256"):
        read_card(tmp_path / "model.safetensors")


def test_a_file_without_a_card_takes_the_one_beside(tmp_path):
    safetensors.torch.save_file(classifier().state_dict(), tmp_path / "a.safetensors")
    assert read_card(tmp_path / "a.safetensors") == {}
    (tmp_path / "a.json").write_text(json.dumps({"kind": "encoder"}))
    assert read_card(tmp_path / "a.safetensors") == {"kind": "encoder"}
    (tmp_path / "a.json").write_text(json.dumps({"kind": "encoder", "sha256": "0" * 64}))
    with pytest.raises(ValueError, match="belongs to other weights"):
        read_card(tmp_path / "a.safetensors")


def test_changed_tensors_are_noticed(tmp_path):
    path = tmp_path / "a.safetensors"
    save_weights(path, classifier(), CARD)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"The card in the header of .* belongs to other weights"):
        read_card(path)


@pytest.mark.parametrize(("there", "new"), [FILES, FILES[::-1]])
def test_new_weights_are_not_written_beside_others_of_the_name(there, new, tmp_path):
    save_weights(tmp_path / there, classifier(), CARD)
    refuse_twin(tmp_path / there)
    with pytest.raises(ValueError, match="one of the two would be taken for the other"):
        BestWeights(tmp_path / new, classifier(), CARD)


def test_values_that_are_not_finite_are_neither_written_nor_read(tmp_path):
    broken = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(broken.bias, float("nan"))
    with pytest.raises(ValueError, match="2 values are not finite that were to be written"):
        save_weights(tmp_path / "a.safetensors", broken, {})
    assert not list(tmp_path.iterdir())
    safetensors.torch.save_file(broken.state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"2 values are not finite that lie in it \(bias\)"):
        read_state_dict(tmp_path / "a.safetensors")


def test_a_classifier_is_exported_from_its_safetensors(tmp_path):
    grid = {"shape": [40, 40, 40], "affine": np.eye(4).tolist()}
    save_weights(tmp_path / "model.safetensors", classifier(), {**CARD, "contract": {"grid": grid}})
    export_classifier(tmp_path / "model.safetensors", ["torchscript"])
    extra = {"sha256": ""}
    torch.jit.load(tmp_path / "model.ts", _extra_files=extra)
    assert extra["sha256"].decode() == read_card(tmp_path / "model.safetensors")["sha256"]


# Files made to harm


def raw(header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "too short for a header"),
        (b"\x80\x04abc", "too short for a header"),
        (raw({}, length=2**63), "announces 9,223,372,036,854,775,808 bytes"),
        (raw({}, length=3), "announces 3 bytes"),
        (raw(b" " * LARGEST_HEADER + b"{}"), "more than the file or the limit"),
        (raw(b"{"), "not valid JSON"),
        (raw(b"[" * 100_000), "not valid JSON"),
        (raw(b"\xff\xfe"), "not valid JSON"),
        (raw([1]), "no JSON object"),
        (raw(b'{"a": {"dtype":"F32","shape":[2],"data_offsets":[0,8]}, "a": {}}', bytes(8)), "'a' stands in it twice"),
        (raw({"a": ENTRY}, bytes(4)), "SafetensorError"),
        (raw({"a": ENTRY}, bytes(12)), "SafetensorError"),
        (raw({"a": ENTRY, "b": ENTRY}, bytes(8)), "SafetensorError"),
        (raw({"a": {**ENTRY, "shape": [2**62, 4]}}, bytes(8)), "SafetensorError"),
        (raw({"a": {**ENTRY, "shape": [-2]}}, bytes(8)), "SafetensorError"),
        (raw({"a": {**ENTRY, "dtype": "F99"}}, bytes(8)), "SafetensorError"),
        (raw({"a": {**ENTRY, "data_offsets": [8, 0]}}, bytes(8)), "SafetensorError"),
        (raw({"__metadata__": [1], "a": ENTRY}, bytes(8)), "no texts by name"),
        (raw({"__metadata__": {"card": 1}, "a": ENTRY}, bytes(8)), "no texts by name"),
        (raw({"__metadata__": {"card": "{"}, "a": ENTRY}, bytes(8)), "the card in its header is not valid JSON"),
        (raw({"__metadata__": {"card": "[" * 99_999}, "a": ENTRY}, bytes(8)), "the card in its header is not valid"),
        (raw({"__metadata__": {"card": '{"kind": 1, "kind": 2}'}, "a": ENTRY}, bytes(8)), "'kind' stands in it twice"),
        (raw({"__metadata__": {"card": "[]"}, "a": ENTRY}, bytes(8)), "no JSON object"),
    ],
)
def test_files_made_to_harm_are_refused_in_a_sentence(content, reason, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.safetensors is no readable safetensors file: .*{reason}"):
        load_encoder(tmp_path / "a.safetensors")


@pytest.mark.parametrize("kind", ["F8_E4M3", "C64", "U16", "U64"])
def test_numbers_that_no_network_saves_are_refused(kind, tmp_path):
    size = {"F8_E4M3": 1, "C64": 8, "U16": 2, "U64": 8}[kind]
    content = raw({"a": {"dtype": kind, "shape": [1], "data_offsets": [0, size]}}, bytes(size))
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"what no network saves|no readable safetensors file"):
        read_state_dict(tmp_path / "a.safetensors")


def test_a_card_inside_of_an_unknown_format_is_refused(tmp_path):
    header = {"__metadata__": {"card": json.dumps({"format": 99})}, "a": ENTRY}
    (tmp_path / "a.safetensors").write_bytes(raw(header, bytes(8)))
    with pytest.raises(ValueError, match="has format 99, and this version reads up to 1"):
        read_card(tmp_path / "a.safetensors")
