"""Which room may import which, and what no file of ours may do. Each file is parsed once."""

import ast
import inspect
import json
import re
from pathlib import Path

import monai.bundle
import pytest
import yaml
from monai.data import NumpyReader
from monai.handlers import CheckpointLoader

from bundle import later
from bundle.later import PLACES

BUNDLE = Path(__file__).parents[1] / "bundle"
# The rooms from the ground up, and the rooms each may import; all may import the files at the root of `bundle/`.
ROOMS = {
    "pages": set(),
    "scans": set(),
    "networks": set(),
    "metrics": set(),
    "phantom": {"scans", "metrics"},
    "pretext": {"networks"},
    "cohort": {"scans", "networks", "metrics"},
    "training": {"networks", "metrics"},
    "adaptation": {"cohort", "networks", "metrics", "pretext", "training"},
    "evaluation": {"scans", "cohort", "networks", "metrics", "training", "adaptation"},
    "preparation": {"pages", "scans"},
    "prediction": {"pages", "scans", "cohort", "networks", "metrics", "adaptation", "preparation"},
    "dicom": {"scans", "prediction"},
    "publishing": {"scans", "networks", "cohort", "prediction"},
    "cli": {
        *("scans", "networks", "metrics", "phantom", "pretext", "cohort", "training", "adaptation"),
        "evaluation",
        *("pages", "preparation", "prediction", "dicom", "publishing"),
    },
    "notebook": {"scans", "networks", "cohort", "training", "evaluation", "cli"},
}
ONLY_IN = {  # a library: the files, or rooms, that may import it
    "sklearn": {
        *("metrics", "evaluation/probing", "evaluation/linear", "evaluation/knowledge", "evaluation/readers"),
        "evaluation/elastic_net",
        *("prediction/training_record", "training/monitors", "notebook/transformer"),
    },
    "ignite": {"training", "prediction", "adaptation/adversary", "adaptation/classifier_adversary"},
    "monai.engines": {"training", "prediction/table", "cli/cost", "adaptation/classifier_adversary"},
    "monai.bundle": {"cli", "evaluation/comparison"},
    "matplotlib": {
        *("drawing", "pages/pictures", "prediction/slices", "training/curves", "evaluation/figures"),
        *("evaluation/clinic_figure", "evaluation/site_figure"),
    },
    "openpyxl": {"cohort/workbook"},
}
UNSAFE = {
    # what unpickles, runs or unpacks what a file says, by the last part of its name
    *("pickle.load", "pickle.loads", "Unpickler", "joblib.load", "shelve.open", "marshal.load", "marshal.loads"),
    *("read_pickle", "read_hdf", "yaml.load", "yaml.full_load", "yaml.unsafe_load", "yaml.load_all", "loadmat"),
    *("extractall", "extract", "unpack_archive", "os.system", "os.popen", "DataFrame.eval", "np.fromfile"),
}
FORBIDDEN_CALLS = ("print", "eval", "exec", "compile", "__import__")
# The only places that call what reads a file of somebody's; each has limits and refuses in words.
READERS = {
    "torch.load": {"networks/formats", "training/resume"},
    "safetensors.torch.load_file": {"networks/safetensors_file"},
    "np.load": {"scans/npy", "evaluation/results"},  # results: what a comparison wrote itself
    "nib.load": set(),  # it would try formats that nobody checked; scans/nifti names the classes
    "json.loads": {
        *("files", "cli/options", "cohort/cache", "evaluation/comparison", "evaluation/results"),
        *("evaluation/in_document", "evaluation/site_data", "evaluation/site_protocol"),
        *("phantom/cohort", "prediction/table", "networks/safetensors_file"),
    },
    "json.load": set(),
    "yaml.safe_load": {"cli/expressions"},
    "gzip.open": {"scans/nifti"},
    "zipfile.ZipFile": {
        "scans/npy",
        "networks/formats",
        "publishing/package",
        "cohort/workbook",
        "preparation/archives",
    },
    "openpyxl.load_workbook": {"cohort/workbook"},
    "pydicom.dcmread": {"dicom/series", "preparation/dicom_headers"},
    "pd.read_excel": set(),
    "tarfile.open": {"preparation/archives"},
    "subprocess.run": {"provenance", "preparation/dicom_conversion"},  # lists of fixed words and paths of our own
}
TREES = {
    path.relative_to(BUNDLE).with_suffix("").as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(BUNDLE.rglob("*.py"))
}


