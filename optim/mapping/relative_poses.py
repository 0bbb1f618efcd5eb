"""Relative poses of many pairs under given intrinsics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..cameras import params_of
from ..view_graph import ViewGraph

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RelativePoses:
    edge: Index
    """(e,) rows of Matches.pairs that have a pose under these intrinsics."""
    b_from_a: Array
    """(e, 3, 4), baselines of unit length."""
    weight: Array
    """(e,) number of matches that agree with the pose."""


def estimate_relative_poses(
    graph: ViewGraph,
    models: tuple[str, ...],
    intrinsics: Array,
    camera_of_photo: Index,
    *,
    max_error_px: float,
    min_inliers: int = 15,
    max_matches: int = 150,
    seed: int = 0,
) -> RelativePoses:
    """Calibrated relative poses by poselib (LO-RANSAC) from matches that are mostly right already.

    At most max_matches evenly picked matches take part in the estimation: more do not make a start better, and the
    adjustment that follows sees them all.
    """
    import poselib

    # poselib does not look at the size of pinhole-like cameras.
    cameras = [
        {"model": model, "width": 1, "height": 1, "params": list(params_of(model, row))}
        for model, row in zip(models, intrinsics, strict=True)
    ]
    ransac = {"max_epipolar_error": max_error_px, "min_iterations": 10, "max_iterations": 300, "seed": seed}
    edges, poses, weight = [], [], []
    count = graph.match_count
    for edge, (a, b) in enumerate(graph.pairs.tolist()):
        rows = np.arange(graph.match_start[edge], graph.match_stop[edge])
        if len(rows) > max_matches:
            rows = rows[:: -(-len(rows) // max_matches)]
        if len(rows) < min_inliers:
            continue
        pose, info = poselib.estimate_relative_pose(
            graph.keypoints.xy[graph.row_a[rows]],
            graph.keypoints.xy[graph.row_b[rows]],
            cameras[camera_of_photo[a]],
            cameras[camera_of_photo[b]],
            ransac,
            {},
        )
        good = np.asarray(info["inliers"], bool)
        if good.sum() < min_inliers or not np.isfinite(pose.t).all():
            continue
        weight.append(good.mean() * count[edge])
        baseline = np.asarray(pose.t) / max(float(np.linalg.norm(pose.t)), 1e-12)
        edges.append(edge)
        poses.append(np.concatenate([pose.R, baseline[:, None]], axis=1))
    return RelativePoses(np.array(edges, np.int64), np.array(poses).reshape(-1, 3, 4), np.array(weight))
