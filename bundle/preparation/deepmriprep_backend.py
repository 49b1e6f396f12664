"""The backend deepmriprep: networks in place of iterations, where its weights are; nothing is downloaded here."""

from __future__ import annotations

import math
import tempfile
import time
import warnings
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bundle.extras import INSTALL, is_there, require
from bundle.preparation.brain import share_on_border
from bundle.preparation.outcome import FAIL, WARN, Layers, Outcome
from bundle.preparation.quality import grade
from bundle.scans.grid import REFERENCE, to_grid

NAME, PURPOSE = "deepmriprep", "The backend deepmriprep"
PARTS = (
    *("brain_extraction_bbox_model", "brain_extraction_model", "segmentation_nogm_model"),
    *(f"segmentation_patch_{number}_model" for number in range(18)),
    *("segmentation_model", "warp_model"),
)
WEIGHTS = tuple(f"{part}.pt" for part in PARTS)
NEEDED = ("deepmriprep", "deepbet", "torchreg", "spline_resize", "requests")
GET = "python -c 'from deepmriprep.utils import download_missing_models; download_missing_models()'"
_UNJUDGED = "Most limits of quality control are those of another pipeline and were not looked at: look at the page."
_VOLUMES = {"tiv": "tiv", "gm": "gmv", "wm": "wmv", "csf": "csfv"}  # its outputs, cm³
_MEASURES = ("affine_loss", "warp_mse")
_NATIVE = ("brain", "mask", "p1", "p2")


def prepare_with_deepmriprep(image: nib.spatialimages.SpatialImage) -> Outcome:
    """Prepare a T1w scan with deepmriprep, on the CPU.

    Args:
        image: A 3D T1w scan of the head.

    Returns:
        The map on the reference grid, volumes and layers. The status is at best `warn`, since few of the limits of
        quality control hold for this backend; it is `fail` where these are exceeded, or deepmriprep itself fails.

    Raises:
        ValueError: deepmriprep, a library that it needs, or one of its weight files is missing; says how to get it.

    Source:
        Fisch et al., deepmriprep, 2024. Written from the code of version 0.3.0, and not run with its real weights.
    """
    require_weights()
    module = require(NAME, PURPOSE)
    begun = time.process_time()
    pipeline = stated()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t1.nii"
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj, dtype=np.float32), image.affine), path)
        outputs, reason = _run(module, path)
    seconds = {NAME: time.process_time() - begun}
    if outputs is None:
        return Outcome(FAIL, (reason,), {}, {}, None, None, pipeline, seconds)
    volumes = {tissue: _number(outputs[output]) for tissue, output in _VOLUMES.items()}
    grey, layers = _on_grid(outputs["mwp1"]), _layers(module, outputs)
    measures = _measures(outputs, volumes, grey)
    status, reasons = grade(measures)
    return Outcome(
        FAIL if status == FAIL else WARN, (*reasons, _UNJUDGED), measures, volumes, grey, layers, pipeline, seconds
    )


def stated() -> dict[str, Any]:
    """What records say of this backend: its name, and versions of what it is made of."""
    try:
        version = metadata.version(NAME)
    except metadata.PackageNotFoundError:
        version = ""
    return {"name": NAME, "version": version, "software": {NAME: version}}


def require_weights() -> None:
    """Refuse where a library or a weight file is missing: deepmriprep would download it unasked and unchecked.

    Raises:
        ValueError: Says what is missing and how to get it.
    """
    missing = [name.replace("_", "-") for name in NEEDED if not is_there(name)]
    if missing:
        more = [name for name in missing if name not in ("deepmriprep", "deepbet")]
        how = f"`pip install {' '.join(more)}`" if more else INSTALL
        raise ValueError(f"{PURPOSE} needs {', '.join(missing)}, which are not installed; {how}.")
    folder = weights_folder()
    absent = [name for name in WEIGHTS if not (folder / name).is_file() or not (folder / name).stat().st_size]
    if absent:
        raise ValueError(
            f"{PURPOSE} needs {len(WEIGHTS)} weight files in {folder}, and {len(absent)} are missing, the first is "
            f"{absent[0]}. They are not downloaded unasked: run `{GET}` where there is a network, which checks no "
            "digest, or copy the folder from an installation that has them; or use `--backend ants`."
        )


