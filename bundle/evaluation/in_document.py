"""Results of a comparison in a Markdown file, in place of what it showed before, and the words on what made them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from bundle.evaluation.plan import Plan
from bundle.files import replacing, write_text
from bundle.provenance import provenance

START, END = "<!-- comparison -->", "<!-- /comparison -->"


def show_in_document(document: Path, folder: Path, pictures: Mapping[str, str], origin: str) -> None:
    """Show the table and the figures of a comparison between two marks of a Markdown file.

    Args:
        document: The Markdown file; figures are copied to `images` beside it.
        folder: Folder of `table.md` and the figures.
        pictures: Title → file name.
        origin: What made the results; see `origin_of`.

    Raises:
        ValueError: the file has no place for the results.
    """
    text = document.read_text(encoding="utf-8")
    if START not in text or END not in text.split(START, 1)[1]:
        raise ValueError(f"{document} has no place for the results; put {START} and {END} on lines of their own.")
    before, rest = text.split(START, 1)
    shown = []
    for title, name in pictures.items():
        copy = document.parent / "images" / f"comparison_{name}"
        with replacing(copy) as temporary:
            temporary.write_bytes((folder / name).read_bytes())
        shown.append(f"![{title}](images/{copy.name})")
    table = (folder / "table.md").read_text(encoding="utf-8")
    write_text(document, before + "\n\n".join([START, origin, table.strip(), *shown, END]) + rest.split(END, 1)[1])


def origin_of(plans: Sequence[Plan]) -> str:
    """What made the results: the command, the seeds and the commits.

    Args:
        plans: Plans whose runs are all done, of the same seeds.
    """
    cards = [
        plan.folder(name, seed) / "pretraining" / "pretrained.json"
        for plan in plans
        for name in plan.pretexts
        for seed in plan.seeds
    ]
    made = [json.loads(path.read_text(encoding="utf-8"))["made_by"] for path in cards]
    commits = {str(m["commit"]) for m in made}
    seeds = ", ".join(map(str, plans[0].seeds))
    now = provenance(plans[0].seeds[0])
    return (
        f"Made by `{now['command']}`, seeds {seeds}; encoders pretrained at commit "
        f"{', '.join(sorted(commits))}, table and figures made at commit {now['commit']}."
    )
