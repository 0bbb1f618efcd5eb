"""Refinement of an initial model: rounds of retriangulation, bundle adjustment, filtering and registration.

What decides accuracy here: tracks as long as the poses allow, a loss that outliers hardly influence, and intrinsics
that are free within their priors (see IntrinsicsPrior).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from ..arrays import Array, Index, Mask
from ..bundle.adjust import adjust_bundle
from ..bundle.covariance import Covariance, covariance
from ..bundle.intrinsics import prior_after
from ..bundle.losses import CAUCHY, Loss
from ..bundle.pose_priors import DepthPriors, PosePriors
from ..bundle.problem import Bundle, BundleOptions, BundleSummary, IntrinsicsPrior, errors_px
from ..view_graph import Keypoints, ViewGraph
from .absolute_pose import AbsolutePoseOptions, register_photos
from .epipolar import epipolar_errors_px
from .tracks import Tracks, establish_tracks, spread_subset
from .triangulation import join_points, keep_observations, one_point_per_place, triangulate, without_weak_photos


@dataclass(frozen=True)
class RefineOptions:
    """Thresholds of refinement; lengths in units of the expected key point error."""

    max_error: float = 4.0
    """Observations with larger reprojection errors are removed, matches with larger epipolar errors not used."""
    loss: Loss = CAUCHY
    """Robust loss of the reprojection errors."""
    loss_scale: float = 0.8
    """Scale of the loss."""
    min_angle_deg: float = 1.5
    """Points seen under smaller triangulation angles are removed: their depth is noise."""
    subset_tracks: int = 200
    """Tracks per photo in the first bundle adjustment, which does most of the way."""
    dependable_points: int = 40
    """A photo that sees so many points which two others see as well is adjusted by these alone."""
    rounds: int = 1
    """Bundle adjustments of all tracks, each after retriangulation; more than one have not been seen to help."""
    min_observations: int = 12
    """Photos with fewer are not registered."""
    rough_start: bool = False
    """Whether poses of the start, such as a network's, may be off by more than the largest error: photos that lose
    their observations by that in the first adjustment are registered anew."""
    min_points: int = 6
    """Fewer points are not adjusted: they do not determine a model."""
    max_iterations: tuple[int, int] = (40, 8)
    """Steps of bundle adjustment, at most: of the subset of the tracks, and of all tracks."""
    tolerance: tuple[float, float] = (1e-4, 1e-5)
    """Relative decrease of the cost in one step at which these end."""
    max_covariance_photos: int = 100
    """Photos up to which covariances are computed: their cost grows with the cube of the number."""
    max_track_length: int = BundleOptions.max_track_length
    """Points that more photos see are taken for several while cameras are adjusted."""
    absolute_pose: AbsolutePoseOptions = field(default_factory=AbsolutePoseOptions)
    """Registration of further photos after the first bundle adjustment."""

    def adjustment(self, keypoint_error_px: float, max_iterations: int, tolerance: float) -> BundleOptions:
        """A bundle adjustment of everything that is not given."""
        return BundleOptions(
            principal=True,
            distortion=True,
            loss=self.loss,
            loss_px=self.loss_scale * keypoint_error_px,
            max_track_length=self.max_track_length,
            max_iterations=max_iterations,
            tolerance=tolerance,
        )


class Solver(Protocol):
    """A bundle adjustment, as optim.bundle.adjust.adjust_bundle."""

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
    """The refined model, and what its report needs."""

    bundle: Bundle
    summaries: tuple[BundleSummary, ...]
    consistency: PairConsistency
    """Of all matches with the refined poses."""
    off_track: int
    """Number of key points whose tracks see a photo twice."""
    off_point: int
    """Number of key points in tracks that are too far from the point, or see it under too small an angle."""
    covariance: Covariance | None
    """Of poses and intrinsics; None for many photos, or where the model is not determined."""
    tension: float | None = None
    """Of photos that were held with new ones beside them, see `held_photos`; None: all were adjusted."""


@dataclass(frozen=True, eq=False)
class PairConsistency:
    """Number of inliers of each edge under the poses, and the RMS of their epipolar errors, NaN without inliers."""

    inliers: Index
    error_px: Array


def refine(
    graph: ViewGraph,
    start: Bundle,
    prior: IntrinsicsPrior,
    candidates: Index,
    options: RefineOptions,
    *,
    keypoint_error_px: float,
    seed: int = 0,
    solver: Solver = adjust_bundle,
    anchors: PosePriors | None = None,
    depths: DepthPriors | None = None,
) -> RefinementResult:
    """Refine the intrinsics and poses of `start`, which is in the frame of the anchors if there are any.

    `candidates` are further photos to register by absolute pose estimation; `depths` are priors of all key points, in
    the units of `start`.
    """
    bundle = start
    prior = prior_of_refinement(start, prior)
    summaries = []
    for turn in range(1 + options.rounds):
        first = turn == 0
        bundle = retriangulated(graph, bundle, options, keypoint_error_px, options.subset_tracks if first else None)
        bundle = keep_observations(bundle, dependable(bundle, options.dependable_points))
        if len(bundle.points) < options.min_points:
            bundle = without_weak_photos(bundle, options.min_observations)
            break
        bundle, summary = solver(
            bundle,
            options.adjustment(
                keypoint_error_px, options.max_iterations[0 if first else 1], options.tolerance[0 if first else 1]
            ),
            prior,
            observation_sigma(graph, bundle),
            anchors,
            None if depths is None else depths.of(bundle.row),
        )
        summaries.append(summary)
        bundle = keep_observations(bundle, errors_px(bundle) < options.max_error * keypoint_error_px)
        if first and options.rough_start:
            bundle = without_weak_photos(bundle, options.min_observations)
            lost = np.isfinite(start.cam_from_world[:, 0, 0]) & ~np.isfinite(bundle.cam_from_world[:, 0, 0])
            candidates = np.union1d(candidates, np.flatnonzero(lost))
        if first and len(candidates):
            bundle = register_photos(
                graph,
                bundle,
                candidates,
                max_error_px=options.max_error * keypoint_error_px,
                options=options.absolute_pose,
                seed=seed,
            )
        else:
            bundle = without_weak_photos(bundle, options.min_observations)
    determined = len(bundle.points) >= options.min_points
    few = np.isfinite(bundle.cam_from_world[:, 0, 0]).sum() <= options.max_covariance_photos
    found = None
    if determined and few:
        found = refined_covariance(bundle, prior, graph.keypoints.sigma, options, keypoint_error_px, anchors, depths)
    done = completed(graph, bundle, options, keypoint_error_px)
    return replace(done, summaries=tuple(summaries), covariance=found)


def observation_sigma(graph: ViewGraph, bundle: Bundle) -> Array | None:
    """(m,) relative standard deviations of the observed key points; None where all have the same."""
    return None if graph.keypoints.sigma is None else graph.keypoints.sigma[bundle.row]


def prior_of_refinement(start: Bundle, prior: IntrinsicsPrior) -> IntrinsicsPrior:
    """The prior under which a model is refined that starts from these cameras."""
    posed = np.isfinite(start.cam_from_world[:, 0, 0])
    photos_per_camera = np.bincount(start.camera_of_photo[posed], minlength=len(start.models))
    return prior_after(prior, start.intrinsics, photos_per_camera)


def completed(
    graph: ViewGraph,
    bundle: Bundle,
    options: RefineOptions,
    keypoint_error_px: float,
    wanted: Mask | None = None,
) -> RefinementResult:
    """The bundle with the points of all tracks that agree with its cameras, and how far matches do; nothing is
    adjusted. `wanted` (key points,): only tracks are looked at that have one of these which observes no point."""
    error = epipolar_errors_px(graph, bundle)
    bound_px = options.max_error * keypoint_error_px
    row_a, row_b = (row[error < bound_px] for row in graph.matches())
    tracks = establish_tracks(graph.keypoints, row_a, row_b)
    there = _among(len(graph.keypoints.xy), bundle.row)
    open_ended = np.bincount(tracks.track, ~there[tracks.row], minlength=tracks.count) >= 2  # the rest has its point
    if wanted is not None:
        open_ended &= np.bincount(tracks.track, (wanted & ~there)[tracks.row], minlength=tracks.count) > 0
    others = triangulated(graph.keypoints, tracks.select(open_ended[tracks.track]), bundle, options, keypoint_error_px)
    others = keep_observations(others, ~there[others.row])
    bundle = join_points(bundle, others)
    if not graph.dense:  # key points made of dense matches are several at a place on purpose
        bundle = one_point_per_place(bundle)
    return RefinementResult(
        bundle,
        (),
        pair_consistency(graph, error, bound_px),
        off_track=int(np.count_nonzero(_among(len(graph.keypoints.xy), row_a, row_b))) - len(tracks.row),
        off_point=int(np.count_nonzero(~_among(len(graph.keypoints.xy), bundle.row)[tracks.row])),
        covariance=None,
    )


def _among(key_points: int, *rows: Index) -> Mask:
    """(key points,) which are among the rows."""
    out = np.zeros(key_points, bool)
    for row in rows:
        out[row] = True
    return out


def pair_consistency(graph: ViewGraph, error_px: Array, bound_px: float) -> PairConsistency:
    """PairConsistency from the epipolar errors (m,) of all matches."""
    good = error_px < bound_px
    edge = graph.edge_of_match()[good]
    inliers = np.bincount(edge, minlength=len(graph))
    squares = np.bincount(edge, error_px[good] ** 2, minlength=len(graph))
    return PairConsistency(inliers, np.sqrt(squares / np.where(inliers > 0, inliers, np.nan)))


def refined_covariance(
    bundle: Bundle,
    prior: IntrinsicsPrior,
    sigma: Array | None,
    options: RefineOptions,
    keypoint_error_px: float,
    anchors: PosePriors | None,
    depths: DepthPriors | None,
) -> Covariance | None:
    """Covariance of poses and intrinsics that are as free as in refinement; None where they are not determined."""
    loss_px = options.loss_scale * keypoint_error_px
    free = BundleOptions(principal=True, distortion=True, loss=options.loss, loss_px=loss_px)
    try:
        own = None if sigma is None else sigma[bundle.row]
        return covariance(bundle, free, prior, own, anchors, None if depths is None else depths.of(bundle.row))
    except np.linalg.LinAlgError:  # singular: some unknown is not determined
        return None


def dependable(bundle: Bundle, enough: int, moving: Mask | None = None) -> Mask:
    """(m,) observations that bundle adjustment uses: those of points seen by three photos or more.

    A wrong match between two photos that lies along the epipolar line is not detected and biases the poses; a third
    photo reveals it. Photos that see fewer than `enough` such points need their other points as well, if they are among
    the `moving` ones (photos,); None: all are.
    """
    long = np.bincount(bundle.point, minlength=len(bundle.points)) >= 3
    count = np.bincount(bundle.photo[long[bundle.point]], minlength=len(bundle.cam_from_world))
    needed = long.copy()
    few = count < enough if moving is None else (count < enough) & moving
    needed[bundle.point[few[bundle.photo]]] = True
    return needed[bundle.point]


def retriangulated(
    graph: ViewGraph,
    bundle: Bundle,
    options: RefineOptions,
    keypoint_error_px: float,
    per_photo: int | None = None,
) -> Bundle:
    """Establish tracks from the matches that agree with the current poses, and triangulate them, or about `per_photo`
    of each photo."""
    allowed = epipolar_errors_px(graph, bundle) < options.max_error * keypoint_error_px
    tracks = establish_tracks(graph.keypoints, *(row[allowed] for row in graph.matches()))
    if per_photo is not None:
        tracks = spread_subset(tracks, graph.photo_count, per_photo)
    return triangulated(graph.keypoints, tracks, bundle, options, keypoint_error_px)


def triangulated(
    keypoints: Keypoints, tracks: Tracks, bundle: Bundle, options: RefineOptions, keypoint_error_px: float
) -> Bundle:
    """The points of some tracks under the cameras of a bundle."""
    found = triangulate(
        keypoints,
        tracks,
        bundle.models,
        bundle.intrinsics,
        bundle.camera_of_photo,
        bundle.cam_from_world,
        max_error_px=options.max_error * keypoint_error_px,
        min_angle_deg=options.min_angle_deg,
    )
    return replace(found, rigs=bundle.rigs)
