"""New photos of a finished model, adjusted with the points that they see beside old photos that are held."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from unposed.optim.arrays import Array, Index, Mask
from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.bundle.problem import Bundle, BundleOptions, BundleSummary, IntrinsicsPrior, errors_px
from unposed.optim.localization.pose_refinement import refine_absolute_pose
from unposed.optim.mapping.epipolar import epipolar_errors_px
from unposed.optim.mapping.held_photos import (
    SeenPoints,
    held_observations,
    observations,
    seen_points,
    sorted_by_point,
)
from unposed.optim.mapping.refinement import RefineOptions, dependable, prior_of_refinement, triangulated
from unposed.optim.mapping.tracks import establish_tracks
from unposed.optim.mapping.triangulation import join_points, keep_observations, without_weak_photos
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import Photos

from .exact_points import sigma_of
from .known_keypoints import KnownObservations
from .model_start import ModelStart

HELD_SIGMA = 1e-9
"""Standard deviation of intrinsics that do not move: pixels, or without a unit."""

MIN_POINTS_OF_POSE = 6
"""Points that determine a pose in any position; with fewer it waits for the adjustment of everything."""


@dataclass(frozen=True, eq=False)
class WarmInput:
    """What a model and its new photos are adjusted from."""

    photos: Photos
    graph: ViewGraph
    """Key points as they were found."""
    aligned: ViewGraph
    """Those of old photos where the old model has them."""
    start: ModelStart
    known: KnownObservations
    late: Mask
    """(photos,) of which the old model observes no key point."""
    candidates: Index
    """Photos that no model has a pose of."""


def warm_input(
    photos: Photos, graph: ViewGraph, start: ModelStart, known: KnownObservations, candidates: Index
) -> WarmInput:
    """The input of one model; key points are taken from where the old models have them."""
    xy, late = graph.keypoints.xy.copy(), np.ones(len(photos), bool)
    xy[known.row] = known.xy
    late[graph.keypoints.photo_of(known.row)] = False
    aligned = replace(graph, keypoints=replace(graph.keypoints, xy=xy))
    return WarmInput(photos, graph, aligned, start, known, late, candidates)


def old_model(warm: WarmInput, options: RefineOptions) -> Bundle:
    """The old model with its points, under the cameras of the start."""
    old = warm.known.observed(warm.start.bundle, warm.graph.keypoints.photo_of(warm.known.row))
    return keep_observations(old, errors_px(old) < options.max_error * warm.graph.keypoint_error_px)


def joined_beside_held(warm: WarmInput, old: Bundle, options: RefineOptions, free: BundleOptions) -> Bundle:
    """The points that late photos see, those of the `old` model and new ones, with all their observations.

    Twice: poses as they were localized are off by some pixels, so that they are refined on what is within twice the
    bound before it counts.
    """
    bound_px, keypoints = options.max_error * warm.graph.keypoint_error_px, warm.aligned.keypoints
    of_late = warm.aligned.select(np.asarray(warm.late[warm.graph.pairs].any(axis=1)))
    seen, _, _ = _seen(of_late, warm, old, 2.0 * bound_px)
    joint = _with_seen(old, seen, warm, 2.0 * bound_px)
    joint = with_refined_poses(joint, np.flatnonzero(warm.late), sigma_of(warm.graph, joint), free.loss_px)
    old = replace(old, cam_from_world=joint.cam_from_world)
    seen, row_a, row_b = _seen(of_late, warm, old, bound_px)
    joint = _with_seen(old, seen, warm, bound_px)
    taken = np.zeros(len(keypoints.xy), bool)
    taken[old.row] = taken[seen.row] = True
    unseen = ~taken[row_a] & ~taken[row_b]
    tracks = establish_tracks(keypoints, row_a[unseen], row_b[unseen])
    joint = join_points(joint, triangulated(keypoints, tracks, old, options, warm.graph.keypoint_error_px))
    joint = keep_observations(joint, dependable(joint, options.dependable_points, warm.late))
    return keep_observations(joint, _of_late_points(joint, warm.late))


def _seen(of_late: ViewGraph, warm: WarmInput, old: Bundle, bound_px: float) -> tuple[SeenPoints, Index, Index]:
    """The old points that late photos see, and their matches within the bound."""
    allowed = epipolar_errors_px(of_late, old) < bound_px
    row_a, row_b = (row[allowed] for row in of_late.matches())
    return seen_points(of_late.keypoints, row_a, row_b, warm.late, old), row_a, row_b


def _with_seen(old: Bundle, seen: SeenPoints, warm: WarmInput, bound_px: float) -> Bundle:
    """The old points that late photos see within the bound, with all their observations."""
    keypoints = warm.aligned.keypoints
    every = replace(
        old,
        xy=np.concatenate([old.xy, keypoints.xy[seen.row]]),
        photo=np.concatenate([old.photo, keypoints.photo_of(seen.row)]),
        point=np.concatenate([old.point, seen.point]),
        row=np.concatenate([old.row, seen.row]),
    )
    touched = _of_late_points(every, warm.late)
    part = sorted_by_point(observations(every, touched))
    part = keep_observations(part, ~warm.late[part.photo] | (errors_px(part) < bound_px))
    return keep_observations(part, _of_late_points(part, warm.late))


def _of_late_points(bundle: Bundle, late: Mask) -> Mask:
    """(m,) observations of points that late photos see."""
    count = np.bincount(bundle.point, late[bundle.photo], minlength=len(bundle.points))
    return np.asarray(count[bundle.point] > 0)


def near_late_photos(warm: WarmInput, joint: Bundle) -> Bundle:
    """The observations that key points of late photos are aligned with: those that they were matched with."""
    row_a, row_b = warm.graph.select(np.asarray(warm.late[warm.graph.pairs].any(axis=1))).matches()
    near = np.zeros(len(warm.graph.keypoints.xy), bool)
    near[row_a] = near[row_b] = True
    return sorted_by_point(observations(joint, near[joint.row]))


def with_aligned(warm: WarmInput, joint: Bundle, near: Bundle, aligned: Bundle, ratio: Array) -> tuple[Bundle, Array]:
    """The joint bundle with the observations `near` late photos where they were `aligned`, without those of late photos
    that were not; and its standard deviations (m,), of which alignment leaves the `ratio`.

    Observations that were not near are of old photos, and nearly all of these were aligned before.
    """
    place = np.full(len(warm.graph.keypoints.xy), -1, np.int64)
    place[near.row] = len(aligned.row)
    place[aligned.row] = np.arange(len(aligned.row))
    place = place[joint.row]
    there = np.flatnonzero((place >= 0) & (place < len(aligned.row)))
    factor = np.where(place < 0, np.min(ratio, initial=1.0), 1.0)
    factor[there] = ratio[place[there]]
    xy = joint.xy.copy()
    xy[there] = aligned.xy[place[there]]
    kept = (place < len(aligned.row)) | ~warm.late[joint.photo]
    kept &= (np.bincount(joint.point, kept & warm.late[joint.photo], len(joint.points)) > 0)[joint.point]
    sigma = sigma_of(warm.graph, joint) * factor
    return keep_observations(replace(joint, xy=xy), kept, 1), sigma[kept]


def adjusted_beside_held(
    warm: WarmInput, joint: Bundle, sigma: Array, free: BundleOptions
) -> tuple[Bundle, BundleSummary]:
    """The joint bundle with late photos and its points adjusted; what old photos see of these is a prior of them."""
    of_late = warm.late[joint.photo]
    priors = held_observations(joint, ~of_late, free.loss, free.loss_px, sigma)
    own, prior = _held_cameras(warm, joint, free)
    part = keep_observations(joint, of_late, 1)
    part, summary = adjust_bundle(part, own, prior, sigma[of_late], point_priors=priors)
    return replace(joint, points=part.points, cam_from_world=part.cam_from_world, intrinsics=part.intrinsics), summary


def _held_cameras(warm: WarmInput, bundle: Bundle, free: BundleOptions) -> tuple[BundleOptions, IntrinsicsPrior]:
    """Options and prior under which the cameras of old photos stay as they are."""
    held = np.zeros(len(bundle.models), bool)
    held[bundle.camera_of_photo[~warm.late & np.isfinite(bundle.cam_from_world[:, 0, 0])]] = True
    prior = prior_of_refinement(warm.start.bundle, warm.start.prior)
    sigma = np.where(held[:, None], HELD_SIGMA, np.broadcast_to(prior.sigma, prior.mean.shape))
    prior = replace(prior, mean=np.where(held[:, None], bundle.intrinsics, prior.mean), sigma=sigma)
    if held[bundle.camera_of_photo[warm.late]].all():  # nothing of the cameras is unknown
        free = replace(free, focal=False, principal=False, distortion=False)
    return free, prior


def settled(warm: WarmInput, joint: Bundle, sigma: Array, options: RefineOptions) -> tuple[Bundle, Array]:
    """The bundle without observations that are off and without late photos of which too few are left, and (m,) standard
    deviations."""
    late = warm.late
    near = errors_px(joint) < options.max_error * warm.graph.keypoint_error_px
    strong = without_weak_photos(keep_observations(joint, near & late[joint.photo], 1), options.min_observations)
    poses = np.where(late[:, None, None], strong.cam_from_world, joint.cam_from_world)
    kept = near & np.isfinite(poses[joint.photo, 0, 0])
    kept &= (np.bincount(joint.point, kept, len(joint.points)) >= 2)[joint.point]
    return keep_observations(replace(joint, cam_from_world=poses), kept), sigma[kept]


def with_other_points(joint: Bundle, old: Bundle, key_points: int) -> Bundle:
    """The joint bundle with all points of the old model that it has no observation of."""
    taken = np.zeros(key_points, bool)
    taken[joint.row] = True
    gone = np.bincount(old.point, taken[old.row], minlength=len(old.points)) > 0
    return join_points(joint, keep_observations(old, ~gone[old.point]))


def with_refined_poses(bundle: Bundle, photos: Index, sigma: Array, loss_px: float) -> Bundle:
    """The bundle with the poses of some photos refined on their own, with points and intrinsics as they are: from
    where an adjustment of everything has little left to do."""
    poses = bundle.cam_from_world.copy()
    for photo in photos[np.isfinite(poses[photos, 0, 0])].tolist():
        own = np.flatnonzero(bundle.photo == photo)
        if len(own) < MIN_POINTS_OF_POSE:
            continue
        camera = int(bundle.camera_of_photo[photo])
        scale = float(np.median(sigma[own]))  # the loss is in units of each key point's error
        refined = refine_absolute_pose(
            bundle.xy[own],
            bundle.points[bundle.point[own]],
            poses[photo],
            bundle.models[camera],
            bundle.intrinsics[camera],
            None,
            loss_px=loss_px * scale,
        )
        poses[photo] = refined.cam_from_world
    return replace(bundle, cam_from_world=poses)
