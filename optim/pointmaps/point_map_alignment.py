"""Point-map alignment: the similarities and focal lengths under which matched points of all photos coincide.

Every photo has a point map: matched points p with some depth, in the camera frame under the initial focal length. With
M = scale R diag(1/g, 1/g, 1), g the growth of the focal length, the residual of a match of photos a and b is

    r = M_a p + t_a - (M_b q + t_b),

linear in (M_a, t_a, M_b, t_b): second_moments.py turns all matches of a pair into one matrix.

Weights. Predicted depths are off by percents, directions by less than a pixel. Each residual is therefore weighted by
the inverse of its 3x3 covariance, wide along the rays and narrow across them, which brings the result close to that of
bundle adjustment. Covariances rotate with the rays; they and the robust weights are recomputed a few times.

Bias. Least squares with noise in the factors of the unknowns is biased: all scales would shrink, as that makes all
residuals smaller, and a ring of photos would bend. So derivatives are taken where the two points, each moved by its
share of the residual, meet. The difference is a constant term of the gradient between two recomputations
(`bias_gradient`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..arrays import Array, Index
from ..option_ranges import Count, Positive
from .pair_similarity import PairSimilarities, PairSimilarityOptions
from .second_moments import UNKNOWNS, MatchedPoints, MomentSystem, gauss_newton, pair_moments, similarity_matrices
from .similarity_averaging import PhotoSimilarities

_PAIRS_AT_ONCE = 128  # bounds memory


@dataclass(frozen=True)
class AlignmentOptions:
    """Options of `align_point_maps`."""

    reweightings: Count = 6
    """How often covariances and robust weights are recomputed."""
    first_loss_scale: Positive = 4.0
    """Scale of the robust loss in standard deviations of a residual at first: wide, as the initial poses are rough."""
    last_loss_scale: Positive = 2.0
    """The same at last; in between the scale falls by a third with every recomputation."""
    min_depth_noise: Positive = 2e-3
    """Smallest relative standard deviation of depths, so that directions keep their weight in noise-free data."""
    independent_depths: Positive = 12.0
    """Independent depth errors per pair. Errors of predicted depth are smooth: all matches of a pair together must not
    weigh more than so many independent ones."""


_DEFAULTS = AlignmentOptions()


@dataclass(frozen=True)
class MatchNoise:
    """Robust standard deviations of the points of matches."""

    depth: float
    """Relative to the distance from the camera."""
    angle: float
    """Of directions, in radians."""


@dataclass(frozen=True, eq=False)
class PointMapAlignment:
    """Result of `align_point_maps`."""

    poses: PhotoSimilarities
    """World from camera."""
    log_growth: Array
    """(photos,) logarithm of the focal length over the initial one."""
    consistency: Array
    """(e,) share of the weight of each pair's matches that agrees with the result, 0 to 1."""
    noise: MatchNoise


def align_point_maps(
    matched: MatchedPoints,
    start: PhotoSimilarities,
    camera_of_photo: Index,
    focal_sigma: Array,
    angle_noise: float,
    *,
    fixed: Index | int = 0,
    options: AlignmentOptions = _DEFAULTS,
) -> PointMapAlignment:
    """Align point maps by Gauss-Newton from initial similarities.

    Photos of one camera share the growth of their focal length. Photos `fixed`, one in every connected component, keep
    their pose and scale. `focal_sigma` (cameras,) is the relative standard deviation of the initial focal lengths, 0
    for known ones; `angle_noise` is the least standard deviation of directions, in radians.
    """
    poses, log_growth = start, np.zeros(len(start))
    is_fixed = np.zeros(len(start), bool)
    is_fixed[fixed] = True
    loss_scale = options.first_loss_scale
    for turn in range(options.reweightings):
        noise = _estimate_noise(matched, poses, log_growth, angle_noise, options)
        moments, bias_gradient = [], []
        for part in _parts(matched):
            terms = _weighted_terms(part, poses, log_growth, noise, loss_scale, options)
            moments.append(pair_moments(part, terms.weight))
            bias_gradient.append(terms.bias_gradient)
        system = MomentSystem(
            np.concatenate(moments),
            np.concatenate(bias_gradient),
            matched.pairs,
            camera_of_photo,
            focal_sigma,
            is_fixed,
        )
        poses, log_growth = gauss_newton(system, poses, log_growth)
        loss_scale = max(options.last_loss_scale, loss_scale / 1.5) if turn else loss_scale
    noise = _estimate_noise(matched, poses, log_growth, angle_noise, options)
    distance2 = _distances2(matched, poses, log_growth, noise, options)
    total = np.maximum(matched.weight.sum(axis=1), 1e-300)
    consistency = (matched.weight / (1.0 + distance2 / 9.0)).sum(axis=1) / total
    return PointMapAlignment(poses, log_growth, consistency, noise)


