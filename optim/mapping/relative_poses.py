"""Relative pose estimation of all edges of a view graph, intrinsics given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Annotated, Any

import numpy as np

from ..arrays import Array, Index, Mask
from ..cameras import params_of
from ..option_ranges import Count, Within
from ..parallel import even_blocks, parallel_map
from ..view_graph import ViewGraph

EDGES_PER_TASK = 256
"""Edges that a thread takes at a time."""


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

    def select(self, keep: Mask) -> RelativePoses:
        """Those of some edges (e,)."""
        return RelativePoses(self.edge[keep], self.b_from_a[keep], self.weight[keep])


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

    def estimate(block: range) -> list[tuple[int, Array, float]]:
        found = ((edge, *_estimate_pose(graph, edge, cameras, camera_of_photo, ransac, options)) for edge in block)
        return [(edge, pose, weight) for edge, pose, weight in found if pose is not None]

    blocks = parallel_map(estimate, even_blocks(len(graph), EDGES_PER_TASK))
    edges, poses, weights = zip(*chain.from_iterable(blocks), strict=True) if any(blocks) else ((), (), ())
    return RelativePoses(np.array(edges, np.int64), np.array(poses).reshape(-1, 3, 4), np.array(weights, np.float64))


def with_poses(relative: RelativePoses, poses: Mapping[int, Array]) -> RelativePoses:
    """The relative poses with those of some edges replaced; edges without an estimated pose stay without."""
    if not poses:
        return relative
    b_from_a = relative.b_from_a.copy()
    for row, edge in enumerate(relative.edge.tolist()):
        b_from_a[row] = poses.get(edge, b_from_a[row])
    return replace(relative, b_from_a=b_from_a)


def _estimate_pose(
    graph: ViewGraph,
    edge: int,
    cameras: Sequence[Mapping[str, Any]],
    camera_of_photo: Index,
    ransac: Mapping[str, float],
    options: RelativePoseOptions,
) -> tuple[Array | None, float]:
    """The relative pose of an edge (3, 4), None where it has none, and its weight."""
    import poselib

    rows = np.arange(graph.match_start[edge], graph.match_stop[edge])
    count = len(rows)
    if count > options.max_matches:
        rows = rows[:: -(-count // options.max_matches)]
    if count < options.min_inliers:
        return None, 0.0
    a, b = camera_of_photo[graph.pairs[edge]].tolist()
    xy = graph.keypoints.xy
    pose, info = poselib.estimate_relative_pose(
        xy[graph.row_a[rows]], xy[graph.row_b[rows]], cameras[a], cameras[b], ransac, {}
    )
    good = np.asarray(info["inliers"], bool)
    if good.sum() < options.min_inliers or not np.isfinite(pose.t).all():
        return None, 0.0
    baseline = np.asarray(pose.t) / max(float(np.linalg.norm(pose.t)), 1e-12)
    return np.concatenate([pose.R, baseline[:, None]], axis=1), float(good.mean() * count)
