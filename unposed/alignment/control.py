"""Models aligned and adjusted to ground control points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unposed.optim.alignment.control_points import ControlFit, ControlPoints, fit_control
from unposed.optim.alignment.marks import Marks
from unposed.optim.arrays import Array
from unposed.optim.bundle.intrinsics import intrinsics_with_priors, prior_after
from unposed.optim.bundle.problem import Bundle, IntrinsicsPrior, errors_px
from unposed.optim.cameras import CAMERA_MODELS, intrinsics_of, params_of
from unposed.optim.intrinsics_priors import FocalSource, IntrinsicsPriorOptions
from unposed.optim.view_graph import KeypointOptions
from unposed.pipeline.artifacts import Camera, CameraPriors, SparseModel

from ..localization.camera_guess import NOISE_PX
from ..model import Model
from .control_file import ControlMark, read_control_marks
from .targets import AlignmentOptions, ModelAlignment


def from_points(
    models: Sequence[Model], file: Path, priors: CameraPriors | None, options: AlignmentOptions
) -> list[ModelAlignment | str]:
    """Align and adjust to the control points of a file.

    priors: what was known of the cameras; None where nobody says, then they stay as they are.
    """
    listed = read_control_marks(file, models[0].photos.photos)
    return [_to_points(model, listed, priors, options) for model in models]


def _to_points(
    model: Model, listed: Sequence[ControlMark], priors: CameraPriors | None, options: AlignmentOptions
) -> ModelAlignment | str:
    how = options.control
    unknown = {camera.model for camera in model.sparse.cameras} - set(CAMERA_MODELS)
    if unknown:
        return f"its camera model {min(unknown)} is none of {', '.join(CAMERA_MODELS)}"
    rows = {name: row for row, name in enumerate(model.photo_names)}
    names = sorted({mark.point for mark in listed})
    number = {name: k for k, name in enumerate(names)}
    own = sorted((mark for mark in listed if mark.photo in rows), key=lambda mark: (number[mark.point], mark.photo))
    of_point = {mark.point: mark for mark in listed}
    marks = Marks(
        point=np.array([number[mark.point] for mark in own], np.int64),
        photo=np.array([rows[mark.photo] for mark in own], np.int64),
        xy=np.array([mark.xy for mark in own], np.float64).reshape(-1, 2),
        sigma_px=np.array([mark.sigma_px or how.sigma_px for mark in own], np.float64),
    )
    control = ControlPoints(
        position=np.array([of_point[name].position for name in names], np.float64).reshape(-1, 3),
        sigma=np.array([of_point[name].sigma_m or how.sigma_m for name in names], np.float64),
        marks=marks,
    )
    bundle = bundle_of_model(model.sparse)
    sides = np.array([max(camera.width, camera.height) for camera in model.sparse.cameras], np.float64)
    pixel = np.maximum(sides / KeypointOptions().reference_side_px, 1.0)[bundle.camera_of_photo]
    fit = fit_control(bundle, control, _intrinsics_prior(model.sparse, bundle, priors), pixel, how)
    if isinstance(fit, str):
        return fit
    scatter = float(
        np.sqrt(((control.position[fit.used] - control.position[fit.used].mean(axis=0)) ** 2).sum(1).mean())
    )
    rms = float(np.sqrt(np.mean(fit.distance[fit.used] ** 2)))
    if not rms <= options.max_relative_error * scatter:
        return (
            f"its control points do not fit: RMS error {rms:.3g} over a scatter of {scatter:.3g}; they are of another "
            "place, mirrored, or their axes are exchanged"
        )
    adjusted = model_of_bundle(model.sparse, fit.bundle) if how.adjust else None
    return ModelAlignment(fit.similarity, _facts(fit, names, own, rms), adjusted)


def bundle_of_model(model: SparseModel) -> Bundle:
    """A model as bundle adjustment takes it; rows are those of its own key points."""
    return Bundle(
        models=tuple(camera.model for camera in model.cameras),
        intrinsics=np.array([intrinsics_of(camera.model, camera.params) for camera in model.cameras]).reshape(-1, 8),
        camera_of_photo=np.asarray(model.camera_of_photo, np.int64),
        cam_from_world=np.array(model.cam_from_world, np.float64),
        points=np.array(model.points, np.float64),
        xy=np.asarray(model.xy, np.float64)[model.obs_xy],
        photo=np.searchsorted(model.xy_start, model.obs_xy, side="right").astype(np.int64) - 1,
        point=np.asarray(model.obs_point, np.int64),
        row=np.asarray(model.obs_xy, np.int64),
        rigs=model.rigs,
    )


def model_of_bundle(model: SparseModel, bundle: Bundle) -> SparseModel:
    """The model with the values of a bundle that has its photos, points and observations."""
    cameras = tuple(
        Camera(each.model, each.width, each.height, params_of(each.model, values))
        for each, values in zip(model.cameras, bundle.intrinsics, strict=True)
    )
    count = np.bincount(bundle.point, minlength=len(bundle.points))
    error = np.bincount(bundle.point, errors_px(bundle), minlength=len(bundle.points)) / np.maximum(count, 1)
    return replace(
        model,
        cameras=cameras,
        cam_from_world=bundle.cam_from_world,
        points=bundle.points,
        error_px=error,
        rigs=bundle.rigs,
    )


def _intrinsics_prior(model: SparseModel, bundle: Bundle, priors: CameraPriors | None) -> IntrinsicsPrior:
    """The prior about the intrinsics that the photos have led to, as wide as that before any geometry: these are still
    among the observations."""
    first = np.unique(bundle.camera_of_photo, return_index=True)[1]
    groups = None if priors is None else priors.camera_of_photo[model.photos[first]]
    sources: list[FocalSource] = ["given" for _ in first]
    options, given_sigma = IntrinsicsPriorOptions(), None
    if priors is not None and groups is not None:
        sources = [priors.focal_source[int(group)] for group in groups]
        options = priors.prior
        if priors.given_sigma is not None:
            given_sigma = np.asarray(priors.given_sigma, np.float64)[groups]
    found = intrinsics_with_priors(
        bundle.models,
        [camera.params for camera in model.cameras],
        np.array([(camera.width, camera.height) for camera in model.cameras], np.float64).reshape(-1, 2),
        sources,
        bundle.camera_of_photo,
        NOISE_PX,
        options,
        given_sigma,
    )
    return prior_after(found.prior, bundle.intrinsics, np.bincount(bundle.camera_of_photo, minlength=len(first)))


def _facts(fit: ControlFit, names: Sequence[str], own: Sequence[ControlMark], rms: float) -> dict[str, object]:
    """Residuals of every point, and what was not used, for summary.json."""
    wrong = {name: fit.distance[k] for k, name in enumerate(names) if not fit.used[k] and np.isfinite(fit.distance[k])}
    points: dict[str, Any] = {}
    for k, name in enumerate(names):
        marks = np.flatnonzero(fit.seen.right & (fit.marks.point == k))
        points[name] = {
            "used": bool(fit.used[k]),
            "photos": len(marks),
            "error_m": _digits(fit.distance[k]),
            "offset_m": [_digits(value) for value in fit.offset[k]],
            "error_px": _digits(float(np.sqrt(np.mean(fit.error_px[marks] ** 2)))) if len(marks) else None,
        }
    sighted = np.isfinite(fit.distance)[fit.marks.point]
    marks_off = np.flatnonzero(~fit.seen.right & sighted).tolist()
    return {
        "positions": int(np.isfinite(fit.distance).sum()),
        "rms": _digits(rms),
        "wrong": {name: _digits(error) for name, error in wrong.items()},
        "wrong_marks": {f"{own[row].point} in {own[row].photo}": _digits(fit.seen.error_px[row]) for row in marks_off},
        "unseen": [name for k, name in enumerate(names) if not np.isfinite(fit.distance[k])],
        "points": points,
    }


def _digits(value: float | Array) -> float | None:
    return float(f"{float(value):.4g}") if np.isfinite(value) else None
