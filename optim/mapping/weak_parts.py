"""Parts of a model that few matches tie to the rest: moved to where their shared points put them, or found open.

Global positioning and bundle adjustment see such a part as a few observations among thousands. Its scale may run away,
as the matches that would hold it then no longer agree and are left out, and adjustment stops before a scale that hardly
changes the cost has found its place. Each such part is therefore held against the rest as one rigid body.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np

from ..arrays import Index, Mask
from ..bundle.pose_priors import no_pose_priors
from ..bundle.problem import Bundle, IntrinsicsPrior
from ..cameras import fisheyes, project_with_jacobians
from ..option_ranges import Count, Positive, Within
from ..poses import camera_centres
from ..rotations import skew
from ..similarity import Similarity
from ..view_graph import ViewGraph
from .epipolar import agreeing_matches
from .part_similarity import (
    SIMILARITY_NUMBERS,
    PartSimilarityOptions,
    correspondences,
    moved_part,
    part_similarity,
    transfer_errors_px,
)
from .refinement import RefineOptions, Solver, observation_sigma, retriangulated
from .tracks import establish_tracks
from .triangulation import keep_observations

MIN_STIFFNESS = 1e-10
"""Of the scaled information, whose diagonal was 1: what is below is rounding."""


@dataclass(frozen=True)
class WeakPartOptions:
    """What a weak part is, when it is moved, and when its scale is open."""

    max_cut_matches: Annotated[int, Within("[0, inf)")] = 200
    """Matches between a part and the rest that agree with the poses, up to which it is weak: fewer than a single photo
    usually has. Many more may be verified, and right: none of them agrees with a part whose scale has run away. 0: no
    part is looked at."""
    min_photos: Annotated[int, Within("[2, inf)")] = 3
    """Photos of a part, at least, as of a model."""
    min_gain: Annotated[float, Within("[1, inf)")] = 1.5
    """A part is moved where so many times more correspondences agree than where it is. Adjustment finds what is nearer
    by itself."""
    noise: Positive = 1.0
    """Standard deviation of an observation that the scale of a part is judged by, in expected key point errors. More
    than the scatter of key points: what bends a part, and wrong matches that agree, do not average out."""
    max_log_scale_sigma: Positive = 0.1
    """Standard deviation of the logarithm of a part's scale beyond which the scale is open: a photo that is as far from
    the joint as what it is compared with is then seen 5 degrees off."""
    rounds: Count = 2
    """Adjustments of a moved part before everything is adjusted again, each after retriangulation."""
    max_iterations: Count = 60
    """Steps of each, at most;"""
    tolerance: Positive = 1e-7
    """relative decrease of the cost in one step at which they end: a scale that few points hold takes small steps."""
    similarity: PartSimilarityOptions = field(default_factory=PartSimilarityOptions)
    """Where the shared points put a part."""


@dataclass(frozen=True, eq=False)
class WeakPart:
    """A part and what ties it to the rest."""

    photos: Index
    """(p,)."""
    cut_matches: int
    """Matches with other photos of the model that agree with the poses."""


def weak_parts(graph: ViewGraph, bundle: Bundle, options: WeakPartOptions) -> list[WeakPart]:
    """The largest weak parts among the photos of a model, apart from each other, those of fewest matches first. Only
    matches that agree with the poses count.

    Edges join photos in order of their matches, the strongest first, as in a maximum spanning tree. Each group of
    photos on the way is a part if few matches lead out of it; of groups within each other the largest counts.
    """
    if options.max_cut_matches == 0:
        return []
    posed = np.isfinite(bundle.cam_from_world[:, 0, 0])
    agreeing = agreeing_matches(graph, bundle, options.similarity.max_error * graph.keypoint_error_px)
    inside = np.flatnonzero(posed[graph.pairs].all(axis=1))
    most = int(posed.sum()) // 2
    members = {int(photo): [int(photo)] for photo in np.flatnonzero(posed)}
    of_photo = {photo: photo for photo in members}
    outward: dict[int, dict[int, int]] = {photo: {} for photo in members}
    for edge in inside.tolist():
        a, b = graph.pairs[edge].tolist()
        outward[a][b] = outward[b][a] = outward[a].get(b, 0) + int(agreeing[edge])
    found: dict[int, WeakPart] = {}
    for edge in inside[np.argsort(-agreeing[inside], kind="stable")].tolist():
        large, small = (of_photo[photo] for photo in graph.pairs[edge].tolist())
        if large == small:
            continue
        if len(members[large]) < len(members[small]):
            large, small = small, large
        for photo in members[small]:
            of_photo[photo] = large
        members[large] += members.pop(small)
        for other, count in outward.pop(small).items():
            outward[other].pop(small)
            if other != large:
                outward[large][other] = outward[other][large] = outward[large].get(other, 0) + count
        cut = sum(outward[large].values())
        if not options.min_photos <= len(members[large]) <= most:
            continue
        if outward[large] and cut <= options.max_cut_matches:
            for inner in [key for key, part in found.items() if of_photo[int(part.photos[0])] == large]:
                del found[inner]
            found[large] = WeakPart(np.sort(np.array(members[large])), cut)
    return sorted(found.values(), key=lambda part: (part.cut_matches, int(part.photos[0])))


def reseated(
    graph: ViewGraph,
    bundle: Bundle,
    prior: IntrinsicsPrior,
    solver: Solver,
    refinement: RefineOptions,
    options: WeakPartOptions,
    *,
    seed: int = 0,
) -> Bundle | None:
    """The bundle with the weak parts moved to where their shared points put them; None if all are there."""
    parts = weak_parts(graph, bundle, options)
    if not parts:
        return None
    error_px = graph.keypoint_error_px
    tracks = establish_tracks(graph.keypoints, *graph.matches())
    bound_px, moved = options.similarity.max_error * error_px, False
    for part in parts:
        mask = np.isin(np.arange(graph.photo_count), part.photos)
        shared = correspondences(graph.keypoints, tracks, bundle, mask, error_px, options.similarity)
        found = part_similarity(bundle, mask, shared, error_px, options.similarity, seed)
        if found is None:
            continue
        stays = Similarity(1.0, np.eye(3), np.zeros(3))
        now, then = (np.count_nonzero(transfer_errors_px(bundle, shared, each) < bound_px) for each in (stays, found))
        if then < max(options.min_gain * now, options.similarity.min_inliers):
            continue
        bundle = _settled(graph, moved_part(bundle, mask, found), mask, prior, solver, refinement, options)
        moved = True
    return bundle if moved else None


def _settled(
    graph: ViewGraph,
    bundle: Bundle,
    part: Mask,
    prior: IntrinsicsPrior,
    solver: Solver,
    refinement: RefineOptions,
    options: WeakPartOptions,
) -> Bundle:
    """The bundle with the part and the photos that it matches adjusted, all others and the cameras held: so small a
    problem ends where its cost is least."""
    error_px = graph.keypoint_error_px
    near = _with_neighbours(graph, part)
    nearby = graph.among(_with_neighbours(graph, near))
    held = replace(no_pose_priors(len(part)), fixed=~near)
    free = replace(
        refinement.adjustment(error_px, options.max_iterations, options.tolerance),
        focal=False,
        principal=False,
        distortion=False,
    )
    for _ in range(options.rounds):
        every = retriangulated(nearby, bundle, refinement, error_px)
        seen = np.bincount(every.point, near[every.photo], minlength=len(every.points)) > 0
        local = keep_observations(every, seen[every.point])
        local, _ = solver(local, free, prior, observation_sigma(graph, local), held, None)
        poses = np.where(near[:, None, None], local.cam_from_world, bundle.cam_from_world)
        bundle = replace(bundle, cam_from_world=poses)
    return bundle


def _with_neighbours(graph: ViewGraph, photos: Mask) -> Mask:
    """The photos (photos,), and those that match one of them."""
    out = photos.copy()
    out[graph.pairs[photos[graph.pairs].any(axis=1)]] = True
    return out


def open_parts(graph: ViewGraph, bundle: Bundle, options: WeakPartOptions) -> list[tuple[WeakPart, float]]:
    """The weak parts whose scale the points of a refined bundle leave open, with the standard deviation of its
    logarithm. Two points would do for a scale, but as few agree by chance with any."""
    found = []
    for part in weak_parts(graph, bundle, options):
        mask = np.isin(np.arange(graph.photo_count), part.photos)
        sigma = log_scale_sigma(bundle, mask, options.noise * graph.keypoint_error_px)
        if _ties(bundle, mask) < options.similarity.min_inliers:
            sigma = float("inf")
        if sigma > options.max_log_scale_sigma:
            found.append((part, sigma))
    return found


def _shared(bundle: Bundle, part: Mask) -> Bundle:
    """The observations of points that both a part and the rest see."""
    seen_by = np.bincount(bundle.point, part[bundle.photo], minlength=len(bundle.points))
    across = (seen_by > 0) & (seen_by < np.bincount(bundle.point, minlength=len(bundle.points)))
    return keep_observations(bundle, across[bundle.point])


def _ties(bundle: Bundle, part: Mask) -> int:
    """Observations of shared points, on the side that has fewer."""
    own = int(np.count_nonzero(part[(shared := _shared(bundle, part)).photo]))
    return min(own, len(shared.photo) - own)


def log_scale_sigma(bundle: Bundle, part: Mask, noise_px: float) -> float:
    """Standard deviation of the logarithm of the scale of a part (photos,), which moves as one rigid body, beside the
    rest, under this noise of an observation; infinite where the points that both see do not fix it.

    The points are free as well: their depths, which the scale hangs on, are as uncertain as their rays leave them.
    """
    shared = _shared(bundle, part)
    count = len(shared.points)
    if 2 * len(shared.xy) - 3 * count < SIMILARITY_NUMBERS:
        return float("inf")
    pose, camera = shared.cam_from_world[shared.photo], shared.camera_of_photo[shared.photo]
    world = shared.points[shared.point]
    y = np.einsum("nij,nj->ni", pose[:, :, :3], world) + pose[:, :, 3]
    by_y = project_with_jacobians(y, shared.intrinsics[camera], fisheyes(shared.models)[camera])[1]
    by_point = by_y @ pose[:, :, :3]
    centres = camera_centres(shared.cam_from_world[shared.photo[part[shared.photo]]])
    away = world - centres.mean(axis=0)
    by_motion = np.concatenate([skew(away), np.tile(-np.eye(3), (len(away), 1, 1)), -away[:, :, None]], axis=2)
    by_part = np.where(part[shared.photo][:, None, None], by_point @ by_motion, 0.0)
    starts = np.flatnonzero(np.diff(shared.point, prepend=-1))
    transposed = by_point.transpose(0, 2, 1)
    of_points = np.add.reduceat(transposed @ by_point, starts, axis=0)
    of_points += 1e-12 * np.einsum("nii->n", of_points)[:, None, None] * np.eye(3)
    between = np.add.reduceat(transposed @ by_part, starts, axis=0)
    information = np.einsum("nki,nkj->ij", by_part, by_part)
    unit = np.sqrt(np.maximum(np.diag(information), 1e-300))
    information = information - np.einsum("nki,nkj->ij", between, np.linalg.solve(of_points, between))
    values, directions = np.linalg.eigh(information / unit[:, None] / unit)
    growth, free = directions[-1], values < MIN_STIFFNESS
    if (np.abs(growth[free]) > MIN_STIFFNESS**0.5).any():
        return float("inf")
    return noise_px * float(np.sqrt((growth[~free] ** 2 / values[~free]).sum())) / float(unit[-1])
