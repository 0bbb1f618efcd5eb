"""A whole reconstruction in a fraction of a second, from one belief about the intrinsics.

Relative poses -> averaged rotations -> edges that disagree leave -> positions -> two short adjustments, all on a
subset of the tracks. Its robust cost is what tells a right focal length or camera grouping from a wrong one: inlier
counts of pairs do not see the difference, and an adjustment started from a wrong one does not find the way out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..bundle.adjust import adjust_bundle
from ..bundle.intrinsics import Intrinsics
from ..bundle.problem import Bundle, BundleOptions, camera_points, errors_px
from ..rotations import rotation_residuals_deg
from ..view_graph import Keypoints, ViewGraph, largest_component
from .global_positioning import solve_global_positions
from .relative_poses import estimate_relative_poses
from .rotation_averaging import average_rotations
from .tracks import Tracks, establish_tracks, spread_subset
from .triangulation import keep_observations, rays_of, track_errors_px, without_weak_photos

Array = NDArray[np.float64]
Index = NDArray[np.int64]

FALSE_PAIR_DEG = 30.0
"""Pairs whose rotation is so far from the averaged ones show two different things that look alike: a wrong focal
length alone does not turn a photo that far. Those in between may be right about a photo that the average got wrong."""

POINTS_FOR_A_POSE = 3
"""Fewer leave it undetermined, and a photo that sees nothing is not placed."""


@dataclass(frozen=True, eq=False)
class CoarseModel:
    bundle: Bundle
    edges: Index
    """Rows of the Matches whose relative rotation agrees with the result."""
    edge_residual_deg: Array
    """(all pairs,) disagreement with the averaged rotations; NaN where there was nothing to compare."""
    cost: float
    """Mean of e^2 / (1 + e^2), e in units of the expected noise, over all observations that were offered: those of
    photos or points that did not make it count as 1."""

    @property
    def posed(self) -> NDArray[np.bool_]:
        return np.isfinite(self.bundle.cam_from_world[:, 0, 0])

    @property
    def focals(self) -> Array:
        return self.bundle.intrinsics[:, 0]


def map_component(
    graph: ViewGraph,
    tracks: Tracks | None,
    intrinsics: Intrinsics,
    *,
    unit_px: float,
    max_edge_deg: float = 5.0,
    tracks_per_photo: int = 150,
    seed: int = 0,
) -> CoarseModel | None:
    """The reconstruction of the largest consistent component, or None where there is none.

    Costs of drafts compare if they were offered the same `tracks`. Without any they are made, `tracks_per_photo`, from
    the pairs that are not quite off: a wall that looks like another one cannot spoil the tracks of both.
    """
    models, rows, camera_of_photo = intrinsics.models, intrinsics.values, intrinsics.camera_of_photo
    relative = estimate_relative_poses(graph, models, rows, camera_of_photo, max_error_px=2.0 * unit_px, seed=seed)
    pairs = graph.pairs[relative.edge]
    if len(pairs) == 0:
        return None
    member = largest_component(graph.photo_count, pairs, relative.weight)
    inside = member[pairs[:, 0]]
    rotations = average_rotations(
        graph.photo_count, pairs[inside], relative.b_from_a[inside, :, :3], relative.weight[inside], seed
    )
    residual = rotation_residuals_deg(pairs, relative.b_from_a[:, :, :3], rotations)
    agrees = residual <= max_edge_deg
    if not agrees.any():
        return None
    member = largest_component(graph.photo_count, pairs[agrees], relative.weight[agrees])
    agrees &= member[pairs[:, 0]] & member[pairs[:, 1]]
    edge_residual = np.full(len(graph), np.nan)
    edge_residual[relative.edge] = residual

    if tracks is None:
        trusted = graph.select(edge_residual <= FALSE_PAIR_DEG)
        tracks = spread_subset(
            establish_tracks(graph.keypoints, *trusted.matches()), graph.photo_count, tracks_per_photo
        )
    offered = len(tracks.row)
    tracks = tracks.select(member[tracks.photo])
    if tracks.count < 6:
        return None
    placed = _place(graph.keypoints, tracks, intrinsics, np.where(member[:, None, None], rotations, np.nan), seed)
    if placed is None:
        return None
    bundle = without_weak_photos(_polish(placed, unit_px, intrinsics), POINTS_FOR_A_POSE)
    if np.isfinite(bundle.cam_from_world[:, 0, 0]).sum() < 2:
        return None
    noise = unit_px if graph.keypoints.sigma is None else unit_px * graph.keypoints.sigma[tracks.row]
    error = np.minimum(track_errors_px(graph.keypoints, tracks, bundle, bound_px=6.0 * unit_px) / noise, 1e6) ** 2
    cost = (float((error / (1.0 + error)).sum()) + offered - len(error)) / offered
    return CoarseModel(bundle, relative.edge[agrees], edge_residual, cost)


def _place(keypoints: Keypoints, tracks: Tracks, intrinsics: Intrinsics, rotations: Array, seed: int) -> Bundle | None:
    rays = rays_of(
        keypoints, tracks.row, tracks.photo, intrinsics.models, intrinsics.values, intrinsics.camera_of_photo
    )
    seen = np.isfinite(rays).all(axis=1)
    if not seen.all():
        length = np.bincount(tracks.track[seen], minlength=tracks.count)
        seen &= length[tracks.track] >= 2
        tracks, rays = tracks.select(seen), rays[seen]
    world_rays = np.einsum("mji,mj->mi", rotations[tracks.photo], rays)
    used, photo = np.unique(tracks.photo, return_inverse=True)
    if len(used) < 2:
        return None
    found = solve_global_positions(world_rays, photo, tracks.track, len(used), tracks.count, seed=seed)
    poses = np.full((len(keypoints), 3, 4), np.nan)
    poses[used, :, :3] = rotations[used]
    poses[used, :, 3] = -np.einsum("cij,cj->ci", rotations[used], found.centres)
    return Bundle(
        intrinsics.models,
        intrinsics.values,
        intrinsics.camera_of_photo,
        poses,
        found.points,
        keypoints.xy[tracks.row],
        tracks.photo,
        tracks.track,
        tracks.row,
    )


def _polish(bundle: Bundle, unit_px: float, belief: Intrinsics) -> Bundle:
    """Short adjustments with the gross errors taken out between them; distortion joins last."""
    crops = belief.crops
    front = camera_points(bundle)[:, 2] > 0
    bundle = keep_observations(bundle, front)
    for bound_px, options in (
        (40.0, BundleOptions(rotations=False, focal=False, loss_px=4.0 * unit_px, max_iterations=8, tolerance=1e-2)),
        (12.0, BundleOptions(principal=crops, loss_px=2.0 * unit_px, max_iterations=15, tolerance=1e-3)),
        (6.0, BundleOptions(principal=crops, distortion=True, loss_px=unit_px, max_iterations=20, tolerance=1e-3)),
    ):
        if len(bundle.points) < 6:
            break
        bundle, _ = adjust_bundle(bundle, options, belief.prior)
        bundle = keep_observations(bundle, errors_px(bundle) < bound_px * unit_px)
    return bundle
