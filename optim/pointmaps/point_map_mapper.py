"""Estimate poses and focal lengths of all photos from the depths of their pairs.

The steps: canonical depths per photo, initial focal lengths, pair similarities, similarity averaging, and point-map
alignment, each in a module of its own. A last comparison decides whether photos that were assumed to share a camera do.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..arrays import Array, Index, Mask
from ..bundle.intrinsics import Intrinsics
from ..cameras import FX, unproject
from ..option_ranges import Positive, Share, Within
from ..progress import Report, no_report
from .canonical_depths import canonical_depths
from .pair_depths import PairDepths
from .pair_similarity import PairSimilarityOptions, estimate_pair_similarities
from .point_map_alignment import (
    AlignmentOptions,
    PointMapAlignment,
    align_point_maps,
    refine_pair_similarities,
    robust_misfit,
)
from .predicted_focals import PredictedFocalOptions, focals_from_pair_depths
from .second_moments import MatchedPoints
from .similarity_averaging import PhotoSimilarities, SimilarityAveragingOptions, average_similarities


@dataclass(frozen=True)
class PointMapOptions:
    """Options of `poses_from_pair_depths`."""

    focals: PredictedFocalOptions = field(default_factory=PredictedFocalOptions)
    similarity: PairSimilarityOptions = field(default_factory=PairSimilarityOptions)
    outlier_spreads: Positive = 2.0
    """Scale of the Cauchy loss with which the depths of a photo are fused, in robust standard deviations."""
    averaging: SimilarityAveragingOptions = field(default_factory=SimilarityAveragingOptions)
    alignment: AlignmentOptions = field(default_factory=AlignmentOptions)
    refine_pairs_above: Annotated[float, Within("[0, inf)")] = 0.08
    """Median relative error of the pair similarities above which each is refined with weights along and across its
    rays before averaging: directions are then far better than depths."""
    max_split_misfit_ratio: Positive = 0.985
    """Photos of an assumed camera get one camera each if that lowers the misfit to less than this share."""
    min_relative_consistency: Share = 0.5
    """Consistency of a pair, relative to the median pair, below which the pair is reported as inconsistent."""


_DEFAULTS = PointMapOptions()

STEPS = 5
"""Steps that `poses_from_pair_depths` reports."""


@dataclass(frozen=True, eq=False)
class PointMapPoses:
    """Poses and intrinsics of one connected component, and how well its pairs agree with them."""

    cam_from_world: Array
    """(photos, 3, 4) NaN for photos outside the component."""
    intrinsics: Intrinsics
    """With the estimated focal lengths; one camera per photo if photos of one group do not share theirs."""
    pairs: Index
    """(e, 2)."""
    consistency: Array
    """(e,) share of each pair's matches that agrees with the poses, 0 to 1; 0 for pairs that were not used."""
    consistent: Mask
    """(e,) whether a pair is consistent with the poses, see `min_relative_consistency`."""
    misfit: float
    """Mean robust residual of all matches, see `point_map_alignment.robust_misfit`."""
    ray_error_ratio: float
    """Error of directions over the error that key points have: near one for a correct result, however rough the
    depths."""

    @property
    def registered(self) -> Mask:
        """(photos,) whether a photo has a pose."""
        return np.isfinite(self.cam_from_world[:, 0, 0])