def weights_folder() -> Path:
    """Where deepmriprep keeps its weights; it is found, not imported.

    Raises:
        ValueError: deepmriprep is not installed.
    """
    found = find_spec(NAME)
    if found is None or not found.submodule_search_locations:
        raise ValueError(f"{PURPOSE} needs {NAME}, which is not installed; {INSTALL}.")
    return Path(next(iter(found.submodule_search_locations))) / "data" / "models"


def _run(module: Any, path: Path) -> tuple[Mapping[str, Any] | None, str]:
    """What deepmriprep gives for a file, or why it gives nothing."""
    with warnings.catch_warnings():  # that a file cannot be read, it only warns of, with the path
        warnings.simplefilter("ignore")
        try:
            # `mwp1` as an output has all steps up to it run; errors are raised and not turned into warnings.
            wanted = {"mwp1": str(path.with_name("mwp1.nii"))}
            outputs = module.Preprocess(no_gpu=True).run(str(path), wanted, run_all=False, skip_unprocessed=False)
        except Exception as error:  # its own errors have no class in common
            return None, f"deepmriprep failed ({type(error).__name__}: {' '.join(str(error).split())[:200]})."
    expected = ("mwp1", "wp1", *_NATIVE, *_VOLUMES.values(), *_MEASURES)
    missing = [name for name in expected if name not in (outputs or {})]
    if missing:
        return None, f"deepmriprep gave no {', '.join(missing)}; the scan cannot be read, or its version is another."
    if not _number(outputs["tiv"]) > 0:
        return None, "deepmriprep found no brain: its total intracranial volume is 0 mL."
    return outputs, ""


def _measures(outputs: Mapping[str, Any], volumes: Mapping[str, float], grey: NDArray[np.float32]) -> dict[str, float]:
    """The measures of quality control that mean the same for every pipeline, and the losses of deepmriprep's own."""
    mask = outputs["mask"]
    sizes = np.linalg.norm(np.asarray(mask.affine, dtype=float)[:3, :3], axis=0)
    total = float(grey.sum(dtype=np.float64)) * REFERENCE.voxel_ml
    return {
        "voxel_size": float(sizes.max()),
        "brain_volume": float(np.count_nonzero(np.asarray(mask.dataobj)) * sizes.prod() / 1000),
        "mask_on_border": share_on_border(np.asarray(mask.dataobj) > 0),
        "gm_share": volumes["gm"] / volumes["tiv"],
        "wm_share": volumes["wm"] / volumes["tiv"],
        "modulation_error": abs(total / volumes["gm"] - 1) if volumes["gm"] else math.inf,
        **{name: _number(outputs[name]) for name in _MEASURES},
    }


def _number(value: Any) -> float:
    """The one number of a pandas Series."""
    return float(np.asarray(value, dtype=float).ravel()[0])


def _on_grid(image: Any) -> NDArray[np.float32]:
    """A map on the reference grid; of deepmriprep's own grid, which is a smaller box, every voxel is kept."""
    return to_grid(np.asarray(image.dataobj, dtype=np.float32), np.asarray(image.affine, dtype=float), REFERENCE)


def _layers(module: Any, outputs: Mapping[str, Any]) -> Layers:
    """What a page draws; native volumes lie on one grid."""
    brain, mask, grey, white = (np.asarray(outputs[name].dataobj, dtype=np.float32) for name in _NATIVE)
    bright = float(np.median(brain[white > 0.9])) if (white > 0.9).any() else float(brain.max() or 1)
    template = module.preprocess.WARP_TEMPLATE
    template_gm = nib.Nifti1Image(np.asarray(template.dataobj[..., 0], dtype=np.float32), template.affine)
    return Layers(
        np.asarray(outputs["brain"].affine, dtype=float),
        brain / bright,
        mask > 0,
        grey,
        white,
        _on_grid(outputs["wp1"]),
        _on_grid(template_gm),
    )
