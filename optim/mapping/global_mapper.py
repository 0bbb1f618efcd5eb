"""Global mapping of one connected component of a view graph, intrinsics given.

    relative poses -> choice of planar poses -> rotation averaging -> edge and match filtering -> track establishment
    -> global positioning -> rounds of bundle adjustment and observation filtering

on a subset of the tracks, in a fraction of a second. The robust cost of the result tells right focal lengths and camera
groupings from wrong ones: inlier counts of pairs do not show the difference, and bundle adjustment does not recover
from wrong ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Index
from ..bundle.adjust import adjust_bundle
from ..bundle.intrinsics import Intrinsics
from ..bundle.problem import Bundle, BundleOptions, camera_points, errors_px
from ..option_ranges import Angle, Count, Positive, Within
from ..rigs import frames_of
from ..rotations import rotation_residuals_deg
from ..view_graph import Keypoints, ViewGraph, largest_component
from .epipolar import relative_epipolar_errors_px
from .global_positioning import GlobalPositioningOptions, solve_global_positions
from .initial_positions import InitialPositionOptions, estimate_initial_positions
from .planar_ambiguity import PlanarAmbiguityOptions, PlanePoses, resolve_planar_ambiguity
from .relative_poses import RelativePoseOptions, RelativePoses, estimate_relative_poses, with_poses
from .rig_sensors import fitted_to_rigs, growths_to_try, with_baselines
from .rotation_averaging import average_rotations
from .tracks import Tracks, establish_tracks, spread_subset
from .triangulation import keep_observations, rays_of, track_errors_px, without_weak_photos


@dataclass(frozen=True)
class GlobalMapperOptions:
    """Thresholds of global mapping. Those called errors are in units of the expected key point error."""

    tracks_per_photo: Count = 150
    """Long tracks first; poses need no more, and the fine stage uses all."""
    max_epipolar_error: Positive = 2.0
    """Inliers of a relative pose, in key point errors."""
    max_edge_deg: Angle = 5.0
    """Edges whose rotation is further from the averaged ones are removed."""
    max_track_edge_deg: Angle = 30.0
    """Edges further off show two different places: a wrong focal length alone does not turn a photo that far. Edges in
    between still give tracks: they may be right about a photo whose averaged rotation is wrong."""
    max_track_error: Positive = 4.0
    """Epipolar error under the pose of its pair beyond which a match joins no track, in key point errors: more than for
    inliers, since few matches make that pose and distortion is not known yet."""
    adjustment_max_errors: tuple[Positive, Positive, Positive] = (40.0, 12.0, 6.0)
    """Observations with larger reprojection errors, in key point errors, are removed after each round of bundle
    adjustment: positions only, then rotations and focal lengths, then distortion as well."""
    adjustment_loss_scales: tuple[Positive, Positive, Positive] = (4.0, 2.0, 1.0)
    """Scale of the robust loss in each round, in key point errors."""
    adjustment_iterations: tuple[Count, Count, Count] = (8, 15, 20)
    """Steps of each round, at most."""
    adjustment_tolerances: tuple[Positive, Positive, Positive] = (1e-2, 1e-3, 1e-3)
    """Relative decrease of the cost in one step at which a round ends."""
    max_track_length: Annotated[int, Within("[4, inf)")] = BundleOptions.max_track_length
    """Points that more photos see are taken for several in bundle adjustment: time grows with the square of the length
    of tracks. 20 photos of a half circle end at 0.169 instead of 0.156 degrees with parts of 8, as three more unknowns
    per part are few beside its observations."""
    min_points: Count = 6
    """Fewer points do not determine a model: the component is not mapped."""
    min_photo_points: Count = 3
    """A photo that sees fewer points is not registered: its pose is not determined."""
    cost_max_error: Positive = 6.0
    """Observations that decide where a track's point is when the cost is measured, in key point errors."""
    rig_ratios: tuple[Positive, Positive] = (0.3, 3000.0)
    """Extents of the camera centres over the size of the rigs between which the scale is looked for: from a rig that
    hardly moves to a car that drives through a town."""
    rig_scales: Count = 24
    """Scales that are tried, half as large again from one to the next: bundle adjustment finds the rest."""
    relative_pose: RelativePoseOptions = field(default_factory=RelativePoseOptions)
    """Relative pose estimation."""
    planar_ambiguity: PlanarAmbiguityOptions = field(default_factory=PlanarAmbiguityOptions)
    """The choice between the two poses of planar pairs."""
    initial_positions: InitialPositionOptions = field(default_factory=InitialPositionOptions)
    """Linear solution from which global positioning starts."""
    global_positioning: GlobalPositioningOptions = field(default_factory=GlobalPositioningOptions)
    """Global positioning."""


