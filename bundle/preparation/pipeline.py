"""From a T1w head to a modulated grey-matter map, with ANTs and deepbet: offline, on a CPU."""

from __future__ import annotations

import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bundle.preparation.alignment import Volume, align, measures_of
from bundle.preparation.anatomy import Templates, read_templates
from bundle.preparation.bias import correct_bias
from bundle.preparation.brain import NoBrainError, find_brain, share_on_border
from bundle.preparation.heads import check_image
from bundle.preparation.modulation import jacobian_of, modulate
from bundle.preparation.outcome import FAIL, Layers, Outcome
from bundle.preparation.quality import grade
from bundle.preparation.settings import Settings
from bundle.preparation.threads import load_ants
from bundle.preparation.tissues import GM, WM, Mixture, Segmentation, priors_of, segment
from bundle.preparation.volumes import affine_of, coarser, dice, to_ants, write_affine
from bundle.preparation.warp import Warp, warp_tissues
from bundle.scans.grid import REFERENCE
from bundle.scans.nifti import VolumeError

NAME, VERSION = "yaware-ants", "1"  # a new version: maps differ from those of the one before
SOFTWARE = ("antspyx", "deepbet", "deepmriprep", "torch", "numpy", "scipy", "nibabel")
SURE_WM, SURE_GM, SURE_CSF = 0.9, 0.75, 0.8  # priors of voxels whose contrast is measured
ALIGNED_MM = 2.0  # voxels of the brain in the affine
FEWEST = 50  # voxels that a median needs
FIRST, SECOND = Mixture(prior=0.6), Mixture(prior=1.0)  # priors moved by the affine, then by the warp


class _StoppedError(Exception):
    """The preparation cannot or need not go on; the message is a sentence."""


def prepare_with_ants(image: Any, threads: int = 1, settings: Settings | None = None) -> Outcome:
    """Prepare one T1w head, or a brain without skull.

    Args:
        image: nibabel's, as of `heads.open_head`.
        threads: Threads; with one, the same image gives the same map, bit for bit.
        settings: Voxel sizes and iterations; None for those of the documentation.

    Raises:
        ValueError: When ANTs, deepbet or the templates are not installed; says how to install them.
    """
    settings = settings or Settings()
    ants = load_ants(threads)
    made_by = _pipeline(threads, settings)
    with TemporaryDirectory(prefix="yaware_prepare_") as folder:
        run = _Preparation(ants, read_templates(), settings, Path(folder))
        try:
            grey, layers = run.prepare(image)
        except (VolumeError, NoBrainError, _StoppedError) as stopped:
            reasons = (*grade(run.measures)[1], _as_sentence(str(stopped)))
            return Outcome(FAIL, reasons, run.measures, {}, None, None, made_by, run.seconds)
    status, reasons = grade(run.measures)
    return Outcome(status, reasons, run.measures, run.volumes, grey, layers, made_by, run.seconds)


def _as_sentence(reason: str) -> str:
    return reason if reason.endswith(".") else f"The image {reason}."


def _pipeline(threads: int, settings: Settings) -> dict[str, Any]:
    """Name, version and software, as the map's JSON holds them."""
    software = {name: version(name) for name in SOFTWARE}
    return {
        "name": NAME, "version": VERSION, "software": software, "threads": threads, "settings": asdict(settings),
    }  # fmt: skip