def room_of(name):
    """The room of a file; of one at the root its own name."""
    return name.split("/")[0]


def imports(tree):
    """Names imported at any level of a file, as dotted paths."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(tree):
    """What a file calls, and the keywords it gives, as written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}


CALLS = [(name, call, keywords) for name, tree in TREES.items() for call, keywords in calls(tree)]


def test_the_table_of_rooms_is_that_of_the_folders():
    assert set(ROOMS) == {path.parent.name for path in BUNDLE.glob("*/__init__.py")}
    floors = list(ROOMS)
    for room, below in ROOMS.items():
        assert all(floors.index(other) < floors.index(room) for other in below), f"{room} stands on a higher floor"


def test_a_room_imports_only_rooms_below_it():
    root = {name for name in TREES if "/" not in name}
    for name, tree in TREES.items():
        ours = {found.split(".")[1] for found in imports(tree) if found.startswith("bundle.")} - root
        doors = {
            "__main__": {"cli"},
            "__init__": {"networks", "evaluation", "notebook"},
        }  # the latter for type checkers
        allowed = doors.get(name) or {room_of(name), *ROOMS.get(room_of(name), ())}
        assert ours <= allowed, f"bundle/{name}.py may not import {sorted(ours - allowed)}"


def test_what_stands_above_a_room_is_handed_on_in_one_place():
    """`bundle.pretext.pretrain` runs a config: it is imported when somebody asks, by the table of `later`."""
    asking = {name for name, tree in TREES.items() if any(one.startswith("bundle.later") for one in imports(tree))}
    rooms = {module.removeprefix("bundle.") for module in PLACES} - {"bundle"}
    assert asking == {"__init__", *(f"{room}/__init__" for room in rooms)}
    assert set(later.ROOMS) == set(ROOMS)


def test_a_private_name_stays_in_its_file():
    for name, tree in TREES.items():
        private = [found for found in imports(tree) if found.startswith("bundle.")]
        private = [found for found in private if found.split(".")[-1].startswith("_")]
        assert not private, f"bundle/{name}.py imports {private}"


def test_what_a_room_hands_on_is_there_and_listed():
    for room in set(ROOMS) - {"cli"}:
        tree = TREES[f"{room}/__init__"]
        ours = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module.startswith("bundle.")]
        names = {alias.asname or alias.name for n in ours for alias in n.names}
        listed = next(n.value for n in tree.body if isinstance(n, ast.Assign))
        assert sorted(names) == sorted(ast.literal_eval(listed)), room
        assert ast.get_docstring(tree).count("\n") == 0, f"{room}: one sentence says what lives there"


def test_heavy_libraries_are_used_where_they_belong():
    for name, tree in TREES.items():
        for library, allowed in ONLY_IN.items():
            used = any(found == library or found.startswith(f"{library}.") for found in imports(tree))
            assert not used or {name, room_of(name)} & allowed, f"bundle/{name}.py may not import {library}"


def test_the_command_line_imports_nothing_heavy_before_it_has_to():
    light = {"__main__", "__init__", "files", "hints", "hub", "extras", "cli/__init__"}
    seen, todo = set(), {"cli/main"}
    while todo:
        name = todo.pop()
        seen.add(name)
        top = [n for n in TREES[name].body if isinstance(n, (ast.Import, ast.ImportFrom))]
        found = set(imports(ast.Module(top, [])))
        heavy = {"torch", "monai", "numpy", "pandas", "sklearn", "nilearn", "ignite", "scipy", "nibabel"}
        assert not {imported.split(".")[0] for imported in found} & heavy, f"bundle/{name}.py"
        ours = {imported.split(".", 1)[1].replace(".", "/") for imported in found if imported.startswith("bundle.")}
        todo |= {n for n in TREES for one in ours if one == n or one.rpartition("/")[0] == n} - seen
    assert {room_of(name) for name in seen - light} <= {"cli", "places", "former_names", "later"}


