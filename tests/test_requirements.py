"""What the bundle imports is what it asks for: ranges, the oldest versions, those of the results, and metadata.json."""

import ast
import json
import re
import sys
from importlib.metadata import packages_distributions

import tomllib
from packaging.requirements import Requirement

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


PREPARE = ("requirements-prepare.txt", "requirements-prepare-no-deps.txt")
HUB_FILE = "requirements-hub.txt"


def listed(*files):
    """Distributions that files of requirements name, and the versions that they allow."""
    lines = [line for name in files for line in (ROOT / name).read_text().splitlines()]
    requirements = [Requirement(line.split("#")[0]) for line in lines if re.match(r"\w", line)]
    names = [distribution(requirement.name) for requirement in requirements]
    assert len(names) == len(set(names)), f"{files} name something twice"
    return {name: requirement.specifier for name, requirement in zip(names, requirements, strict=True)}


def pinned(name):
    """Distributions and the one version of each."""
    found = listed(name)
    assert all(str(versions).startswith("==") for versions in found.values()), f"{name} has more than pins"
    return {name: str(versions).removeprefix("==") for name, versions in found.items()}


def bounds(versions):
    """The lowest version of a range, and whether it ends somewhere."""
    lowest = [part.version for part in versions if part.operator == ">="]
    return (lowest or [""])[0], any(part.operator == "<" for part in versions)


def test_every_import_is_required_and_every_requirement_is_used():
    required = set(listed("requirements.txt"))
    assert wanted() <= required, f"imported and not listed: {sorted(wanted() - required)}"
    assert required <= wanted() | READ_BY_OTHERS, f"listed and not used: {sorted(required - wanted() - READ_BY_OTHERS)}"


def test_the_oldest_versions_are_the_lower_bounds():
    assert pinned("requirements-lowest.txt") == {n: bounds(v)[0] for n, v in listed("requirements.txt").items()}


def test_the_versions_of_the_results_lie_in_the_ranges():
    ranges, pins = listed("requirements.txt", *PREPARE, HUB_FILE), pinned("constraints.txt")
    assert set(ranges) == set(pins)
    for name, version in pins.items():
        assert version in ranges[name], f"{name} {version} is not within {ranges[name]}"
        assert bounds(ranges[name])[1], f"{name} has no upper bound"


def test_the_metadata_name_the_same_packages_and_versions():
    metadata = json.loads((ROOT / "configs/metadata.json").read_text())
    stated = {distribution(name): version for name, version in metadata["required_packages_version"].items()}
    stated |= {"torch": metadata["pytorch_version"], "monai": metadata["monai_version"]}
    stated["numpy"] = metadata["numpy_version"]
    pins = pinned("constraints.txt")
    assert stated == {name: pins[name] for name in listed("requirements.txt")}


def test_the_distribution_asks_for_the_requirements_and_has_the_version_of_the_bundle():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["name"] == "brain-mri-yaware"
    hook = project["tool"]["hatch"]["metadata"]["hooks"]["requirements_txt"]
    extras = {"prepare": list(PREPARE), "hub": [HUB_FILE]}
    assert hook == {"files": ["requirements.txt"], "optional-dependencies": extras}
    assert project["project"]["version"] == json.loads((ROOT / "configs/metadata.json").read_text())["version"]
    shipped = project["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"]
    assert {path.name for path in ROOT.glob("requirements*.txt")} <= set(shipped)


def test_the_wheel_is_built_by_the_versions_that_the_tests_have():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = {each.name: each.specifier for each in map(Requirement, project["build-system"]["requires"])}
    assert asked.items() <= listed("requirements-dev.txt").items()


def test_the_extras_list_what_commands_ask_for():
    asked = set()
    for path in (ROOT / "bundle").rglob("*.py"):
        asked |= set(re.findall(r"""require\(\s*"(\w+)""", path.read_text(encoding="utf-8")))
    known = packages_distributions()
    extra = set(listed(*PREPARE, HUB_FILE))
    names = {distribution(known[module][0]) for module in asked if module in known}
    assert asked <= PREPARATION | HUB
    assert names <= extra, f"asked for and not listed: {sorted(names - extra)}"
