"""LO-RANSAC estimators for two views, by poselib.

Points (n, 2) are relative to the principal point, in units of the error threshold: the threshold is 1. Matches are
sorted by weight, and sampling starts with the first (PROSAC). Beyond `max_sampled` matches only some are sampled, while
all refine the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import poselib
from numpy.typing import NDArray

from ..arrays import Array, Mask
from ..option_ranges import Count, Within, check_ascending
from .epipolar import sampson_errors

_NO_SAMPLING = {"min_iterations": 0, "max_iterations": 1}


@dataclass(frozen=True)
class RansacOptions:
    """Effort of the estimators."""

    max_sampled: Annotated[int, Within("[8, inf)")] = 400
    """Matches that are sampled from: more cost time and hardly change the best model."""
    iterations: tuple[Count, Count] = (50, 1000)
    """Least and most iterations among raw matches."""
    inlier_iterations: tuple[Count, Count] = (20, 500)
    """The same among inliers of an epipolar geometry, most of which are right."""
    confidence: Annotated[float, Within("(0, 1)")] = 0.999
    """Probability of having sampled an outlier-free set, at which sampling stops."""

    def __post_init__(self) -> None:
        check_ascending(self, "iterations", "inlier_iterations")

    def to_poselib(self, iterations: tuple[int, int], seed: int) -> dict[str, Any]:
        """Options of poselib's estimators."""
        low, high = iterations
        return {
            "min_iterations": low,
            "max_iterations": high,
            "success_prob": self.confidence,
            "progressive_sampling": True,
            "seed": seed,
        }


def estimate_fundamental(a: Array, b: Array, seed: int, ransac: RansacOptions) -> tuple[Array, Mask]:
    """Fundamental matrix F (3, 3) with x_b^T F x_a = 0, and (n,) its inliers: Sampson distance below 1."""
    options = {**ransac.to_poselib(ransac.iterations, seed), "max_epipolar_error": 1.0}
    first = slice(ransac.max_sampled)
    estimate, info = poselib.estimate_fundamental(a[first], b[first], options, {})
    if len(a) <= ransac.max_sampled or info["num_inliers"] < 8:
        inlier = np.zeros(len(a), bool)
        inlier[first] = info["inliers"]
        return np.asarray(estimate, float), inlier
    inlier = np.abs(sampson_errors(estimate, a, b)) < 1.0
    refined, _ = poselib.refine_fundamental(a[inlier], b[inlier], estimate, {})
    return np.asarray(refined, float), np.abs(sampson_errors(refined, a, b)) < 1.0


def estimate_homography(a: Array, b: Array, seed: int, max_error: float, ransac: RansacOptions) -> tuple[Array, Array]:
    """Homography H (3, 3) with x_b ~ H x_a among inliers of an epipolar geometry, and (n,) transfer errors."""
    options = {**ransac.to_poselib(ransac.inlier_iterations, seed), "max_reproj_error": max_error}
    some = _evenly_spaced(len(a), ransac.max_sampled)
    estimate, _ = poselib.estimate_homography(a[some], b[some], options, {})
    matrix = np.asarray(estimate, float)
    mapped = np.column_stack([a, np.ones(len(a))]) @ matrix.T
    with np.errstate(divide="ignore", invalid="ignore"):  # points mapped to infinity are outliers
        error = np.linalg.norm(mapped[:, :2] / mapped[:, 2:] - b, axis=1)
    return matrix, np.asarray(np.nan_to_num(error, nan=np.inf))


def estimate_relative_pose(a: Array, b: Array, focals: Array, seed: int, ransac: RansacOptions) -> Array:
    """Relative pose b_from_a (3, 4) with unit translation, for focal lengths (2,), from mostly correct matches."""
    cameras = [{"model": "SIMPLE_PINHOLE", "width": 0, "height": 0, "params": [f, 0.0, 0.0]} for f in focals]
    options = {**ransac.to_poselib(ransac.inlier_iterations, seed), "max_epipolar_error": 1.0}
    some = _evenly_spaced(len(a), ransac.max_sampled)
    pose, _ = poselib.estimate_relative_pose(a[some], b[some], *cameras, options, {})
    if len(some) < len(a):
        pose, _ = poselib.estimate_relative_pose(a, b, *cameras, {**options, **_NO_SAMPLING}, {}, pose)
    return _with_unit_translation(pose)


def estimate_shared_focal_pose(a: Array, b: Array, seed: int, ransac: RansacOptions) -> tuple[Array, float]:
    """Relative pose b_from_a (3, 4) with unit translation, and the focal length that both photos share."""
    options = {**ransac.to_poselib(ransac.inlier_iterations, seed), "max_epipolar_error": 1.0}
    center = np.zeros(2)
    some = _evenly_spaced(len(a), ransac.max_sampled)
    pair, _ = poselib.estimate_shared_focal_relative_pose(a[some], b[some], center, options, {})
    if len(some) < len(a):
        pair, _ = poselib.estimate_shared_focal_relative_pose(a, b, center, {**options, **_NO_SAMPLING}, {}, pair)
    return _with_unit_translation(pair.pose), float(pair.camera1.focal())


def _evenly_spaced(count: int, most: int) -> NDArray[np.intp]:
    """At most so many rows of `count`: evenly over all, as the best matches may crowd in one place."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.intp)


def _with_unit_translation(pose: Any) -> Array:
    rotation, translation = np.asarray(pose.R, float), np.asarray(pose.t, float)
    return np.column_stack([rotation, translation / max(float(np.linalg.norm(translation)), 1e-12)])