def test_files_stay_small():
    for name in TREES:
        length = (BUNDLE / f"{name}.py").read_text(encoding="utf-8").count("\n")
        assert length <= 400, f"bundle/{name}.py has {length} lines, expected at most 400: is it still one noun?"


def test_nothing_is_unpickled_and_nothing_runs_what_a_file_says():
    for name, call, keywords in CALLS:
        assert not any(call == unsafe or call.endswith(f".{unsafe}") for unsafe in UNSAFE), f"{name}: {call}"
        assert call not in FORBIDDEN_CALLS, f"{name}: {call}"
        assert call != "torch.load" or keywords.get("weights_only") == "True", f"{name}: {call}"
        assert call != "np.load" or keywords.get("allow_pickle") == "False", f"{name}: {call}"
        assert keywords.get("allow_pickle") in (None, "False"), f"{name}: {call}"
        assert keywords.get("weights_only") in (None, "True"), f"{name}: {call}"
        assert keywords.get("shell") in (None, "False"), f"{name}: {call}"
        if call in ("np.save", "np.savez", "np.savez_compressed"):
            assert keywords.get("allow_pickle") == "False", f"{name}: {call} may write a pickle"
        if call in ("pd.read_csv", "pd.read_table"):  # tables of others are read by cohort/sheet, which never unpacks
            assert room_of(name) not in ("cohort", "cli"), f"{name}: {call}"


def test_files_of_others_are_read_in_few_places():
    for name, call, _ in CALLS:
        assert call not in READERS or name in READERS[call], f"{call} belongs into {READERS[call]}, not into {name}"


def _texts(value):
    """Every text of a config, keys too, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from (f"{key}: {inner}" if not isinstance(inner, (dict, list)) else str(key), *_texts(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value


CONFIGS = sorted(p for p in (BUNDLE.parent / "configs").iterdir() if p.suffix in (".yaml", ".json"))
# Readers that unpickle, or that nobody checked; MONAI's own choice by the ending of a name takes NibabelReader and
# NumpyReader, which does not unpickle since MONAI 1.6. A `reader` given by hand would be tried before all others, and
# PersistentDataset unpickles what lies in its folder.
FORBIDDEN = re.compile(
    r"pickle|weights_only: (?!True)|PersistentDataset|LMDBDataset|CacheNTrans|GDSDataset|reader:|CheckpointLoader"
    r"|torch\.load|np\.load|eval\(|exec\(|__import__|\bos\.(?!environ)|subprocess|urllib|torch\.hub|download_url"
)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_no_config_unpickles_or_runs_anything_of_a_file(path):
    content = json.loads(path.read_text()) if path.suffix == ".json" else yaml.safe_load(path.read_text())
    for text in _texts(content):
        assert not FORBIDDEN.search(text), f"{path.name}: {text}"


def test_monai_itself_unpickles_none_of_our_files():
    """What our configs and `monai.bundle` call of MONAI to read a file, in the version that is installed."""
    assert inspect.signature(NumpyReader).parameters["allow_pickle"].default is False
    for loader in (CheckpointLoader, monai.bundle.scripts):
        calls = [n for n in ast.walk(ast.parse(inspect.getsource(loader))) if isinstance(n, ast.Call)]
        loads = [
            {k.arg: ast.unparse(k.value) for k in n.keywords} for n in calls if ast.unparse(n.func) == "torch.load"
        ]
        assert loads
        assert all(keywords.get("weights_only") == "True" for keywords in loads)
