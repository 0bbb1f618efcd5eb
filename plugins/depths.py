"""Matches with depths, from the artifacts of pairs: those that the matcher predicts, or else triangulated ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unposed.optim.bundle.intrinsics import Intrinsics
from unposed.optim.cameras import unproject
from unposed.optim.mapping.relative_poses import estimate_relative_poses
from unposed.optim.pointmaps.pair_maps import LATTICE, PairMaps, on_lattice, two_view_depths
from unposed.pipeline.artifacts import DepthGrid, Floats, PairMatches, TwoViewGeometry
from unposed.pipeline.stage import PerPair

from .evidence import Evidence

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def predicted_maps(
    evidence: Evidence, matching: PerPair[PairMatches], verification: PerPair[TwoViewGeometry], per_pair: int
) -> PairMaps:
    """Some matches, evenly picked, of every pair whose matcher predicts depths."""
    views, matches = evidence.views, evidence.matches
    found = []
    for edge, (a, b) in enumerate(matches.pairs.tolist()):
        pair = matching[a, b]
        if pair.depth_a is None or pair.depth_b is None:
            continue
        some = _some(int(matches.count()[edge]), per_pair)
        rows = matches.start[edge] + some
        inlier = np.flatnonzero(verification[a, b].inliers)[some]
        xy = np.stack([views.xy[matches.row_a[rows]], views.xy[matches.row_b[rows]]])
        depth = np.stack([pair.depth_a[inlier], pair.depth_b[inlier]]).astype(np.float64)
        sizes = views.size[[a, b]].astype(np.float64)
        if pair.grids is None:
            lattice = [on_lattice(xy[i], depth[i], np.ones(len(some)), sizes[i]) for i in (0, 1)]
            focal = [np.nan, np.nan]
        else:
            lattice = [_lattice(grid, size) for grid, size in zip(pair.grids, sizes, strict=True)]
            focal = [grid.focal_px for grid in pair.grids]
        found.append(((a, b), xy, depth, pair.weight[inlier], np.stack(lattice), focal, pair.grids is not None))
    if not found:
        return _maps(np.zeros((0, 2), np.int64), [], [], [], np.zeros((0, 2, LATTICE**2)), np.zeros((0, 2)), [])
    pairs, xys, depths, weights, lattices, focals, dense = zip(*found, strict=True)
    return _maps(np.array(pairs), xys, depths, weights, np.stack(lattices), np.array(focals), dense)


def triangulated_maps(evidence: Evidence, belief: Intrinsics, per_pair: int, seed: int) -> PairMaps:
    """The same of matches without depths, from the relative pose of each pair under the believed focal lengths.

    Pairs whose rays hardly meet, as those of a camera that turns on the spot, have none.
    """
    views, matches = evidence.views, evidence.matches
    relative = estimate_relative_poses(
        views, matches, belief.models, belief.values, belief.camera_of_photo, max_error_px=evidence.unit_px, seed=seed
    )
    pairs = matches.pairs[relative.edge]
    xys, depths, weights, lattices = [], [], [], []
    for edge, (a, b), pose in zip(relative.edge, pairs.tolist(), relative.b_from_a, strict=True):
        rows = matches.start[edge] + _some(int(matches.count()[edge]), per_pair)
        xy = np.stack([views.xy[matches.row_a[rows]], views.xy[matches.row_b[rows]]])
        plane_a, plane_b = (
            unproject(xy[i], belief.values[belief.camera_of_photo[photo]]) for i, photo in enumerate((a, b))
        )
        depth = np.stack(two_view_depths(plane_a, plane_b, np.broadcast_to(pose, (len(rows), 3, 4))))
        xys.append(xy)
        depths.append(depth)
        weights.append(np.ones(len(rows)))
        lattices.append([on_lattice(xy[i], depth[i], np.ones(len(rows)), views.size[(a, b)[i]]) for i in (0, 1)])
    lattice = np.array(lattices).reshape(-1, 2, LATTICE**2)
    return _maps(pairs, xys, depths, weights, lattice, np.full((len(pairs), 2), np.nan), [False] * len(pairs))


def _some(count: int, most: int) -> Index:
    """At most so many rows of `count`, evenly over all: matches lie in the order of the picture."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))


def _lattice(grid: DepthGrid, size: Array) -> Array:
    row, column = np.indices(grid.depth.shape).reshape(2, -1)
    xy = np.array(grid.origin_px) + np.array(grid.step_px) * np.column_stack([column, row])
    return on_lattice(xy, grid.depth.ravel().astype(np.float64), grid.confidence.ravel().astype(np.float64), size)


def _maps(
    pairs: Index,
    xys: Sequence[Array],
    depths: Sequence[Array],
    weights: Sequence[Floats],
    lattice: Array,
    focal_px: Array,
    dense: Sequence[bool],
) -> PairMaps:
    """Padded to the largest number of matches."""
    e, k = len(pairs), max(map(len, weights), default=1)
    xy, depth, weight = np.zeros((e, 2, k, 2)), np.full((e, 2, k), np.nan), np.zeros((e, k))
    for edge, own in enumerate(weights):
        xy[edge, :, : len(own)], depth[edge, :, : len(own)], weight[edge, : len(own)] = xys[edge], depths[edge], own
    return PairMaps(pairs.astype(np.int64), xy, depth, weight, lattice, focal_px, np.array(dense, bool))