def poses_from_pair_depths(
    depths: PairDepths,
    sizes: Array,
    intrinsics: Intrinsics,
    sigma: Array,
    *,
    noise_px: float,
    may_split: bool,
    seed: int = 0,
    options: PointMapOptions = _DEFAULTS,
    report: Report = no_report,
) -> PointMapPoses | None:
    """Poses and focal lengths of the largest connected component; None without a usable pair.

    `sizes` is (photos, 2), width and height. `sigma` (cameras,) is the relative standard deviation of the focal lengths
    in `intrinsics`: 0 for given ones, infinite for default ones. `noise_px` is the standard deviation of a key point.
    With `may_split` photos that were assumed to share a camera may get one each. `report` receives STEPS steps.
    """
    if not len(depths.pairs):
        return None
    report(0, STEPS, "canonical depths")
    depth, usable = canonical_depths(depths, sizes, options.outlier_spreads)
    weight = np.where((depth > 0).all(axis=1) & usable[:, None], depths.weight, 0.0)
    single = intrinsics.split() if may_split else intrinsics
    single_sigma = sigma[intrinsics.camera_of_photo] if may_split else sigma
    start, start_sigma = focals_from_pair_depths(depths, single, single_sigma, options.focals)
    points = _matched_points(depths, depth, weight, start)
    report(1, STEPS, "pair similarities")
    similar = estimate_pair_similarities(points.p, points.q, points.weight, seed, options.similarity)
    photos, rows = _largest_component(len(sizes), depths.pairs, similar.support > 0)
    if len(photos) < 2:
        return None
    number = np.zeros(len(sizes), np.int64)
    number[photos] = np.arange(len(photos))
    similar = similar.select(rows)
    min_error = options.similarity.min_error
    if np.median(similar.error) > options.refine_pairs_above:
        angle_noise = _angle_noise(noise_px, start, photos)
        matched = points.select(rows, number)
        similar = refine_pair_similarities(matched, similar, angle_noise, options.alignment, min_error)
    pair_weight = similar.weight(min_error)
    report(2, STEPS, "similarity averaging")
    averaged = average_similarities(len(photos), number[depths.pairs[rows]], similar, pair_weight, options.averaging)

    def align(
        cameras: Intrinsics, sigma: Array, start: PhotoSimilarities, alignment: AlignmentOptions
    ) -> tuple[MatchedPoints, PointMapAlignment]:
        used, camera_of_photo = np.unique(cameras.camera_of_photo[photos], return_inverse=True)
        matched = _matched_points(depths, depth, weight, cameras).select(rows, number)
        angle_noise = float(np.median(noise_px / cameras.values[used, FX]))
        return matched, align_point_maps(matched, start, camera_of_photo, sigma[used], angle_noise, options=alignment)

    report(3, STEPS, "alignment")
    matched, result = align(start, start_sigma, averaged, options.alignment)
    refined = _with_growth(start, photos, result)
    cost = robust_misfit(matched, result, result.noise, options.alignment)
    if may_split and len(np.unique(intrinsics.camera_of_photo[photos])) < len(photos):
        common = _with_median_focals(refined, intrinsics, photos, np.isfinite(sigma))
        common_sigma = np.minimum(sigma, options.focals.max_sigma)
        fewer = replace(options.alignment, reweightings=max(1, options.alignment.reweightings // 2))
        report(4, STEPS, "alignment with shared cameras")
        matched, shared = align(common, common_sigma, result.poses, fewer)
        shared_cost = robust_misfit(matched, shared, result.noise, options.alignment)
        if cost > options.max_split_misfit_ratio * shared_cost:
            result, refined, cost = shared, _with_growth(common, photos, shared), shared_cost

    consistency = np.zeros(len(depths.pairs))
    consistency[rows] = result.consistency
    cam_from_world = np.full((len(sizes), 3, 4), np.nan)
    rotation = result.poses.rotation.transpose(0, 2, 1)
    cam_from_world[photos, :, :3] = rotation
    cam_from_world[photos, :, 3] = -np.einsum("nij,nj->ni", rotation, result.poses.translation)
    consistent = consistency > options.min_relative_consistency * np.median(result.consistency)
    ray_error_ratio = result.noise.angle / _angle_noise(noise_px, refined, photos)
    return PointMapPoses(cam_from_world, refined, depths.pairs, consistency, consistent, cost, ray_error_ratio)


def _angle_noise(noise_px: float, cameras: Intrinsics, photos: Index) -> float:
    """Standard deviation of a key point's direction in radians, under the photos' median focal length."""
    return float(np.median(noise_px / cameras.values[cameras.camera_of_photo[photos], FX]))


def _matched_points(depths: PairDepths, depth: Array, weight: Array, cameras: Intrinsics) -> MatchedPoints:
    """The matches as points in the frames of their cameras, by canonical depths (e, 2, k) and weights (e, k)."""
    e, _, k = depth.shape
    rows = np.repeat(cameras.values[cameras.camera_of_photo[depths.pairs.ravel()]], k, axis=0)
    normalized = unproject(depths.xy.reshape(-1, 2), rows).reshape(e, 2, k, 2)
    good = (weight > 0) & np.isfinite(normalized).all(axis=(1, 3))
    rays = np.concatenate([np.nan_to_num(normalized), np.ones((e, 2, k, 1))], axis=3)
    points = rays * np.where(good[:, None], depth, 0.0)[..., None]
    return MatchedPoints(depths.pairs, points[:, 0], points[:, 1], np.where(good, weight, 0.0))


def _largest_component(photos: int, pairs: Index, usable: Mask) -> tuple[Index, Index]:
    """The photos of the largest connected component of the usable pairs, and the rows of its pairs."""
    rows = np.flatnonzero(usable)
    graph = coo_matrix((np.ones(len(rows)), pairs[rows].T), shape=(photos, photos))
    label = connected_components(graph, directed=False)[1]
    member = label == np.argmax(np.bincount(label))
    return np.flatnonzero(member), rows[member[pairs[rows, 0]]]


def _with_growth(cameras: Intrinsics, photos: Index, result: PointMapAlignment) -> Intrinsics:
    """The cameras with the focal lengths of an alignment."""
    growth = np.zeros(len(cameras.models))
    growth[cameras.camera_of_photo[photos]] = result.log_growth
    return cameras.with_focals(cameras.values[:, FX] * np.exp(growth))


def _with_median_focals(single: Intrinsics, shared: Intrinsics, photos: Index, known: Mask) -> Intrinsics:
    """The shared cameras with the median focal length that their photos have in `single`; known ones stay."""
    focal = shared.values[:, FX].copy()
    own = single.values[single.camera_of_photo[photos], FX]
    for camera in np.unique(shared.camera_of_photo[photos]):
        if not known[camera]:
            focal[camera] = np.median(own[shared.camera_of_photo[photos] == camera])
    return shared.with_focals(focal)
