"""Where weights lie: in a file, in a published folder, or at a pinned revision on the Hugging Face Hub."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from bundle.extras import require
from bundle.files import sha256

WEIGHTS = "model.safetensors"  # in a published folder, and where an address names no file
INSTALL = "run `pip install 'brain-mri-yaware[hub]'`, or `pip install -r requirements-hub.txt` in the bundle's folder"
_IN_FOLDERS = (WEIGHTS, f"huggingface/{WEIGHTS}", "models/model.pt")
_ADDRESS = re.compile(  # pathlib makes one slash of two, and MONAI's configs `::` of `#`
    r"hf://?(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<file>[\w-][\w.-]*(?:/[\w-][\w.-]*)*))?"
    r"(?:(?:#|::)sha256=(?P<sha256>[0-9a-fA-F]{64}))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CACHED = re.compile(r"models--(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+)/snapshots/(?P<commit>[0-9a-f]{40})/(?P<file>.+)")
_MOVING = ("main", "master", "HEAD")
_FORM = (
    "Expected hf://OWNER/NAME@REVISION, with /FILE where it is not model.safetensors, and #sha256=… to check the file"
)
logger = logging.getLogger(__name__)


def is_address(weights: str | Path) -> bool:
    """Whether weights lie on the Hugging Face Hub."""
    return _text(weights).startswith("hf:/")


def located(weights: str | Path) -> Path:
    """The file of weights that lie in a file, in a published folder, or on the Hugging Face Hub.

    Args:
        weights: A path; a folder made by `publish`, or that of a MONAI bundle; or `hf://OWNER/NAME@REVISION`, where the
            revision is a commit of 40 hexadecimal digits or a tag; `/FILE` may follow, and `#sha256=…` of the file.

    Returns:
        The path; of a file of the Hub that of its copy in the cache of huggingface_hub, fetched where it is not there.

    Raises:
        ValueError: for an address without a revision or with a branch, which moves; a file that cannot be fetched, or
            has another sha256; or a folder without weights.
    """
    if is_address(weights):
        return _fetched(_text(weights))
    path = Path(weights)
    if not path.is_dir():
        return path
    found = next((path / name for name in _IN_FOLDERS if (path / name).is_file()), None)
    if found is None:
        raise ValueError(f"The folder {path} holds no weights ({', '.join(_IN_FOLDERS)}); give a file of weights.")
    return found


def as_address(text: str) -> str:
    """The address of a file in the cache of huggingface_hub, by its commit; any other text stays as it is.

    Args:
        text: Such as the path of weights, for a record that others read.
    """
    found = _CACHED.search(_text(text))
    return "hf://{owner}/{name}@{commit}/{file}".format(**found.groupdict()) if found else text


def _text(weights: str | Path) -> str:
    return str(weights).replace("\\", "/")


def _fetched(address: str) -> Path:
    parts = _ADDRESS.fullmatch(address)
    if parts is None:
        raise ValueError(f"{address} is no address of weights. {_FORM}.")
    repo, revision, file = parts["repo"], parts["revision"], parts["file"] or WEIGHTS
    if revision is None or revision in _MOVING:
        raise _unpinned(address, f"the branch {revision}, which moves" if revision else "no revision")
    hub = require("huggingface_hub", "Weights on the Hugging Face Hub", INSTALL)
    ask = _COMMIT.fullmatch(revision) is not None or _is_tag(hub, address, repo, revision)
    folder = _snapshot(hub, address, repo, revision, file, ask)
    path = folder / file
    if not path.is_file():
        raise ValueError(f"{address}: there is no {file} in this revision; name one that is: …@{revision}/FILE.")
    if parts["sha256"] and (found := sha256(path)) != parts["sha256"].lower():
        raise ValueError(f"{address}: the sha256 of {file} is {found}. It is not used; ask who gave you the address.")
    logger.info(f"{repo} at commit {folder.name}{'' if revision == folder.name else f' (tag {revision})'}: {path}")
    return path


def _unpinned(address: str, found: str) -> ValueError:
    return ValueError(
        f"{address} names {found}, so that the same address could give other weights tomorrow. {_FORM}; the revision "
        "is a commit (40 hexadecimal digits, on the page `Files`, under `History`) or a tag."
    )


def _is_tag(hub: Any, address: str, repo: str, revision: str) -> bool:
    """Whether the Hub says that a revision is none of its branches; False where it cannot be asked."""
    try:
        refs = hub.HfApi().list_repo_refs(repo)
    except Exception as error:  # as many kinds as ways to be without a network
        logger.info(f"The Hub does not say what {revision} is ({type(error).__name__}): only the cache is looked at.")
        return False
    if revision in [branch.name for branch in refs.branches]:
        raise _unpinned(address, f"the branch {revision}, which moves")
    return True


def _snapshot(hub: Any, address: str, repo: str, revision: str, file: str, ask: bool) -> Path:
    """The folder of a revision in the cache, named after its commit: weights, and what belongs to them by its name."""
    stem = file.rpartition(".")[0]
    wanted = [file, f"{stem}.json", f"{stem}_record.npz", f"{stem}.onnx"]
    try:
        return Path(hub.snapshot_download(repo, revision=revision, allow_patterns=wanted, local_files_only=not ask))
    except Exception as error:  # of the Hub, of the network below it, and of the cache
        reason = " ".join(str(error).split())[:300] if ask else f"the Hub does not say whether {revision} is a tag"
        raise ValueError(
            f"{address} cannot be fetched, and is not in the cache ({type(error).__name__}: {reason}). Look at owner, "
            "name, revision and network; a private repository needs `hf auth login`."
        ) from error
