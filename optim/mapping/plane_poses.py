"""Relative poses that explain the dominant plane of a pair.

The homography of a plane decomposes into two relative poses with all points before both cameras (Faugeras and Lustman
1988). Both are refined on all matches of the pair, and where hardly a point is beside the plane, both fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Array, Index
from ..cameras import fisheyes, unproject
from ..rotations import skew
from ..view_graph import ViewGraph

if TYPE_CHECKING:
    import poselib

RANSAC = {"min_iterations": 50, "max_iterations": 500, "seed": 0}
"""Few iterations are enough, since the homography is refined in between and both poses on all matches after it."""

SAME_POSE = 1e-3
"""Poses whose entries differ by less are one pose that was found twice."""


def plane_poses(
    graph: ViewGraph,
    models: tuple[str, ...],
    intrinsics: Array,
    camera_of_photo: Index,
    edge: int,
    *,
    keypoint_error_px: float,
    max_error: float,
    min_inliers: int,
) -> list[tuple[Array, float]]:
    """At most two poses (3, 4) b_from_a of an edge, baselines of unit length, each with its cost.

    Of the homography's inliers, within `max_error` key point errors, there must be `min_inliers`. The cost is the mean
    of e^2 / (1 + e^2) over all matches, e the Sampson error in key point errors.
    """
    import poselib

    rows, (a, b) = graph.match_rows(edge), graph.pairs[edge].tolist()
    camera = camera_of_photo[[a, b]]
    fisheye = fisheyes(models)[camera]
    xy = [graph.keypoints.xy[row[rows]].astype(np.float64) for row in (graph.row_a, graph.row_b)]
    rays = [unproject(xy[side], intrinsics[camera[side]], bool(fisheye[side])) for side in (0, 1)]
    seen = np.isfinite(rays[0]).all(axis=1) & np.isfinite(rays[1]).all(axis=1)
    if seen.sum() < min_inliers:
        return []
    first, second = (each[seen] for each in rays)
    error = keypoint_error_px / float(np.sqrt(np.prod(intrinsics[camera, 0])))  # on the plane z = 1
    ransac = {"max_reproj_error": max_error * error, **RANSAC}
    homography, info = poselib.estimate_homography(first, second, ransac, {})
    if sum(info["inliers"]) < min_inliers:
        return []
    found: list[tuple[Array, float]] = []
    pinhole = {"model": "SIMPLE_PINHOLE", "width": 1, "height": 1, "params": [1.0, 0.0, 0.0]}
    for start in _without_opposites(poselib.motion_from_homography(homography)[0]):
        loss = {"loss_type": "CAUCHY", "loss_scale": error}
        refined, _ = poselib.refine_relative_pose(first, second, start, pinhole, pinhole, loss)
        length = float(np.linalg.norm(refined.t))
        if not (np.isfinite(length) and length > 0.0):
            continue
        pose = _before_both_cameras(np.column_stack([refined.R, np.asarray(refined.t) / length]), first, second)
        if not any(np.abs(pose - other).max() < SAME_POSE for other, _ in found):
            found.append((pose, epipolar_cost(pose, first, second, error)))
    return found


def epipolar_cost(b_from_a: Array, first: Array, second: Array, error: float) -> float:
    """Mean of e^2 / (1 + e^2) over matches (n, 2) on the planes z = 1, e the Sampson error in units of `error`."""
    x, y = (np.column_stack([each, np.ones(len(each))]) for each in (first, second))
    essential = skew(b_from_a[None, :, 3])[0] @ b_from_a[:, :3]
    line_b, line_a = x @ essential.T, y @ essential
    length = (line_b[:, :2] ** 2).sum(axis=1) + (line_a[:, :2] ** 2).sum(axis=1)
    e2 = np.einsum("ij,ij->i", y, line_b) ** 2 / np.maximum(length, 1e-300) / error**2
    return float(np.mean(e2 / (1.0 + e2)))


def _without_opposites(poses: Sequence[poselib.CameraPose]) -> list[poselib.CameraPose]:
    """The poses without those whose baseline alone is opposite to that of an earlier one: epipolar errors are the same,
    and refinement goes the same way."""
    kept: list[poselib.CameraPose] = []
    for pose in poses:
        if not any(
            np.abs(pose.R - other.R).max() < SAME_POSE and np.abs(pose.t + other.t).max() < SAME_POSE for other in kept
        ):
            kept.append(pose)
    return kept


def _before_both_cameras(pose: Array, first: Array, second: Array) -> Array:
    """The pose or the one with the opposite baseline: that which has more points before both cameras."""
    x, y, t = pose[:, :2] @ first.T + pose[:, 2:3], second.T, pose[:, 3]
    # depth_b y = depth_a R x + t, solved for the depths by crossing out one or the other.
    normal = _crossed(x, (*y, 1.0))
    depth_a, depth_b = (
        np.sum([a * b for a, b in zip(_crossed(each, t), normal, strict=True)], axis=0) for each in ((*y, 1.0), x)
    )
    forward = np.count_nonzero((depth_a > 0) & (depth_b > 0)), np.count_nonzero((depth_a < 0) & (depth_b < 0))
    return pose if forward[0] >= forward[1] else pose * np.array([1.0, 1.0, 1.0, -1.0])


def _crossed(a: Any, b: Any) -> list[Array]:
    """Cross products of vectors given by their three components: few matches, for which numpy.cross takes long."""
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
