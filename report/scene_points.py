"""The models as the page draws them: points and cameras in whole numbers, few enough for any machine."""

from __future__ import annotations

from typing import Any

import numpy as np

from unposed.optim.arrays import Array, Index
from unposed.optim.cameras import CAMERA_MODELS, FX, FY, intrinsics_of
from unposed.optim.poses import camera_centres
from unposed.pipeline.artifacts import Photos, SparseModel

from .ground import upright_axes
from .pictures import base64_of
from .track_figures import track_lengths

MOST_POINTS = 40_000
"""Of all models together: half a megabyte, and drawn in a few milliseconds without a GPU."""
MOST_MODELS = 8
ERROR_STEP_PX = 0.02
"""Errors are stored as bytes of this unit."""
REACH = 30_000
"""Whole numbers per extent of a model; points beyond are left out, as they would be too far away to be seen."""
NEAR_QUANTILE = 0.75
"""Of the distances from the middle: what a view shows at first."""


def scene_data(photos: Photos, models: tuple[SparseModel, ...]) -> list[dict[str, Any]]:
    """For each model: points (int16 xyz, colour, error, track length) and cameras (centre, axes, slopes), upright."""
    shown = models[:MOST_MODELS]
    total = max(sum(len(model.points) for model in shown), 1)
    return [_model_data(model, int(MOST_POINTS * len(model.points) / total) + 1) for model in shown]


def _model_data(model: SparseModel, most: int) -> dict[str, Any]:
    axes = upright_axes(np.asarray(model.cam_from_world, np.float64))
    centres = camera_centres(model.cam_from_world) @ axes.T
    points = model.points @ axes.T
    middle = np.median(points if len(points) else centres, axis=0)
    away = np.linalg.norm(points - middle, axis=1) if len(points) else np.linalg.norm(centres - middle, axis=1)
    reach = max(float(np.quantile(away, NEAR_QUANTILE)), float(np.linalg.norm(centres - middle, axis=1).max()), 1e-9)
    unit = 4.0 * reach / REACH
    scaled = (points - middle) / unit
    near = np.flatnonzero((np.abs(scaled) < REACH).all(axis=1))
    rows = _chosen(near, most)
    lengths = track_lengths(model)[rows]
    errors = np.clip(model.error_px[rows] / ERROR_STEP_PX, 0.0, 255.0)
    poses = np.asarray(model.cam_from_world, np.float64)
    cameras = [
        {
            "photo": int(photo),
            "centre": _short((centre - middle) / reach),
            "axes": _short((pose[:, :3] @ axes.T).ravel()),
            "slope": _short(_slopes(model, int(camera))),
        }
        for photo, camera, pose, centre in zip(model.photos, model.camera_of_photo, poses, centres, strict=True)
    ]
    return {
        "points": len(model.points),
        "shown": len(rows),
        "unit": float(f"{unit / reach:.6g}"),
        "xyz": base64_of(np.round(scaled[rows]).astype("<i2")),
        "rgb": base64_of(model.rgb[rows]),
        "error": base64_of(errors.astype(np.uint8)),
        "length": base64_of(np.minimum(lengths, 255).astype(np.uint8)),
        "cameras": cameras,
    }


def _chosen(rows: Index, most: int) -> Index:
    """Evenly spread over the rows, in an order in which every beginning is spread evenly too, so that a slow machine
    may draw the first ones only."""
    some = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(np.int64))] if len(rows) else rows
    return np.asarray(np.random.default_rng(0).permutation(some))


def _slopes(model: SparseModel, camera: int) -> Array:
    """Half the width and half the height of the photo at distance 1 of the camera."""
    lens = model.cameras[camera]
    focal = intrinsics_of(lens.model, lens.params)[[FX, FY]] if lens.model in CAMERA_MODELS else np.array([1e9, 1e9])
    focal = focal if float(focal.min()) < 1e9 else np.full(2, lens.params[0])
    return np.array([lens.width, lens.height]) / (2.0 * focal)


def _short(values: Array) -> list[float]:
    return [float(f"{value:.5g}") for value in np.asarray(values).tolist()]
