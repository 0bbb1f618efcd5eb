"""How components came to be and how far they may be trusted, as plain data for summary.json."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unposed.optim.cameras import CAMERA_MODELS, fisheyes, intrinsics_of, project
from unposed.pipeline.artifacts import Photos, RefinementReport, SparseModel


def account(photos: Photos, told: RefinementReport) -> dict[str, Any]:
    """What summary.json says of the adjustment of one component.

    costs: of each adjustment, in square pixels: before its first step, and after each step that was taken.
    removed: what was not believed, by reason.
    free_gauge, condition: in how many directions the whole may move at no cost (7: frame and scale are nobody's word),
    and the condition of what is determined; from 1e12 on the photos leave something open.
    pairs: a row for each: both photos, verified matches, those that agree with the poses, and their RMS distance from
    the epipolar lines in pixels.
    """
    rows = zip(told.pairs.tolist(), told.matches.tolist(), told.inliers.tolist(), told.error_px.tolist(), strict=True)
    return {
        "costs": [[float(f"{cost:.8g}") for cost in costs] for costs in told.costs],
        "removed": dict(told.removed),
        "free_gauge": told.free_gauge,
        "condition": None if told.condition is None else float(f"{told.condition:.4g}"),
        "pairs": [
            [photos[a].name, photos[b].name, matches, inliers, _number(error)]
            for (a, b), matches, inliers, error in rows
        ],
    }


def of_photos(scene: SparseModel, told: RefinementReport | None) -> list[dict[str, float | None]]:
    """For each photo of a component: the RMS reprojection error, and the standard deviation of its rotation where it is
    known."""
    out = [{"error_px": _number(error)} for error in photo_errors_px(scene)]
    if told is not None and told.sigma_deg is not None:
        for each, sigma in zip(out, told.sigma_deg.tolist(), strict=True):
            each["sigma_deg"] = _number(sigma)
    return out


def photo_errors_px(scene: SparseModel) -> NDArray[np.float64]:
    """(p,) RMS reprojection error of each photo; not a number where it sees no point, and of cameras not known here."""
    known = np.array([camera.model in CAMERA_MODELS for camera in scene.cameras], bool)
    rows = [intrinsics_of(c.model, c.params) if c.model in CAMERA_MODELS else np.full(8, np.nan) for c in scene.cameras]
    photo = np.searchsorted(scene.xy_start, scene.obs_xy, side="right") - 1
    photo, row, point = (each[known[scene.camera_of_photo[photo]]] for each in (photo, scene.obs_xy, scene.obs_point))
    pose, camera = scene.cam_from_world[photo], scene.camera_of_photo[photo]
    y = np.einsum("mij,mj->mi", pose[:, :, :3], scene.points[point]) + pose[:, :, 3]
    round_eye = fisheyes([each.model for each in scene.cameras])[camera]
    off = project(y, np.array(rows).reshape(-1, 8)[camera], round_eye) - scene.xy[row]
    count = np.bincount(photo, minlength=len(scene.photos))
    squares = np.bincount(photo, np.einsum("mi,mi->m", off, off), minlength=len(scene.photos))
    return np.asarray(np.sqrt(squares / np.where(count > 0, count, np.nan)))


def _number(value: float) -> float | None:
    """Short, and as JSON knows it."""
    return float(f"{value:.4g}") if np.isfinite(value) else None
