"""Every command of the README and of the guides is run, in their order, on a cohort that takes seconds.

Commands are run as they are written, with options behind them that make them small; nothing is left out or replaced.
"""

import json
import re
import shlex
import shutil
import subprocess

import matplotlib
import pytest
import torch

import bundle
from bundle.cli.main import _parser, main
from bundle.cohort.datalist import load_section
from bundle.extras import is_there
from tests.conftest import ROOT
from tests.conftest import run_monai as in_this_process
from tests.networks.test_conversion import released

NETWORK = ["--init_features", "8", "--growth_rate", "4", "--block_config", "[1, 1, 1, 1]"]
TRAINED = [*NETWORK, "--epochs", "1", "--batch_size", "8", "--num_workers", "0"]
PROBED = ["--sizes", "[10]", "--draws", "1", "--num_workers", "0"]
SIZE = "{init_features: 8, growth_rate: 4, block_config: [1, 1, 1, 1], num_workers: 0}"
SMALL = {
    "phantom": ["--resolution", "6", "--pretraining", "64", "--per-task", "40"],
    "cohort": ["--shape", "30", "36", "30"],
    "cache": ["--workers", "0"],
    "pretrain": TRAINED,
    "probe": PROBED,
    "train": TRAINED,
    "evaluate": [*NETWORK, "--num_workers", "0"],
    "compare": [
        *("--seeds", "[0]", "--sizes", "[10]", "--tasks", "[bipolar]", "--pretexts", "{y-Aware: []}"),
        *("--networks", "{from scratch: scratch}", "--probing", "{num_workers: 0}"),
        *("--pretraining", SIZE[:-1] + ", epochs: 1}", "--fine_tuning", SIZE[:-1] + ", epochs: 1}"),
    ],
    "predict": ["--num_workers", "0"],
    "demo": ["--no-browser"],
}
EXTRA = ("prepare", "demo")  # need requirements-prepare.txt
MONAI = {"pretrain.yaml": TRAINED, "probe.yaml": PROBED, "evaluate.json": NETWORK, "train.json": TRAINED}
ELSEWHERE = {"make", "yaware", "tensorboard", "xdg-open", "torchrun"}  # torchrun: tests/integration/test_multi_gpu.py


def commands(page):
    """Commands of a page's blocks and tables, in order."""
    text = (ROOT / "docs" / page).read_text()
    found = []
    for block, inline in re.findall(r"```bash\n(.*?)```|`(python -m [^`]*)`", text, re.DOTALL):
        lines = block.splitlines() if block else [inline]
        found += [words for line in lines if (words := shlex.split(line, comments=True))]
    mentions = (["python", "-m", "bundle"], ["yaware"])  # of the program, with no command
    return [words for words in found if words not in mentions and not {"…", "COMMAND"} & set(words)]


WRITTEN = [path for path in (ROOT / "docs").rglob("*.md") if "made" not in path.parts]
GUIDES = ("own_cohort", "predicting", "sigma", "gpus", "repeat", "weights", "other_software", "clinicians")
PAGES = [(page, words) for page in ("README.md", *(f"howto/{name}.md" for name in GUIDES)) for words in commands(page)]