def refine_pair_similarities(
    matched: MatchedPoints,
    similar: PairSimilarities,
    angle_noise: float,
    options: AlignmentOptions = _DEFAULTS,
    min_error: float = PairSimilarityOptions.min_error,
) -> PairSimilarities:
    """Refine the similarity of each pair on its own, with the weights of `align_point_maps`.

    All pairs are aligned at once, as a graph with one component per pair. All get the error `min_error`: what is left
    is the noise of directions, much the same for all pairs.
    """
    e = len(matched.pairs)
    alone = MatchedPoints(np.arange(2 * e).reshape(e, 2), matched.p, matched.q, matched.weight)
    scale, rotation, translation = np.ones(2 * e), np.tile(np.eye(3), (2 * e, 1, 1)), np.zeros((2 * e, 3))
    scale[::2], rotation[::2], translation[::2] = similar.scale, similar.rotation, similar.translation
    start = PhotoSimilarities(scale, rotation, translation)  # the world of each pair is the camera frame of b
    camera = np.zeros(2 * e, np.int64)
    found = align_point_maps(
        alone,
        start,
        camera,
        np.zeros(1),
        angle_noise,
        fixed=np.arange(1, 2 * e, 2),
        options=replace(options, reweightings=4),
    )
    support = found.consistency * matched.weight.sum(axis=1)
    first = (found.poses.scale[::2], found.poses.rotation[::2], found.poses.translation[::2])
    return PairSimilarities(*first, support, np.full(e, min_error))


def robust_misfit(
    matched: MatchedPoints, result: PointMapAlignment, noise: MatchNoise, options: AlignmentOptions = _DEFAULTS
) -> float:
    """Weighted mean of u / (1 + u) over all matches, u = (residual / 3 sigma)^2; between 0 and 1."""
    distance2 = _distances2(matched, result.poses, result.log_growth, noise, options) / 9.0
    return float((matched.weight * distance2 / (1.0 + distance2)).sum() / max(float(matched.weight.sum()), 1e-300))


def _parts(matched: MatchedPoints) -> Iterator[MatchedPoints]:
    """The pairs in chunks, as 3x3 matrices of all matches at once would not fit in memory."""
    for begin in range(0, len(matched.pairs), _PAIRS_AT_ONCE):
        part = slice(begin, begin + _PAIRS_AT_ONCE)
        yield MatchedPoints(matched.pairs[part], matched.p[part], matched.q[part], matched.weight[part])


def _distances2(
    matched: MatchedPoints, poses: PhotoSimilarities, log_growth: Array, noise: MatchNoise, options: AlignmentOptions
) -> Array:
    """(e, k) squared Mahalanobis distances r^T C^-1 r of the matched points."""
    return np.concatenate(
        [
            _weighted_terms(part, poses, log_growth, noise, options.last_loss_scale, options).distance2
            for part in _parts(matched)
        ]
    )


@dataclass(frozen=True, eq=False)
class _WeightedTerms:
    weight: Array
    """(e, k, 3, 3) inverse covariances times robust weights."""
    distance2: Array
    """(e, k) squared Mahalanobis distances."""
    bias_gradient: Array
    """(e, 2, 8) gradient terms of both photos that remove the bias."""


def _world_points(points: Array, photo: Index, poses: PhotoSimilarities, log_growth: Array) -> Array:
    """(e, k, 3) points of photos (e,) in the world."""
    rotated = points @ similarity_matrices(poses, log_growth)[photo].transpose(0, 2, 1)
    moved: Array = rotated + poses.translation[photo, None]
    return moved


def _estimate_noise(
    matched: MatchedPoints,
    poses: PhotoSimilarities,
    log_growth: Array,
    min_angle: float,
    options: AlignmentOptions,
) -> MatchNoise:
    """Robust standard deviations (1.4826 MAD) of the residuals along the rays and across them."""
    along, across = [np.zeros(0)], [np.zeros(0)]
    for part in _parts(matched):
        residual, (ray_a, distance_a), (ray_b, distance_b) = _residuals(part, poses, log_growth)
        share, valid = residual / np.hypot(distance_a, distance_b)[..., None], part.weight > 0
        along.append(np.abs(np.einsum("eki,eki->ek", share, _rays(ray_a + ray_b)[0]))[valid])
        # Perpendicular to both rays depths play no part: this is the error of directions, and at first of the poses.
        across.append(np.abs(np.einsum("eki,eki->ek", share, _rays(np.cross(ray_a, ray_b))[0]))[valid])
    if not sum(map(len, along)):
        return MatchNoise(options.min_depth_noise, min_angle)
    depth, angle = (1.4826 * float(np.median(np.concatenate(each))) for each in (along, across))
    return MatchNoise(max(depth, options.min_depth_noise), max(angle, min_angle))


