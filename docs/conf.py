"""How Sphinx builds the site: `make docs` writes it to dist/site without a network. A warning is an error."""

import logging
import os
import sys
import warnings
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / "site")]

# Tutorials show neither progress bars nor what is logged with the paths of the machine that built the site.
os.environ["TQDM_DISABLE"] = "1"
logging.getLogger("bundle").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=UserWarning, module="monai|sklearn")

import inventories  # noqa: E402
import notebooks  # noqa: E402
import reference  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

METADATA = reference.metadata()

project = "brain_mri_yaware_classification"
author = METADATA["authors"]
copyright = f"2026, {author}; Apache License 2.0"  # noqa: A001
release = version = METADATA["version"]
html_title = f"y-Aware brain MRI {release}"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["examples", "site", "_made"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
suppress_warnings = ["config.cache"]  # of sphinx-gallery's functions, which cannot be pickled

# Markdown
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "attrs_inline"]
myst_heading_anchors = 4

# Docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "separated"
autosummary_generate = False  # reference.py writes a page for each room
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Shape", "params_style"), ("Source", "notes_style")]

# Names of other libraries lead to their own documentation
intersphinx_mapping = inventories.mapping(DOCS / "site" / "inventories", DOCS / "reference" / "made")

# Tutorials
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "tutorials",
    "filename_pattern": r"/\d_",
    "within_subsection_order": "FileNameSortKey",
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "download_all_examples": False,
    "min_reported_time": 1,
    "matplotlib_animations": True,
    "plot_gallery": "True",
    "ignore_repr_types": r"matplotlib|'list'",  # what drawing returns
    "only_warn_on_example_error": False,
}

# Look
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"source_directory": "docs/", "navigation_with_keys": True}
html_show_sphinx = False


def setup(app: Sphinx) -> None:
    """Write what is made of the code: pages of commands, configs and rooms; and notebooks, after the tutorials ran."""
    reference.write(DOCS)
    app.connect("builder-inited", lambda _: notebooks.write(DOCS / "tutorials"), priority=900)
