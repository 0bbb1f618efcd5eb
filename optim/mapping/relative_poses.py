"""Relative pose estimation of all edges of a view graph, intrinsics given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ..arrays import Array, Index
from ..cameras import params_of
from ..option_ranges import Count, Within
from ..view_graph import ViewGraph


@dataclass(frozen=True)
class RelativePoseOptions:
    """LO-RANSAC of poselib on matches that verification has filtered already."""

    min_inliers: Annotated[int, Within("[5, inf)")] = 15
    """Edges with fewer matches, or fewer inliers among those that take part, get no pose."""
    max_matches: Annotated[int, Within("[5, inf)")] = 150
    """Matches per edge that take part, evenly picked: more do not improve an initial pose, and bundle adjustment uses
    all of them."""
    min_iterations: Count = 10
    """Samples of RANSAC, at least."""
    max_iterations: Count = 300
    """Samples of RANSAC, at most: few are enough, since most matches are right."""


@dataclass(frozen=True, eq=False)
class RelativePoses:
    """Poses of the edges that have one under the given intrinsics."""

    edge: Index
    """(e,) edges of the view graph."""
    b_from_a: Array
    """(e, 3, 4), baselines of unit length."""
    weight: Array
    """(e,) estimated number of inliers among all matches."""


def estimate_relative_poses(
    graph: ViewGraph,
    models: tuple[str, ...],
    intrinsics: Array,
    camera_of_photo: Index,
    *,
    max_error_px: float,
    options: RelativePoseOptions | None = None,
    seed: int = 0,
) -> RelativePoses:
    """Estimate calibrated relative poses; `max_error_px` bounds the epipolar errors of inliers."""
    import poselib

    options = options or RelativePoseOptions()
    # poselib does not look at the size of pinhole-like cameras.
    cameras = [
        {"model": model, "width": 1, "height": 1, "params": list(params_of(model, row))}
        for model, row in zip(models, intrinsics, strict=True)
    ]
    ransac = {
        "max_epipolar_error": max_error_px,
        "min_iterations": options.min_iterations,
        "max_iterations": options.max_iterations,
        "seed": seed,
    }
    edges, poses, weight = [], [], []
    count = graph.match_count
    for edge, (a, b) in enumerate(graph.pairs.tolist()):
        rows = np.arange(graph.match_start[edge], graph.match_stop[edge])
        if len(rows) > options.max_matches:
            rows = rows[:: -(-len(rows) // options.max_matches)]
        if len(rows) < options.min_inliers:
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
        if good.sum() < options.min_inliers or not np.isfinite(pose.t).all():
            continue
        weight.append(good.mean() * count[edge])
        baseline = np.asarray(pose.t) / max(float(np.linalg.norm(pose.t)), 1e-12)
        edges.append(edge)
        poses.append(np.concatenate([pose.R, baseline[:, None]], axis=1))
    return RelativePoses(np.array(edges, np.int64), np.array(poses).reshape(-1, 3, 4), np.array(weight))
