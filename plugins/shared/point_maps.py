"""Point maps of pairs from the view graph: with depths that a matcher predicts, or else triangulated ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unposed.optim.arrays import Array, Index
from unposed.optim.bundle.intrinsics import Intrinsics
from unposed.optim.cameras import unproject
from unposed.optim.mapping.relative_poses import RelativePoseOptions, estimate_relative_poses
from unposed.optim.pointmaps.pair_depths import LATTICE_SIDE, PairDepths, log_depth_lattice
from unposed.optim.pointmaps.pair_triangulation import triangulate_depths
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import DepthGrid, Floats, PairMatches
from unposed.pipeline.stage import PerPair


def predicted_maps(graph: ViewGraph, matching: PerPair[PairMatches] | None, per_pair: int) -> PairDepths:
    """Evenly picked matches of every edge whose matcher predicts depths; `matching` has the depth grids."""
    found = []
    size, depth_a, depth_b = graph.keypoints.size.astype(np.float64), graph.depth_a, graph.depth_b
    for edge, (a, b) in enumerate(graph.pairs.tolist() if depth_a is not None and depth_b is not None else ()):
        own = graph.match_rows(edge)
        assert depth_a is not None and depth_b is not None and graph.weight is not None
        if not np.isfinite(depth_a[own]).any():
            continue
        rows = own.start + _some(own.stop - own.start, per_pair)
        xy = np.stack([graph.keypoints.xy[graph.row_a[rows]], graph.keypoints.xy[graph.row_b[rows]]])
        depth = np.stack([depth_a[rows], depth_b[rows]])
        grids = None if matching is None else matching[a, b].grids
        if grids is None:
            lattice = [log_depth_lattice(xy[i], depth[i], np.ones(len(rows)), size[(a, b)[i]]) for i in (0, 1)]
            focal = [np.nan, np.nan]
        else:
            lattice = [grid_lattice(grid, size[photo]) for grid, photo in zip(grids, (a, b), strict=True)]
            focal = [grid.focal_px for grid in grids]
        found.append(((a, b), xy, depth, graph.weight[rows], np.stack(lattice), focal, grids is not None))
    if not found:
        return _maps(np.zeros((0, 2), np.int64), [], [], [], np.zeros((0, 2, LATTICE_SIDE**2)), np.zeros((0, 2)), [])
    pairs, xys, depths, weights, lattices, focals, dense = zip(*found, strict=True)
    return _maps(np.array(pairs), xys, depths, weights, np.stack(lattices), np.array(focals), dense)


def triangulated_maps(
    graph: ViewGraph,
    intrinsics: Intrinsics,
    per_pair: int,
    *,
    max_error_px: float,
    min_angle_deg: float,
    options: RelativePoseOptions,
    seed: int,
) -> PairDepths:
    """Evenly picked matches of every edge, with depths triangulated from its relative pose under these intrinsics.

    Edges with nearly parallel rays, as of a camera that turns on the spot, have no depths.
    """
    keypoints = graph.keypoints
    relative = estimate_relative_poses(
        graph,
        intrinsics.models,
        intrinsics.values,
        intrinsics.camera_of_photo,
        max_error_px=max_error_px,
        options=options,
        seed=seed,
    )
    pairs = graph.pairs[relative.edge]
    xys, depths, weights, lattices = [], [], [], []
    for edge, (a, b), pose in zip(relative.edge.tolist(), pairs.tolist(), relative.b_from_a, strict=True):
        own = graph.match_rows(edge)
        rows = own.start + _some(own.stop - own.start, per_pair)
        xy = np.stack([keypoints.xy[graph.row_a[rows]], keypoints.xy[graph.row_b[rows]]])
        plane_a, plane_b = (
            unproject(xy[i], intrinsics.values[intrinsics.camera_of_photo[photo]]) for i, photo in enumerate((a, b))
        )
        poses = np.broadcast_to(pose, (len(rows), 3, 4))
        depth = np.stack(triangulate_depths(plane_a, plane_b, poses, min_angle_deg))
        xys.append(xy)
        depths.append(depth)
        weights.append(np.ones(len(rows)))
        lattices.append(
            [log_depth_lattice(xy[i], depth[i], np.ones(len(rows)), keypoints.size[(a, b)[i]]) for i in (0, 1)]
        )
    lattice = np.array(lattices).reshape(-1, 2, LATTICE_SIDE**2)
    return _maps(pairs, xys, depths, weights, lattice, np.full((len(pairs), 2), np.nan), [False] * len(pairs))


def _some(count: int, most: int) -> Index:
    """At most `most` of `count` rows, evenly spaced: matches are ordered by position in the image."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))


def grid_lattice(grid: DepthGrid, size: Array) -> Array:
    """(LATTICE_SIDE^2,) mean log depth in each cell of a photo of this size; NaN for cells without a depth."""
    row, column = np.indices(grid.depth.shape).reshape(2, -1)
    xy = np.array(grid.origin_px) + np.array(grid.step_px) * np.column_stack([column, row])
    return log_depth_lattice(
        xy, grid.depth.ravel().astype(np.float64), grid.confidence.ravel().astype(np.float64), size
    )


def _maps(
    pairs: Index,
    xys: Sequence[Array],
    depths: Sequence[Array],
    weights: Sequence[Floats],
    lattice: Array,
    focal_px: Array,
    dense: Sequence[bool],
) -> PairDepths:
    """PairDepths padded to the largest number of matches."""
    e, k = len(pairs), max(map(len, weights), default=1)
    xy, depth, weight = np.zeros((e, 2, k, 2)), np.full((e, 2, k), np.nan), np.zeros((e, k))
    for edge, own in enumerate(weights):
        xy[edge, :, : len(own)], depth[edge, :, : len(own)], weight[edge, : len(own)] = xys[edge], depths[edge], own
    return PairDepths(pairs.astype(np.int64), xy, depth, weight, lattice, focal_px, np.array(dense, bool))