@dataclass(frozen=True, eq=False)
class CoarseModel:
    """The model of one component, and how well it fits."""

    bundle: Bundle
    edges: Index
    """Edges of the view graph whose relative rotation agrees with the averaged ones."""
    edge_residual_deg: Array
    """(all edges,) angle between relative and averaged rotation; NaN for edges without relative pose."""
    cost: float
    """Mean of e^2 / (1 + e^2), e in units of the expected error, over all observations of the given tracks; those of
    photos or points outside the model count as 1."""

    @property
    def posed(self) -> NDArray[np.bool_]:
        """(photos,) which are registered."""
        return np.isfinite(self.bundle.cam_from_world[:, 0, 0])

    @property
    def focals(self) -> Array:
        """(cameras,) pixels."""
        return self.bundle.intrinsics[:, 0]


def map_component(
    graph: ViewGraph,
    tracks: Tracks | None,
    intrinsics: Intrinsics,
    *,
    keypoint_error_px: float,
    options: GlobalMapperOptions | None = None,
    poses: Mapping[int, Array] | None = None,
    seed: int = 0,
    planes: PlanePoses | None = None,
) -> CoarseModel | None:
    """Map the largest consistent component of the view graph; None where there is none.

    Costs of models compare if they were given the same `tracks`. With None, tracks are established from the edges that
    agree with the averaged rotations to max_track_edge_deg, so that doppelgangers cannot merge tracks. `poses` (3, 4)
    by edge replace estimated relative poses; `planes` are as of `resolve_planar_ambiguity`.
    """
    options = options or GlobalMapperOptions()
    relative = estimate_relative_poses(
        graph,
        intrinsics.models,
        intrinsics.values,
        intrinsics.camera_of_photo,
        max_error_px=options.max_epipolar_error * keypoint_error_px,
        options=options.relative_pose,
        seed=seed,
    )
    relative = resolve_planar_ambiguity(
        graph,
        relative,
        intrinsics.models,
        intrinsics.values,
        intrinsics.camera_of_photo,
        keypoint_error_px=keypoint_error_px,
        options=options.planar_ambiguity,
        planes=planes,
    )
    relative = with_poses(relative, poses or {})
    averaged = _averaged_rotations(graph, relative, options.max_edge_deg, seed)
    if averaged is None:
        return None
    rotations, consistent, edge_residual = averaged
    inside = np.isfinite(rotations[:, 0, 0])

    if tracks is None:
        rows = _agreeing_matches(graph, relative, edge_residual, intrinsics, options, keypoint_error_px)
        tracks = establish_tracks(graph.keypoints, *rows)
        tracks = spread_subset(tracks, graph.photo_count, options.tracks_per_photo)
    total = len(tracks.row)
    tracks = tracks.select(inside[tracks.photo])
    if tracks.count < options.min_points:
        return None

    pairs = graph.pairs[relative.edge[consistent]]
    bundle = _positions(graph, tracks, intrinsics, rotations, pairs, keypoint_error_px, options, seed)
    if bundle is None:
        return None
    bundle = _iterative_bundle_adjustment(bundle, keypoint_error_px, intrinsics, options)
    bundle = without_weak_photos(bundle, options.min_photo_points)
    if np.isfinite(bundle.cam_from_world[:, 0, 0]).sum() < 2:
        return None
    bound_px = options.cost_max_error * keypoint_error_px
    cost = _cost(graph.keypoints, tracks, bundle, keypoint_error_px, bound_px, total)
    return CoarseModel(bundle, relative.edge[consistent], edge_residual, cost)