def _residuals(
    matched: MatchedPoints, poses: PhotoSimilarities, log_growth: Array
) -> tuple[Array, tuple[Array, Array], tuple[Array, Array]]:
    """Residuals (e, k, 3) in the world; directions (e, k, 3) and distances (e, k) of the points from both cameras."""
    a, b = matched.pairs.T
    x, y = _world_points(matched.p, a, poses, log_growth), _world_points(matched.q, b, poses, log_growth)
    return x - y, _rays(x - poses.translation[a, None]), _rays(y - poses.translation[b, None])


def _weighted_terms(
    matched: MatchedPoints,
    poses: PhotoSimilarities,
    log_growth: Array,
    noise: MatchNoise,
    loss_scale: float,
    options: AlignmentOptions,
) -> _WeightedTerms:
    """Weights, distances and bias terms of all matches under the current poses."""
    residual, (ray_a, distance_a), (ray_b, distance_b) = _residuals(matched, poses, log_growth)
    count = (matched.weight > 0).sum(axis=1)
    depth_noise = noise.depth * np.sqrt(np.maximum(count / options.independent_depths, 1.0))
    noise_a, noise_b = (
        _covariance(ray, distance, depth_noise, noise.angle)
        for ray, distance in ((ray_a, distance_a), (ray_b, distance_b))
    )
    inverse = _inverse_symmetric(noise_a + noise_b)
    pull = np.einsum("ekij,ekj->eki", inverse, residual)
    distance2 = np.einsum("eki,eki->ek", residual, pull)
    robust = 1.0 / (1.0 + distance2 / loss_scale**2) ** 2
    # A pair with few inliers is wrong altogether: the inliers are chance, and lose weight with the others.
    share = (matched.weight * robust).sum(axis=1) / np.maximum(matched.weight.sum(axis=1), 1e-300)
    robust *= matched.weight * share[:, None] ** 2
    maps = similarity_matrices(poses, log_growth)
    bias_gradient = np.stack(
        [
            _bias_gradient(maps[photo], np.einsum("ekij,ekj->eki", own, pull), pull * robust[..., None])
            for photo, own in zip(matched.pairs.T, (noise_a, noise_b), strict=True)
        ],
        axis=1,
    )
    return _WeightedTerms(inverse * robust[..., None, None], distance2, bias_gradient)


def _bias_gradient(maps: Array, share: Array, pull: Array) -> Array:
    """(e, 8) change of a photo's gradient when its points move by minus their share (e, k, 3) of the residual.

    `maps` (e, 3, 3) are the matrices M of the photo, `pull` (e, k, 3) the weighted residuals.
    """
    out = np.zeros((len(share), UNKNOWNS))
    out[:, :3] = -np.cross(share, pull).sum(axis=1)
    out[:, 6] = -np.einsum("eki,eki->e", share, pull)
    flat = maps.copy()
    flat[:, :, 2] = 0.0
    growing = flat @ np.linalg.inv(maps)
    out[:, 7] = np.einsum("eij,ekj,eki->e", growing, share, pull)
    return out


def _rays(offset: Array) -> tuple[Array, Array]:
    """Unit vectors and lengths of vectors (e, k, 3)."""
    length = np.maximum(np.linalg.norm(offset, axis=2), 1e-12)
    return offset / length[..., None], length


def _covariance(ray: Array, distance: Array, depth_noise: Array, angle_noise: float) -> Array:
    """(e, k, 3, 3) covariances: (depth_noise distance)^2 along the unit ray, (angle_noise distance)^2 across it."""
    across = (angle_noise * distance) ** 2
    along = (depth_noise[:, None] * distance) ** 2
    out: Array = (along - across)[..., None, None] * (ray[..., :, None] * ray[..., None, :])
    out[..., [0, 1, 2], [0, 1, 2]] += across[..., None]
    return out


def _inverse_symmetric(m: Array) -> Array:
    """Inverses of symmetric positive matrices (..., 3, 3) by cofactors, several times as fast as np.linalg.inv."""
    a, b, c, d, e, f = (m[..., i, j] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)))
    out = np.empty_like(m)
    out[..., 0, 0], out[..., 1, 1], out[..., 2, 2] = d * f - e * e, a * f - c * c, a * d - b * b
    out[..., 0, 1] = out[..., 1, 0] = c * e - b * f
    out[..., 0, 2] = out[..., 2, 0] = b * e - c * d
    out[..., 1, 2] = out[..., 2, 1] = b * c - a * e
    determinant = a * out[..., 0, 0] + b * out[..., 0, 1] + c * out[..., 0, 2]
    out /= np.maximum(determinant, 1e-300)[..., None, None]
    return out
