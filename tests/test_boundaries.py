"""Who may import whom. A module that needs something else should be split, not given an exception here."""

import ast
from pathlib import Path

import pytest

BUNDLE = Path(__file__).parents[1] / "bundle"
MODULES = sorted(p.stem for p in BUNDLE.glob("*.py") if p.stem != "__init__")
# What each module may import of ours; the leaves import nothing but `files` and `names`.
OURS = {
    "files": set(),
    "rules": {"names"},
    "configs": {"names", "rules"},
    "inputs": {"names", "rules"},
    "components": {"names"},
    "runs": {"configs", "files", "inputs", "names"},
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
    "volumes": set(),
    "overlap": {"checkpoints", "volumes"},
    "storage": {"volumes"},
    "cache": {"cohort", "files", "names", "overlap", "storage", "volumes"},
    "participants": {"names", "volumes"},
    "cohort": {"files", "names", "participants", "volumes"},
    "phantom_tables": set(),
    "phantom": {"files", "phantom_tables", "phantom_model"},
    "phantom_model": {"phantom_tables"},
    "checkpoints": {"files", "networks"},
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
    "scans": {"grids", "volumes"},
    "contract": {"grids", "scans"},
    "familiarity": {"checkpoints", "files", "metrics", "networks"},
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
    assert ours <= {"configs", "inputs", "data_commands", "model_commands"}


@pytest.mark.parametrize("module", MODULES)
def test_files_stay_small_and_load_nothing_unsafe(module):
    text = (BUNDLE / f"{module}.py").read_text()
    assert text.count("\n") <= 400, f"bundle/{module}.py is longer than 400 lines: is it still one noun?"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            call, keywords = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert call != "torch.load" or keywords.get("weights_only") == "True"
            assert call != "np.load" or keywords.get("allow_pickle") == "False"
            assert call not in ("print", "pickle.load", "pickle.loads", "yaml.load", "eval", "exec")