def _agreeing_matches(
    graph: ViewGraph,
    relative: RelativePoses,
    edge_residual: Array,
    intrinsics: Intrinsics,
    options: GlobalMapperOptions,
    keypoint_error_px: float,
) -> tuple[Index, Index]:
    """Rows of the matches that agree with the relative pose of their pair, where this one is near the averaged
    rotations: verification knew no focal length, and one wrong match joins two tracks."""
    b_from_a = np.full((len(graph), 3, 4), np.nan)
    near = edge_residual[relative.edge] <= options.max_track_edge_deg
    b_from_a[relative.edge[near]] = relative.b_from_a[near]
    error_px = relative_epipolar_errors_px(
        graph, b_from_a, intrinsics.models, intrinsics.values, intrinsics.camera_of_photo
    )
    good = error_px < options.max_track_error * keypoint_error_px
    row_a, row_b = graph.matches()
    return row_a[good], row_b[good]


def _averaged_rotations(
    graph: ViewGraph, relative: RelativePoses, max_edge_deg: float, seed: int
) -> tuple[Array, NDArray[np.bool_], Array] | None:
    """Average rotations, and filter the edges by their residuals.

    Returns the rotations (photos, 3, 3), NaN outside the largest component of consistent edges; which relative poses
    are consistent and inside; and the residuals (all edges,) in degrees.
    """
    pairs = graph.pairs[relative.edge]
    if len(pairs) == 0:
        return None
    member = largest_component(graph.photo_count, pairs, relative.weight, graph.rigs)
    inside = member[pairs[:, 0]]
    rotations = average_rotations(
        graph.photo_count, pairs[inside], relative.b_from_a[inside, :, :3], relative.weight[inside], seed, graph.rigs
    )
    residual = rotation_residuals_deg(pairs, relative.b_from_a[:, :, :3], rotations)
    consistent = residual <= max_edge_deg
    if not consistent.any():
        return None
    member = largest_component(graph.photo_count, pairs[consistent], relative.weight[consistent], graph.rigs)
    consistent &= member[pairs[:, 0]] & member[pairs[:, 1]]
    edge_residual = np.full(len(graph), np.nan)
    edge_residual[relative.edge] = residual
    return np.where(member[:, None, None], rotations, np.nan), consistent, edge_residual


def _positions(
    graph: ViewGraph,
    tracks: Tracks,
    intrinsics: Intrinsics,
    rotations: Array,
    pairs: Index,
    keypoint_error_px: float,
    options: GlobalMapperOptions,
    seed: int,
) -> Bundle | None:
    """Positions of photos and points, rotations given, that rigs hold for.

    Where rigs have baselines, all photos of a frame get one centre at first, or each its own; the size of the rigs in
    the world is then that under which the tracks fit best.
    """
    keypoints, rigs = graph.keypoints, graph.rigs
    frame = frames_of(rigs, len(keypoints))
    bundle = _global_positions(keypoints, tracks, intrinsics, rotations, pairs, frame, options, seed)
    if rigs is None or rigs.central:
        return None if bundle is None else replace(bundle, rigs=rigs)
    starts: list[Bundle] = []
    if bundle is not None:
        for growth in growths_to_try(rigs, bundle.cam_from_world, options.rig_ratios, options.rig_scales):
            poses = with_baselines(rigs, bundle.cam_from_world, growth)
            starts.append(replace(bundle, cam_from_world=poses, points=growth * bundle.points, rigs=rigs))
    each = np.arange(len(keypoints))
    apart = _global_positions(keypoints, tracks, intrinsics, rotations, pairs, each, options, seed)
    if apart is not None:
        poses, grown = fitted_to_rigs(rigs, apart.cam_from_world)
        starts.append(replace(apart, cam_from_world=poses, points=grown * apart.points, rigs=rigs))
    costs = [track_cost(keypoints, tracks, start, keypoint_error_px, options.cost_max_error) for start in starts]
    return starts[int(np.argmin(costs))] if starts else None


