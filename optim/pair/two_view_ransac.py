"""Robust estimators for two views, by poselib's locally optimised RANSAC.

Points (n, 2) count from the principal point in units of the tolerance: every threshold is 1. Matches come best first:
sampling begins with the best, and with plenty of matches only some are sampled, while all refine the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import poselib
from numpy.typing import NDArray

from .epipolar import sampson_errors

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

PLANE_ERROR = 2.0
"""Tolerance for homographies, which are held to both coordinates; epipolar geometry is held to one."""

_PLENTY = 400
_AMONG_MATCHES = {"min_iterations": 50, "max_iterations": 1000, "success_prob": 0.999, "progressive_sampling": True}
_AMONG_INLIERS = {"min_iterations": 20, "max_iterations": 500, "success_prob": 0.999, "progressive_sampling": True}
_NO_SAMPLING = {"min_iterations": 0, "max_iterations": 1}


def fundamental_matrix(a: Array, b: Array, seed: int) -> tuple[Array, Mask]:
    """F with x_b^T F x_a = 0 among matches many of which are wrong, and who fits."""
    options = {**_AMONG_MATCHES, "max_epipolar_error": 1.0, "seed": seed}
    estimate, info = poselib.estimate_fundamental(a[:_PLENTY], b[:_PLENTY], options, {})
    if len(a) <= _PLENTY or info["num_inliers"] < 8:
        fits = np.zeros(len(a), bool)
        fits[:_PLENTY] = info["inliers"]
        return np.asarray(estimate, float), fits
    fits = np.abs(sampson_errors(estimate, a, b)) < 1.0
    refined, _ = poselib.refine_fundamental(a[fits], b[fits], estimate, {})
    return np.asarray(refined, float), np.abs(sampson_errors(refined, a, b)) < 1.0


def homography(a: Array, b: Array, seed: int) -> tuple[Array, Array]:
    """H with x_b ~ H x_a among matches that fit one epipolar geometry, and how far off it everyone is."""
    options = {**_AMONG_INLIERS, "max_reproj_error": PLANE_ERROR, "seed": seed}
    some = _spread(len(a))
    estimate, _ = poselib.estimate_homography(a[some], b[some], options, {})
    matrix = np.asarray(estimate, float)
    seen = np.column_stack([a, np.ones(len(a))]) @ matrix.T
    with np.errstate(divide="ignore", invalid="ignore"):  # points that the plane sends to infinity are not on it
        error = np.linalg.norm(seen[:, :2] / seen[:, 2:] - b, axis=1)
    return matrix, np.asarray(np.nan_to_num(error, nan=np.inf))


def relative_pose(a: Array, b: Array, focals: Array, seed: int) -> Array:
    """(3, 4) pose of b seen from a with these focal lengths, unit baseline, from matches most of which are right."""
    cameras = [{"model": "SIMPLE_PINHOLE", "width": 0, "height": 0, "params": [f, 0.0, 0.0]} for f in focals]
    options = {**_AMONG_INLIERS, "max_epipolar_error": 1.0, "seed": seed}
    some = _spread(len(a))
    pose, _ = poselib.estimate_relative_pose(a[some], b[some], *cameras, options, {})
    if len(some) < len(a):
        pose, _ = poselib.estimate_relative_pose(a, b, *cameras, {**options, **_NO_SAMPLING}, {}, pose)
    return _unit_baseline(pose)


def shared_focal_pose(a: Array, b: Array, seed: int) -> tuple[Array, float]:
    """The same with a focal length that both photos share and that is found as well."""
    options = {**_AMONG_INLIERS, "max_epipolar_error": 1.0, "seed": seed}
    center = np.zeros(2)
    some = _spread(len(a))
    pair, _ = poselib.estimate_shared_focal_relative_pose(a[some], b[some], center, options, {})
    if len(some) < len(a):
        pair, _ = poselib.estimate_shared_focal_relative_pose(a, b, center, {**options, **_NO_SAMPLING}, {}, pair)
    return _unit_baseline(pair.pose), float(pair.camera1.focal())


def _spread(count: int) -> NDArray[np.intp]:
    """Rows to sample from: evenly over all, as the best matches may crowd in one place."""
    return np.linspace(0, count - 1, min(count, _PLENTY)).astype(np.intp)


def _unit_baseline(pose: Any) -> Array:
    rotation, translation = np.asarray(pose.R, float), np.asarray(pose.t, float)
    return np.column_stack([rotation, translation / max(float(np.linalg.norm(translation)), 1e-12)])