def named(page, words):
    """One case; the demonstration is slow, and prepares a head as tests/integration/test_from_the_scanner.py does."""
    marks = [pytest.mark.slow] if "demo" in words else []
    return pytest.param(page, words, id=f"{page}: {' '.join(words)[:60]}", marks=marks)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """A folder with the bundle's configs, as a user has who has just cloned it."""
    folder = tmp_path_factory.mktemp("sandbox")
    for part in ("configs", "bundle"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    torch.save({"model": released().state_dict()}, folder / "DenseNet121_BHB-10K_yAwareContrastive.pth")
    return folder


def own_cohort(folder):
    """What the README takes for given: a table, images, a datalist of a diagnosis, and scans."""
    if (folder / "participants.tsv").exists():
        return
    (folder / "mri").mkdir()
    (folder / "scans").mkdir()
    rows = ["participant_id\tage\tsex\tsite"]
    for record in load_section(folder / "data/phantom/pretraining.json", "training"):
        name = record["participant_id"].removeprefix("sub-")
        rows.append(f"{name}\t{record['age']}\t{record['sex']}\t{record['site']}")
        shutil.copy(record["image"], folder / "mri" / f"mwp1{name}.nii.gz")
        subprocess.run(["gunzip", str(folder / "mri" / f"mwp1{name}.nii.gz")], check=True)
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    content = json.loads((folder / "data/phantom/schizophrenia.json").read_text())
    for section in ("training", "validation", "test"):
        for item in content[section]:
            item["image"] = f"phantom/{item['image']}"
    (folder / "data/schizophrenia.json").write_text(json.dumps(content))
    for path in sorted((folder / "data/phantom/alzheimer").glob("*.nii.gz"))[:2]:
        shutil.copy(path, folder / "scans")
    (folder / "scans.tsv").write_text(f"file\tparticipant_id\tage\nscans/{path.name}\tann\t71\n")


def stand_in_for_the_shipped_model(folder):
    """The classifier that the README trains, which is small, in the place of the one that comes with the bundle."""
    (folder / "models").mkdir(exist_ok=True)
    for path in (folder / "eval/schizophrenia").glob("model*.*"):
        if not (folder / "models" / path.name).exists():
            shutil.copy(path, folder / "models")


def run_bundle(words, folder, monkeypatch):
    monkeypatch.chdir(folder)
    arguments = words[3:]
    if arguments[0] in EXTRA and not (is_there("ants") and is_there("deepbet")):
        pytest.skip("the extra is not installed: make prepare")
    small = SMALL.get(arguments[0], [])
    if "configs/compare_sites.yaml" in arguments:  # where everybody at other sites trains
        small = [*small[: small.index("--sizes")], *small[small.index("--sizes") + 2 :]]
    status = main([*arguments, *small])
    # The scans of the sandbox are maps of a phantom with voxels of 6 mm, which `prepare` sets aside.
    assert status == (3 if arguments[0] == "prepare" else 0), words


def run_monai(words, folder):
    files = words[words.index("--config_file") + 1]
    extra = next((extra for name, extra in MONAI.items() if name in files), ["--num_workers", "0"])
    in_this_process(*words[3:], *(NETWORK if "inference.json" in files else extra), folder=folder)


@pytest.mark.long
@pytest.mark.parametrize(("page", "words"), [named(*each) for each in PAGES])
def test_a_documented_command_runs(page, words, sandbox, monkeypatch):
    if words[0] in ELSEWHERE:
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[0] != "make" or words[1] in targets
        return
    assert words[:2] == ["python", "-m"]
    if (sandbox / "data/phantom/pretraining.json").exists():
        own_cohort(sandbox)
        stand_in_for_the_shipped_model(sandbox)
    if words[2] == "bundle":
        run_bundle(words, sandbox, monkeypatch)
    else:
        run_monai(words, sandbox)


@pytest.mark.parametrize("page", sorted(path.relative_to(ROOT / "docs").as_posix() for path in WRITTEN))
def test_commands_of_an_installed_bundle_have_the_options_that_there_are(page):
    text = (ROOT / "docs" / page).read_text().replace("\\\n", " ")
    for line in re.findall(r"^yaware ((?!-).*)$", text, re.MULTILINE):
        words = shlex.split(line, comments=True)
        if not {"--help", "…", "COMMAND"} & set(words):
            options, rest = _parser().parse_known_args(words)
            assert not rest or hasattr(options, "runnable"), line


def test_every_overlay_is_mentioned():
    text = "".join(path.read_text() for path in WRITTEN)
    names = {p.name for p in (ROOT / "configs").iterdir() if p.suffix in (".yaml", ".json")} - {"metadata.json"}
    assert [name for name in names if name not in text and not name.startswith("task_")] == []


SMALLER = {"init_features": 8, "growth_rate": 4, "block_config": [1, 1, 1, 1], "epochs": 2, "batch_size": 16}


@pytest.mark.long
def test_the_examples_of_python_run(tiny_phantom, trained, tmp_path, monkeypatch):
    """All blocks of docs/howto/python.md, in their order, on a cohort and with a network that take seconds."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/phantom").symlink_to(tiny_phantom)
    (tmp_path / "models").symlink_to(trained)
    monkeypatch.chdir(tmp_path)
    pretrain = bundle.pretrain
    monkeypatch.setattr(bundle, "pretrain", lambda *given, **options: pretrain(*given, **{**options, **SMALLER}))
    found = {}
    with matplotlib.rc_context():
        for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs/howto/python.md").read_text(), re.DOTALL):
            exec(block, found)
    assert len(found["answers"]) == 40
    assert set(found["result"].table()["method"]) == {"embedding", "age, sex, TIV", "site"}
    assert found["embeddings"].shape == (40, 8 * found["encoder"].embedding_size)
