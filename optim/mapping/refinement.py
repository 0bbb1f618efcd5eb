"""From a draft to the final reconstruction: all matches, all tracks, and an adjustment of everything.

What decides accuracy at this end: tracks as long as the poses allow, a loss that hardly listens to outliers, and
intrinsics that are free but not freer than the photos can tell (see bundle.Prior).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..bundle.adjust import adjust_bundle
from ..bundle.covariance import Covariance, covariance
from ..bundle.intrinsics import prior_after
from ..bundle.losses import CAUCHY, Loss
from ..bundle.pose_priors import DepthPriors, PosePriors
from ..bundle.problem import Bundle, BundleOptions, BundleSummary, IntrinsicsPrior, errors_px
from ..rotations import skew
from ..view_graph import Keypoints, ViewGraph
from .absolute_pose import register_photos
from .tracks import Tracks, establish_tracks, spread_subset
from .triangulation import join_points, keep_observations, rays_of, triangulate, without_weak_photos

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Bools = NDArray[np.bool_]

MATCH_CHUNK = 1 << 16
"""Matches looked at together; bounds memory."""

MOST_FOR_COVARIANCE = 100
"""Photos up to which covariances cost little beside the adjustment: their cost grows with the cube."""


@dataclass(frozen=True)
class RefineOptions:
    """All lengths in units of the expected noise of a key point."""

    max_error: float = 4.0
    """Observations further from their point are none."""
    loss: Loss = CAUCHY
    """Robust loss of the reprojection errors."""
    loss_scale: float = 0.8
    """Scale of the loss."""
    min_angle_deg: float = 1.5
    """Points seen under smaller angles are not kept: their depth is noise."""
    subset_tracks: int = 200
    """Tracks per photo for the first adjustment, which does most of the way."""
    dependable_points: int = 40
    """Photos that see so many points together with two others are placed by these alone."""
    rounds: int = 1
    """Adjustments of everything, each with newly made tracks; more have not been seen to help."""
    min_observations: int = 12
    """Photos with fewer are let go."""


class Solver(Protocol):
    """A way to the minimum, as optim.bundle.adjust.adjust."""

    def __call__(
        self,
        bundle: Bundle,
        options: BundleOptions,
        prior: IntrinsicsPrior | None,
        sigma: Array | None,
        pose_priors: PosePriors | None,
        depth_priors: DepthPriors | None,
    ) -> tuple[Bundle, BundleSummary]: ...


@dataclass(frozen=True, eq=False)
class RefinementResult:
    bundle: Bundle
    summaries: tuple[BundleSummary, ...]
    consistency: PairConsistency
    """Of all matches with the final poses."""
    off_track: int
    """Key points whose tracks see a photo twice."""
    off_point: int
    """Key points of tracks that lie too far from the point, or show it under too small an angle."""
    covariance: Covariance | None
    """Of poses and cameras; None for very many photos, or where something is not determined."""


@dataclass(frozen=True, eq=False)
class PairConsistency:
    """By pair: how many matches agree with the poses, and the RMS distance of these from their epipolar lines, which
    is not a number where there are none."""

    inliers: Index
    error_px: Array


def refine(
    graph: ViewGraph,
    start: Bundle,
    prior: IntrinsicsPrior,
    candidates: Index,
    options: RefineOptions,
    *,
    unit_px: float,
    seed: int = 0,
    solver: Solver = adjust_bundle,
    anchors: PosePriors | None = None,
    depths: DepthPriors | None = None,
) -> RefinementResult:
    """The final bundle. `start` gives cameras and poses, in the frame of the anchors if there are any; `candidates` are
    photos that may join by resection; `depths` are those of all key points, in the units of the start."""
    bundle = start
    posed = np.isfinite(start.cam_from_world[:, 0, 0])
    photos_per_camera = np.bincount(start.camera_of_photo[posed], minlength=len(start.models))
    prior = prior_after(prior, start.intrinsics, photos_per_camera)
    summaries = []
    for turn in range(1 + options.rounds):
        first = turn == 0
        bundle = _retrack(graph, bundle, options, unit_px, options.subset_tracks if first else None)
        bundle = keep_observations(bundle, dependable(bundle, options.dependable_points))
        if len(bundle.points) < 6:
            bundle = without_weak_photos(bundle, options.min_observations)
            break
        bundle, summary = solver(
            bundle,
            BundleOptions(
                principal=True,
                distortion=True,
                loss=options.loss,
                loss_px=options.loss_scale * unit_px,
                max_iterations=40 if first else 8,
                tolerance=1e-4 if first else 1e-5,
            ),
            prior,
            None if graph.keypoints.sigma is None else graph.keypoints.sigma[bundle.row],
            anchors,
            None if depths is None else depths.of(bundle.row),
        )
        summaries.append(summary)
        bundle = keep_observations(bundle, errors_px(bundle) < options.max_error * unit_px)
        if first and len(candidates):
            bundle = register_photos(graph, bundle, candidates, max_error_px=options.max_error * unit_px, seed=seed)
        else:
            bundle = without_weak_photos(bundle, options.min_observations)
    found = _covariance(bundle, prior, graph.keypoints.sigma, options, unit_px, anchors, depths)
    error = epipolar_errors_px(graph, bundle)
    bound_px = options.max_error * unit_px
    row_a, row_b = (row[error < bound_px] for row in graph.matches())
    tracks = establish_tracks(graph.keypoints, row_a, row_b)
    others = _triangulated(graph.keypoints, tracks, bundle, options, unit_px)
    others = keep_observations(others, ~_among(len(graph.keypoints.xy), bundle.row)[others.row])
    bundle = join_points(bundle, others)
    return RefinementResult(
        bundle,
        tuple(summaries),
        pair_consistency(graph, error, bound_px),
        off_track=int(np.count_nonzero(_among(len(graph.keypoints.xy), row_a, row_b))) - len(tracks.row),
        off_point=int(np.count_nonzero(~_among(len(graph.keypoints.xy), bundle.row)[tracks.row])),
        covariance=found,
    )


def _among(key_points: int, *rows: Index) -> Bools:
    """(key points,) which of them are named."""
    out = np.zeros(key_points, bool)
    for row in rows:
        out[row] = True
    return out


def pair_consistency(graph: ViewGraph, error_px: Array, bound_px: float) -> PairConsistency:
    """From the errors (m,) of all matches."""
    good = error_px < bound_px
    edge = graph.edge_of_match()[good]
    inliers = np.bincount(edge, minlength=len(graph))
    squares = np.bincount(edge, error_px[good] ** 2, minlength=len(graph))
    return PairConsistency(inliers, np.sqrt(squares / np.where(inliers > 0, inliers, np.nan)))


def _covariance(
    bundle: Bundle,
    prior: IntrinsicsPrior,
    sigma: Array | None,
    options: RefineOptions,
    unit_px: float,
    anchors: PosePriors | None,
    depths: DepthPriors | None,
) -> Covariance | None:
    if len(bundle.points) < 6 or np.isfinite(bundle.cam_from_world[:, 0, 0]).sum() > MOST_FOR_COVARIANCE:
        return None
    loss_px = options.loss_scale * unit_px
    free = BundleOptions(principal=True, distortion=True, loss=options.loss, loss_px=loss_px)
    try:
        own = None if sigma is None else sigma[bundle.row]
        return covariance(bundle, free, prior, own, anchors, None if depths is None else depths.of(bundle.row))
    except np.linalg.LinAlgError:  # something is not determined at all
        return None


def dependable(bundle: Bundle, enough: int) -> Bools:
    """(m,) observations that may decide about cameras: those of points seen by three photos or more.

    A wrong match between two photos goes unnoticed if it lies along the epipolar line, and pulls; a third photo gives
    it away. Photos that see fewer than `enough` such points need their other points as well.
    """
    long = np.bincount(bundle.point, minlength=len(bundle.points)) >= 3
    count = np.bincount(bundle.photo[long[bundle.point]], minlength=len(bundle.cam_from_world))
    needed = long.copy()
    needed[bundle.point[(count < enough)[bundle.photo]]] = True
    return needed[bundle.point]


def _retrack(
    graph: ViewGraph,
    bundle: Bundle,
    options: RefineOptions,
    unit_px: float,
    per_photo: int | None,
) -> Bundle:
    """Tracks from the matches that the current poses allow, triangulated."""
    allowed = epipolar_errors_px(graph, bundle) < options.max_error * unit_px
    tracks = establish_tracks(graph.keypoints, *(row[allowed] for row in graph.matches()))
    if per_photo is not None:
        tracks = spread_subset(tracks, graph.photo_count, per_photo)
    return _triangulated(graph.keypoints, tracks, bundle, options, unit_px)


def _triangulated(
    keypoints: Keypoints, tracks: Tracks, bundle: Bundle, options: RefineOptions, unit_px: float
) -> Bundle:
    return triangulate(
        keypoints,
        tracks,
        bundle.models,
        bundle.intrinsics,
        bundle.camera_of_photo,
        bundle.cam_from_world,
        max_error_px=options.max_error * unit_px,
        min_angle_deg=options.min_angle_deg,
    )


def epipolar_errors_px(graph: ViewGraph, bundle: Bundle) -> Array:
    """(m,) distance of each match from the epipolar geometry of the current poses; infinite without poses."""
    row_a, row_b = graph.matches()
    rays = np.full((len(graph.keypoints.xy), 3), np.nan)
    used = np.flatnonzero(_among(len(graph.keypoints.xy), row_a, row_b))  # a key point is in many matches
    rays[used] = rays_of(
        graph.keypoints, used, graph.keypoints.photo_of(used), bundle.models, bundle.intrinsics, bundle.camera_of_photo
    )
    pose_a, pose_b = bundle.cam_from_world[graph.pairs[:, 0]], bundle.cam_from_world[graph.pairs[:, 1]]
    rotation = pose_b[:, :, :3] @ pose_a[:, :, :3].transpose(0, 2, 1)
    baseline = pose_b[:, :, 3] - np.einsum("eij,ej->ei", rotation, pose_a[:, :, 3])
    essential = skew(baseline) @ rotation
    focal = bundle.intrinsics[bundle.camera_of_photo[graph.pairs[:, 0]], 0]
    edge = graph.edge_of_match()
    out = np.empty(len(edge))
    for begin in range(0, len(edge), MATCH_CHUNK):
        part = slice(begin, begin + MATCH_CHUNK)
        of, ray_a, ray_b = edge[part], rays[row_a[part]], rays[row_b[part]]
        line_b = np.einsum("mij,mj->mi", essential[of], ray_a)
        line_a = np.einsum("mji,mj->mi", essential[of], ray_b)
        value = np.einsum("mi,mi->m", ray_b, line_b)
        # First-order distance on the unit sphere, carried to pixels by the focal length.
        slope2 = np.einsum("mi,mi->m", line_a, line_a) + np.einsum("mi,mi->m", line_b, line_b) - 2.0 * value**2
        error = np.abs(value) / np.sqrt(np.maximum(slope2, 1e-24)) * focal[of]
        out[part] = np.where(np.isfinite(error), error, np.inf)
    return out
