"""Models aligned and adjusted to ground control points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unposed.optim.alignment.control_points import ControlFit, ControlPoints, fit_control
from unposed.optim.alignment.marks import Marks
from unposed.optim.arrays import Array
from unposed.optim.bundle.intrinsics import intrinsics_with_priors, prior_after
from unposed.optim.bundle.problem import Bundle, IntrinsicsPrior
from unposed.optim.cameras import CAMERA_MODELS
from unposed.optim.intrinsics_priors import FocalSource, IntrinsicsPriorOptions
from unposed.optim.view_graph import KeypointOptions
from unposed.pipeline.artifacts import CameraPriors, SparseModel

from ..localization.camera_guess import NOISE_PX
from ..model import Model
from ..model_bundles import bundle_of_model, model_of_bundle
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
    fit = fit_control(bundle, control, intrinsics_prior(model.sparse, bundle, priors), pixel, how)
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


def intrinsics_prior(model: SparseModel, bundle: Bundle, priors: CameraPriors | None) -> IntrinsicsPrior:
    """The prior about the intrinsics that the photos have led to, as wide as that before any geometry: these are still
    among the observations."""
    first = np.unique(bundle.camera_of_photo, return_index=True)[1]
    sources: list[FocalSource] = ["given" for _ in first]
    options, given_sigma, guess_log_sigma = IntrinsicsPriorOptions(), None, None
    if priors is not None:
        own = priors.camera_of_photo[model.photos[first]]
        sources, options = [priors.focal_source[camera] for camera in own.tolist()], priors.prior
        given_sigma = None if priors.given_sigma is None else np.asarray(priors.given_sigma[own], np.float64)
        if priors.guess_log_sigma is not None:
            guess_log_sigma = np.asarray(priors.guess_log_sigma[own], np.float64)
    found = intrinsics_with_priors(
        bundle.models,
        [camera.params for camera in model.cameras],
        np.array([(camera.width, camera.height) for camera in model.cameras], np.float64).reshape(-1, 2),
        sources,
        bundle.camera_of_photo,
        NOISE_PX,
        options,
        given_sigma,
        guess_log_sigma,
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