def _global_positions(
    keypoints: Keypoints,
    tracks: Tracks,
    intrinsics: Intrinsics,
    rotations: Array,
    pairs: Index,
    frame: Index,
    options: GlobalMapperOptions,
    seed: int,
) -> Bundle | None:
    """Solve for positions of photos and points, rotations given; `pairs` (e, 2) are those that agree with them. Photos
    of one `frame` (photos,) have one centre."""
    rays = rays_of(
        keypoints, tracks.row, tracks.photo, intrinsics.models, intrinsics.values, intrinsics.camera_of_photo
    )
    seen = np.isfinite(rays).all(axis=1)
    if not seen.all():
        length = np.bincount(tracks.track[seen], minlength=tracks.count)
        seen &= length[tracks.track] >= 2
        tracks, rays = tracks.select(seen), rays[seen]
    world_rays = np.einsum("mji,mj->mi", rotations[tracks.photo], rays)
    used, place = np.unique(frame[tracks.photo], return_inverse=True)
    if len(used) < 2:
        return None
    sizes = len(used), tracks.count
    if not np.array_equal(frame, np.arange(len(frame))):
        pairs = frame[pairs]
        pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    pairs = np.searchsorted(used, pairs[np.isin(pairs, used).all(axis=1)])
    start = estimate_initial_positions(world_rays, place, tracks.track, *sizes, pairs, options.initial_positions)
    found = solve_global_positions(
        world_rays, place, tracks.track, *sizes, start=start, options=options.global_positioning, seed=seed
    )
    poses = np.full((len(keypoints), 3, 4), np.nan)
    inside = np.flatnonzero(np.isin(frame, used) & np.isfinite(rotations[:, 0, 0]))
    centre = found.centres[np.searchsorted(used, frame[inside])]
    poses[inside, :, :3] = rotations[inside]
    poses[inside, :, 3] = -np.einsum("cij,cj->ci", rotations[inside], centre)
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


def _iterative_bundle_adjustment(
    bundle: Bundle, keypoint_error_px: float, intrinsics: Intrinsics, options: GlobalMapperOptions
) -> Bundle:
    """Three short rounds of bundle adjustment, each followed by the removal of observations with large errors.

    Positions alone come first, since those of global positioning are the least exact; distortion joins last.
    """
    crops = intrinsics.crops
    bundle = keep_observations(bundle, camera_points(bundle)[:, 2] > 0)
    rounds = (
        BundleOptions(rotations=False, focal=False),
        BundleOptions(principal=crops),
        BundleOptions(principal=crops, distortion=True),
    )
    for free, max_error, loss, iterations, tolerance in zip(
        rounds,
        options.adjustment_max_errors,
        options.adjustment_loss_scales,
        options.adjustment_iterations,
        options.adjustment_tolerances,
        strict=True,
    ):
        if len(bundle.points) < options.min_points:
            break
        settings = replace(
            free,
            loss_px=loss * keypoint_error_px,
            max_track_length=options.max_track_length,
            max_iterations=iterations,
            tolerance=tolerance,
        )
        bundle, _ = adjust_bundle(bundle, settings, intrinsics.prior)
        bundle = keep_observations(bundle, errors_px(bundle) < max_error * keypoint_error_px)
    return bundle


def track_cost(
    keypoints: Keypoints, tracks: Tracks, bundle: Bundle, keypoint_error_px: float, max_error: float
) -> float:
    """The cost of a model as in CoarseModel.cost, on any tracks; `max_error` as cost_max_error of the options."""
    inside = np.isfinite(bundle.cam_from_world[:, 0, 0])[tracks.photo]
    bound_px = max_error * keypoint_error_px
    return _cost(keypoints, tracks.select(inside), bundle, keypoint_error_px, bound_px, len(tracks.row))


def _cost(
    keypoints: Keypoints, tracks: Tracks, bundle: Bundle, keypoint_error_px: float, bound_px: float, total: int
) -> float:
    """CoarseModel.cost, over `total` observations of which `tracks` are those inside."""
    noise = keypoint_error_px if keypoints.sigma is None else keypoint_error_px * keypoints.sigma[tracks.row]
    error = np.minimum(track_errors_px(keypoints, tracks, bundle, bound_px=bound_px) / noise, 1e6) ** 2
    return (float((error / (1.0 + error)).sum()) + total - len(error)) / total
