"""Who may import whom. A module that needs something else should be split, not given an exception here."""

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

BUNDLE = Path(__file__).parents[1] / "bundle"
MODULES = sorted(p.stem for p in BUNDLE.glob("*.py") if p.stem != "__init__")
# What each module may import of ours; the leaves import nothing but `files` and `names`.
OURS = {
    "files": set(),
    "rules": {"names"},
    "configs": {"expressions", "names", "rules"},
    "inputs": {"names", "rules"},
    "components": {"names"},
    "runs": {"configs", "expressions", "files", "inputs", "names"},
    "expressions": set(),
    "allocator": set(),
    "arrays": set(),
    "images": set(),
    "cards": set(),
    "names": set(),
    "kernels": set(),
    "networks": set(),
    "views": {"names"},
    "corruptions": {"views"},
    "folds": {"names"},
    "splits": {"names"},
    "associations": {"metrics"},
    "tokens": {"associations", "volumes"},
    "identities": {"checkpoints", "overlap", "participants", "volumes"},
    "confounds": {"associations", "metrics", "participants", "tokens"},
    "audit": {"cohort", "confounds", "files", "identities", "names", "participants"},
    "volumes": {"arrays", "images"},
    "overlap": {"checkpoints", "volumes"},
    "storage": {"arrays", "volumes"},
    "cache": {"cohort", "files", "names", "overlap", "records", "storage", "volumes"},
    "participants": {"names", "volumes"},
    "cohort": {"cards", "files", "names", "participants", "records", "volumes"},
    "records": {"participants"},
    "phantom_tables": set(),
    "phantom": {"files", "phantom_tables", "phantom_model"},
    "phantom_model": {"phantom_tables"},
    "checkpoints": {"cards", "files", "networks"},
    "metrics": set(),
    "losses": set(),
    "pretexts": {"networks"},
    "rivals": {"losses"},
    "distributed": set(),
    "engines": {"names", "networks"},
    "handlers": {"checkpoints", "distributed", "engines", "files", "metrics"},
    "resume": {"distributed", "files"},
    "safety": {"files"},
    "plan": {"configs", "names"},
    "probing": {"engines", "folds", "metrics", "networks"},
    "report": {"files"},
    "grids": set(),
    "scans": {"grids", "images", "volumes"},
    "contract": {"grids", "scans"},
    "familiarity": {"arrays", "cards", "checkpoints", "files", "metrics", "networks"},
    "explain": {"names", "networks"},
    "export": {"checkpoints", "files", "names"},
    "prediction": {
        *("checkpoints", "contract", "export", "familiarity", "files", "grids", "metrics", "names", "networks"),
        *("participants", "scans"),
    },
    "conversion": {"checkpoints"},
    "package": {"files"},
    "pictures": {"grids"},
    "pages": {"contract", "explain", "files", "grids", "metrics", "names", "networks", "pictures", "prediction"},
}
COMMANDS = ("__main__", "data_commands", "model_commands")
ANYTHING = ("workflow", "comparison", "findings", "preview", *COMMANDS)  # what stands above all others
ONLY_IN = {
    "sklearn": {"familiarity", "metrics", "probing"},
    "ignite": {"engines", "familiarity", "handlers", "prediction", "resume", "safety", "workflow"},
    "monai.engines": {"engines", "handlers", "resume", "safety", "workflow"},
    "monai.bundle": {"comparison", "components", "preview", "runs", "workflow"},
    "matplotlib": {"pictures", "report"},
}


