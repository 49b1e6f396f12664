"""What the bundle imports is what it asks for: in requirements.txt, in the oldest versions, and in metadata.json."""

import ast
import json
import re
import sys
from importlib.metadata import packages_distributions

import tomllib

from tests.conftest import ROOT

PREPARATION = {"ants", "deepbet", "deepmriprep", "pydicom", "dcm2niix", "highdicom", "fpdf", "captum"}
HUB = {"huggingface_hub"}
OPTIONAL = (
    {"mlflow", "onnx", "onnxruntime", "onnxscript", "umap"} | PREPARATION | HUB
)  # each import says what to install
READ_BY_OTHERS = {
    "tensorboard",
    "tqdm",
    "fire",
    "tabulate",
}  # of MONAI, ignite and pandas, which import them when asked


def distribution(name):
    """A distribution's name in the form in which names are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported():
    """Top-level modules that any file of the bundle imports, at any level."""
    modules = set()
    for path in (ROOT / "bundle").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.split(".")[0])
    return modules - set(sys.stdlib_module_names) - {"bundle"}


def wanted():
    """Distributions that hold what is imported."""
    known = packages_distributions()
    return {distribution(known[module][0]) for module in imported() - OPTIONAL}


def listed(name):
    lines = (ROOT / name).read_text().splitlines()
    pins = [line.split("#")[0].strip() for line in lines if re.match(r"\w", line)]
    return {distribution(name): version for name, _, version in (pin.partition("==") for pin in pins)}


def test_every_import_is_required_and_every_requirement_is_used():
    required = set(listed("requirements.txt"))
    assert wanted() <= required, f"imported and not listed: {sorted(wanted() - required)}"
    assert required <= wanted() | READ_BY_OTHERS, f"listed and not used: {sorted(required - wanted() - READ_BY_OTHERS)}"


def test_the_oldest_versions_are_of_the_same_packages():
    assert set(listed("requirements-lowest.txt")) == set(listed("requirements.txt"))


def test_the_metadata_name_the_same_packages_and_versions():
    metadata = json.loads((ROOT / "configs/metadata.json").read_text())
    stated = {distribution(name): version for name, version in metadata["required_packages_version"].items()}
    stated |= {"torch": metadata["pytorch_version"], "monai": metadata["monai_version"]}
    stated["numpy"] = metadata["numpy_version"]
    assert stated == listed("requirements.txt")


def test_the_distribution_asks_for_the_requirements_and_has_the_version_of_the_bundle():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["name"] == "brain-mri-yaware"
    dynamic = project["tool"]["setuptools"]["dynamic"]
    assert dynamic["dependencies"] == {"file": ["requirements.txt"]}
    assert project["project"]["version"] == json.loads((ROOT / "configs/metadata.json").read_text())["version"]
    folders = {p.parent.relative_to(ROOT).as_posix().replace("/", ".") for p in (ROOT / "bundle").rglob("__init__.py")}
    assert folders <= set(project["tool"]["setuptools"]["packages"])


def test_the_extras_list_what_commands_ask_for():
    asked = set()
    for path in (ROOT / "bundle").rglob("*.py"):
        asked |= set(re.findall(r"""require\(\s*"(\w+)""", path.read_text(encoding="utf-8")))
    known = packages_distributions()
    files = ("requirements-prepare.txt", "requirements-prepare-no-deps.txt", "requirements-hub.txt")
    extra = {name for file in files for name in listed(file)}
    names = {distribution(known[module][0]) for module in asked if module in known}
    assert asked <= PREPARATION | HUB
    assert names <= extra, f"asked for and not listed: {sorted(names - extra)}"