class _Preparation:
    """The steps for one head; `measures`, `volumes` and `seconds` fill as they go."""

    def __init__(self, ants: Any, templates: Templates, settings: Settings, folder: Path) -> None:
        self.ants, self.settings, self.folder = ants, settings, folder
        self.template = {
            name: to_ants(ants, getattr(templates, name), REFERENCE.matrix) for name in ("brain", "mask", "gm", "wm")
        }
        self.inside = templates.mask
        self.target = Volume(templates.brain, templates.mask, REFERENCE.matrix)
        self.measures: dict[str, float] = {}
        self.volumes: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self.clock = time.process_time()

    def prepare(self, image: Any) -> tuple[NDArray[np.float32], Layers]:
        """All steps; raises a sentence where one fails."""
        ants = self.ants
        brain, mask = self._brain(image)
        affine, matrix = self._aligned(brain, mask)
        first = self._segment(brain, mask, Warp(affine), FIRST)
        self._lap("first segmentation", "the first segmentation")
        tissues = self._images(brain, first, GM, WM)
        templates = (self.template["gm"], self.template["wm"])
        warp = warp_tissues(ants, templates, tissues, affine, self.settings, self.folder)
        self._lap("warp", "the warp")
        second = self._segment(brain, mask, warp, SECOND)
        self._lap("second segmentation", "the second segmentation")
        return self._modulated(brain, mask, second, warp, float(np.linalg.det(matrix[:3, :3])))

    def _lap(self, step: str, after: str) -> None:
        """Note the time of a step; stop when what was measured so far fails."""
        self._note(step)
        if grade(self.measures)[0] == FAIL:
            raise _StoppedError(f"The preparation stopped after {after}.")

    def _note(self, step: str) -> None:
        now = time.process_time()
        self.seconds[step], self.clock = round(now - self.clock, 2), now

    def _brain(self, image: Any) -> tuple[Any, Any]:
        """Brain and mask on voxels of equal size."""
        values, affine = check_image(image)
        self.measures["voxel_size"] = float(np.linalg.norm(affine[:3, :3], axis=0).max())
        mask = find_brain(values, affine)
        voxel_ml = float(abs(np.linalg.det(affine[:3, :3]))) / 1000
        self.measures["brain_volume"] = np.count_nonzero(mask) * voxel_ml
        self.measures["mask_on_border"] = share_on_border(mask)
        self._lap("brain", "the brain was looked for")
        brain, inside = correct_bias(self.ants, values, affine, mask, self.settings)
        self._lap("bias", "bias correction")
        return brain, inside

    def _aligned(self, brain: Any, mask: Any) -> tuple[Path, NDArray[np.float64]]:
        """The affine as a file and as a matrix."""
        small, inside = (coarser(self.ants, image, ALIGNED_MM) for image in (brain, mask))
        head = Volume(small.numpy(), inside.numpy() > 0.5, affine_of(small))
        matrix = align(self.target, head, self.settings)
        affine = self.folder / "affine.mat"
        write_affine(self.ants, matrix, affine)
        self.measures.update(measures_of(matrix[:3, :3]))
        moved = Warp(affine).to_template(self.ants, mask, self.template["mask"])
        self.measures["mask_dice"] = dice(self.inside, moved > 0.5)
        self.measures.update(self._contrasts(brain, mask, Warp(affine)))
        self._lap("affine", "the affine registration")
        return affine, matrix

    def _contrasts(self, brain: Any, mask: Any, warp: Warp) -> dict[str, float]:
        """Brightness of the tissues where the template is sure of them."""
        gm, wm, whole = (warp.to_head(self.ants, self.template[name], brain) for name in ("gm", "wm", "mask"))
        inside, values = mask.numpy() > 0, brain.numpy()
        deep = ndimage.binary_erosion(inside, iterations=max(1, round(4 / self.settings.working_mm)))
        csf = deep & (1 - gm - wm > SURE_CSF) & (whole > SURE_WM)
        white, grey, fluid = (
            float(np.median(values[where])) if np.count_nonzero(where) >= FEWEST else np.nan
            for where in (inside & (wm > SURE_WM), inside & (gm > SURE_GM), csf)
        )
        return {
            "t1_contrast": (white - grey) / white if white else np.nan,
            "csf_to_gm": fluid / grey if grey else np.nan,
        }

    def _segment(self, brain: Any, mask: Any, warp: Warp, mixture: Mixture) -> Segmentation:
        gm, wm = (warp.to_head(self.ants, self.template[name], brain) for name in ("gm", "wm"))
        inside, edge = mask.numpy() > 0, self.settings.working_mm
        found = segment(brain.numpy(), inside, priors_of(gm, wm), edge, mixture)
        ml = dict(zip(("csf", "gm", "wm"), found.volumes(float(np.prod(brain.spacing)) / 1000).tolist(), strict=True))
        self.volumes = {"tiv": sum(ml.values()), **ml}
        self.measures["contrast_to_noise"] = found.contrast_to_noise
        self.measures["gm_share"], self.measures["wm_share"] = (ml[name] / sum(ml.values()) for name in ("gm", "wm"))
        return found

    def _images(self, brain: Any, found: Segmentation, *tissues: int) -> tuple[Any, ...]:
        return tuple(brain.new_image_like(found.maps[tissue]) for tissue in tissues)

    def _modulated(
        self, brain: Any, mask: Any, found: Segmentation, warp: Warp, determinant: float
    ) -> tuple[NDArray[np.float32], Layers]:
        """The map, and what a page draws."""
        template = self.template["gm"]
        (gm,) = self._images(brain, found, GM)
        warped, inside = (warp.to_template(self.ants, image, template) for image in (gm, mask))
        jacobian = jacobian_of(self.ants, warp, template)
        grey = modulate(warped, jacobian, determinant)
        total = float(grey.sum(dtype=np.float64)) * REFERENCE.voxel_ml
        known = template.numpy()
        self.measures |= {
            "warped_mask_dice": dice(self.inside, inside > 0.5),
            "template_likeness": float(np.corrcoef(warped[self.inside], known[self.inside])[0, 1]),
            "folded": float((jacobian[self.inside] <= 0).mean()),
            "modulation_error": abs(total / self.volumes["gm"] - 1),
        }
        layers = Layers(
            affine_of(brain), brain.numpy(), mask.numpy() > 0, found.maps[GM], found.maps[WM], warped, known
        )
        self._note("modulation")
        return grey, layers
