"""Notebooks of the tutorials, that open on their own: `python docs/site/notebooks.py FOLDER` writes them there."""

import re
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import jupytext
from sphinx_gallery.notebook import rst2md
from sphinx_gallery.py_source_parser import remove_config_comments, split_code_and_text_blocks

EXAMPLES = Path(__file__).parents[1] / "examples"
CONVERTED = {"notebook_images": False}  # a setting that `rst2md` asks for
HEADINGS = {(None, "="): 1, (None, "-"): 2}  # line below a heading: its level
INSTALLING = """This notebook needs the bundle in the Python that runs it. In the folder of the repository:

    pip install . jupyterlab

It needs no data and no network, and writes to a temporary folder. Run all cells from the first one."""


def write(folder: Path) -> list[Path]:
    """Write a notebook of each tutorial.

    Args:
        folder: that receives them.

    Returns:
        Their paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for script in sorted(EXAMPLES.glob("[0-9]_*.py")):
        paths.append(folder / f"{script.stem}.ipynb")
        jupytext.write(notebook(script), paths[-1], fmt="ipynb")
        if (archive := folder / f"{script.stem}.zip").exists():  # sphinx-gallery's, with a notebook of its own
            with ZipFile(archive, "w") as both:
                both.write(script, script.name)
                both.write(paths[-1], paths[-1].name)
    return paths


def notebook(script: Path) -> Any:
    """The notebook of a script of sphinx-gallery: text becomes Markdown, and the first cell says how to install.

    Args:
        script: the file.
    """
    _, blocks = split_code_and_text_blocks(str(script))
    cells = [_cell(block.type, block.content) for block in blocks if block.content.strip()]
    cells.insert(1, _cell("text", INSTALLING))
    made = jupytext.reads("\n\n".join(cells), fmt="py:percent")
    made.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return made


def _cell(kind: str, content: str) -> str:
    """A cell in jupytext's form."""
    if kind == "code":
        return f"# %%\n{remove_config_comments(content).strip()}"
    lines = rst2md(_without_roles(content), CONVERTED, "", HEADINGS).strip().splitlines()
    return "\n".join(["# %% [markdown]", *(f"# {line}".rstrip() for line in lines)])


def _without_roles(text: str) -> str:
    """Links to pages of the documentation as words that a reader without the site understands."""
    text = re.sub(r"::$", ":", text, flags=re.MULTILINE)
    named = re.sub(r":doc:`([^<`]+?)\s*<(\d_\w+)>`", r"\1 (``\2.ipynb``)", text)
    named = re.sub(r":doc:`([^<`]+?)\s*<[./]*(\S+?)>`", r"\1 (``docs/\2.md``)", named)
    return re.sub(r":doc:`[./]*(\S+?)`", r"``docs/\1.md``", named)


if __name__ == "__main__":
    for path in write(Path(sys.argv[1])):
        print(path)  # noqa: T201