def imports(module):
    """Names imported at any level of a module, as dotted paths."""
    found = []
    for node in ast.walk(ast.parse((BUNDLE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@pytest.mark.parametrize("module", [m for m in MODULES if m not in ANYTHING])
def test_a_module_imports_only_what_lies_below_it(module):
    ours = {name.split(".")[1] for name in imports(module) if name.startswith("bundle.")}
    assert ours <= OURS[module], f"bundle/{module}.py may not import {sorted(ours - OURS[module])}"


@pytest.mark.parametrize("module", MODULES)
def test_heavy_libraries_are_used_where_they_belong(module):
    for library, allowed in ONLY_IN.items():
        used = any(name == library or name.startswith(f"{library}.") for name in imports(module))
        assert not used or module in allowed, f"bundle/{module}.py may not import {library}"


@pytest.mark.parametrize("module", COMMANDS)
def test_the_command_line_imports_nothing_heavy_before_it_has_to(module):
    tree = ast.parse((BUNDLE / f"{module}.py").read_text())
    top = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
    names = {alias.name.split(".")[0] for n in top for alias in n.names if isinstance(n, ast.Import)}
    modules = {n.module.split(".")[0] for n in top if isinstance(n, ast.ImportFrom)}
    assert not (names | modules) & {"torch", "monai", "numpy", "pandas", "sklearn", "nilearn"}
    ours = {alias.name for n in top if isinstance(n, ast.ImportFrom) and n.module == "bundle" for alias in n.names}
    assert ours <= {"configs", "inputs", "data_commands", "expressions", "model_commands"}


@pytest.mark.parametrize("module", MODULES)
def test_files_stay_small_and_load_nothing_unsafe(module):
    text = (BUNDLE / f"{module}.py").read_text()
    assert text.count("\n") <= 400, f"bundle/{module}.py is longer than 400 lines: is it still one noun?"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            call, keywords = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert call != "torch.load" or keywords.get("weights_only") == "True"
            assert call != "np.load" or keywords.get("allow_pickle") == "False"
            assert call not in ("print", "eval", "exec", "compile", "__import__")


UNSAFE = {
    # what unpickles, runs or unpacks what a file says, by the last part of its name
    *("pickle.load", "pickle.loads", "Unpickler", "joblib.load", "shelve.open", "marshal.load", "marshal.loads"),
    *("read_pickle", "read_hdf", "yaml.load", "yaml.full_load", "yaml.unsafe_load", "yaml.load_all", "loadmat"),
    *("extractall", "extract", "unpack_archive", "os.system", "os.popen", "DataFrame.eval", "np.fromfile"),
}
# The only places that call what reads a file of somebody's; each has limits and refuses in words.
READERS = {
    "torch.load": {"checkpoints", "resume"},
    "np.load": {"arrays", "findings"},  # findings: what a comparison wrote itself
    "nib.load": set(),  # it would try formats that nobody checked; images.py names the classes
    "json.loads": {"cache", "comparison", "configs", "files", "findings", "package", "phantom", "prediction"},
    "json.load": set(),
    "yaml.safe_load": {"expressions"},
    "gzip.open": {"images"},
    "zipfile.ZipFile": {"arrays", "checkpoints", "package"},
    "tarfile.open": set(),
    "subprocess.run": {"runs"},  # git, with a list of fixed words
}


@pytest.mark.parametrize("module", MODULES)
def test_files_of_others_are_read_in_few_places_and_never_unpickled(module):
    for node in ast.walk(ast.parse((BUNDLE / f"{module}.py").read_text())):
        if not isinstance(node, ast.Call):
            continue
        call, keywords = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert not any(call == name or call.endswith(f".{name}") for name in UNSAFE), f"{module}: {call}"
        assert keywords.get("allow_pickle") in (None, "False"), f"{module}: {call}"
        assert keywords.get("weights_only") in (None, "True"), f"{module}: {call}"
        assert keywords.get("shell") in (None, "False"), f"{module}: {call}"
        if call in READERS:
            assert module in READERS[call], f"{call} belongs into {READERS[call] or 'no module'}, not into {module}"
        if call in ("np.save", "np.savez", "np.savez_compressed"):
            assert keywords.get("allow_pickle") == "False", f"{module}: {call} may write a pickle"
        if call == "pd.read_csv" and module == "participants":
            assert keywords.get("compression") == "None", "a name must not choose an archive"


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
