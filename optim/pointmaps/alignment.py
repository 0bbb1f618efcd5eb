"""Alignment of point maps: the similarities and focal lengths under which matched points of all photos coincide.

Every photo has a point map of its own: matched points p at some depth, in units of its first focal length. With
M = scale R diag(1/g, 1/g, 1), g the growth of the focal length, a match of photos a and b misses by

    r = M_a p + t_a - (M_b q + t_b),

linear in (M_a, t_a, M_b, t_b). So for fixed weights all matches of a pair act through one matrix of second moments of
(p, 1, -q, -1), and a step of Gauss-Newton costs the number of pairs, not of matches. Predicted depths are off by
percents, directions by less than a pixel: weights are 3x3 matrices, which ask for little along the rays and for much
across them. They are the reason why this comes close to what an adjustment of all reprojections gives; they turn with
the rays, and are renewed a few times, together with the trust in each match.

Least squares with noise in what multiplies the unknowns is biased: everything would shrink, since that makes all misses
smaller, and a ring of photos would bend. The cure is to take derivatives where the two points, each moved by its share
of the miss, meet. What that changes is a force on every photo, constant between two renewals (`lean`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .graph_average import Placed
from .moments import SIZE, MatchedPoints, System, descend, maps_of, moments_of
from .pair_similarity import LEAST_ERROR, PairSimilarities

Array = NDArray[np.float64]
Index = NDArray[np.int64]

LEAST_DEPTH_NOISE = 2e-3

FIRST_LOSS, LAST_LOSS = 4.0, 2.0
"""Misses, in units of the expected ones, from which on matches are trusted less: wide while the start is rough."""

CHUNK = 128
"""Pairs treated together."""

SHAPES = 12.0
"""Errors of predicted depth are smooth: all matches of a pair share about so many independent ones, and together they
must not weigh more than these."""


@dataclass(frozen=True)
class Noise:
    """Errors that the matches are seen to have: robust standard deviations."""

    depth: float
    """Relative to the distance from the camera."""
    angle: float
    """Of directions, in radians."""


@dataclass(frozen=True, eq=False)
class Alignment:
    placed: Placed
    log_growth: Array
    """(photos,) logarithm of the focal length over the first one."""
    trust: Array
    """(e,) share of the weight of each pair's matches that the result agrees with."""
    noise: Noise


def align_point_maps(
    matched: MatchedPoints,
    start: Placed,
    camera_of_photo: Index,
    focal_sigma: Array,
    angle_noise: float,
    *,
    renewals: int = 6,
    held: Index | int = 0,
) -> Alignment:
    """Gauss-Newton from `start`. Photos of one camera share the growth of their focal length; those that are `held`
    stay where they are, one in every connected component.

    `focal_sigma` (cameras,) is the relative error of the first focal lengths, 0 for known ones; `angle_noise` that of
    the directions, at least, in radians.
    """
    placed, log_growth = start, np.zeros(len(start))
    stays = np.zeros(len(start), bool)
    stays[held] = True
    loss = FIRST_LOSS
    for turn in range(renewals):
        noise = _seen_noise(matched, placed, log_growth, angle_noise)
        moments, lean = [], []
        for part in _parts(matched):
            weighed = _weigh(part, placed, log_growth, noise, loss)
            moments.append(moments_of(part, weighed.weight))
            lean.append(weighed.lean)
        system = System(
            np.concatenate(moments), np.concatenate(lean), matched.pairs, camera_of_photo, focal_sigma, stays
        )
        placed, log_growth = descend(system, placed, log_growth)
        loss = max(LAST_LOSS, loss / 1.5) if turn else loss
    noise = _seen_noise(matched, placed, log_growth, angle_noise)
    distance2 = _distances2(matched, placed, log_growth, noise)
    total = np.maximum(matched.weight.sum(axis=1), 1e-300)
    return Alignment(placed, log_growth, (matched.weight / (1.0 + distance2 / 9.0)).sum(axis=1) / total, noise)


def refine_pairs(matched: MatchedPoints, similar: PairSimilarities, angle_noise: float) -> PairSimilarities:
    """The similarity of each pair for itself, by the same weights. All pairs together are one graph of which every pair
    is a component."""
    e = len(matched.pairs)
    alone = MatchedPoints(np.arange(2 * e).reshape(e, 2), matched.p, matched.q, matched.weight)
    scale, rotation, translation = np.ones(2 * e), np.tile(np.eye(3), (2 * e, 1, 1)), np.zeros((2 * e, 3))
    scale[::2], rotation[::2], translation[::2] = similar.scale, similar.rotation, similar.translation
    start = Placed(scale, rotation, translation)  # the world of each pair is the frame of its second photo
    camera = np.zeros(2 * e, np.int64)
    found = align_point_maps(alone, start, camera, np.zeros(1), angle_noise, renewals=4, held=np.arange(1, 2 * e, 2))
    support = found.trust * matched.weight.sum(axis=1)
    first = (found.placed.scale[::2], found.placed.rotation[::2], found.placed.translation[::2])
    return PairSimilarities(*first, support, np.full(e, LEAST_ERROR))


def misfit(matched: MatchedPoints, result: Alignment, noise: Noise) -> float:
    """Mean over the matches of e^2 / (1 + e^2), e their misses by three times what the noise lets expect."""
    distance2 = _distances2(matched, result.placed, result.log_growth, noise) / 9.0
    return float((matched.weight * distance2 / (1.0 + distance2)).sum() / max(float(matched.weight.sum()), 1e-300))


def _parts(matched: MatchedPoints) -> Iterator[MatchedPoints]:
    """The pairs in chunks: what is computed of every match must not be held of all."""
    for begin in range(0, len(matched.pairs), CHUNK):
        part = slice(begin, begin + CHUNK)
        yield MatchedPoints(matched.pairs[part], matched.p[part], matched.q[part], matched.weight[part])


def _distances2(matched: MatchedPoints, placed: Placed, log_growth: Array, noise: Noise) -> Array:
    """(e, k) squared misses in units of the expected ones."""
    return np.concatenate([_weigh(part, placed, log_growth, noise, LAST_LOSS).distance2 for part in _parts(matched)])


@dataclass(frozen=True, eq=False)
class _Weighed:
    weight: Array
    """(e, k, 3, 3) inverse covariances times trust."""
    distance2: Array
    """(e, k) squared misses in units of the expected ones."""
    lean: Array
    """(e, 2, 8) forces on both photos, see above."""


def _world_points(points: Array, photo: Index, placed: Placed, log_growth: Array) -> Array:
    """(e, k, 3) points of photos (e,) in the world."""
    moved: Array = points @ maps_of(placed, log_growth)[photo].transpose(0, 2, 1) + placed.translation[photo, None]
    return moved


def _seen_noise(matched: MatchedPoints, placed: Placed, log_growth: Array, least_angle: float) -> Noise:
    along, across = [np.zeros(0)], [np.zeros(0)]
    for part in _parts(matched):
        miss, (ray_a, far_a), (ray_b, far_b) = _misses(part, placed, log_growth)
        share, valid = miss / np.hypot(far_a, far_b)[..., None], part.weight > 0
        along.append(np.abs(np.einsum("eki,eki->ek", share, _rays(ray_a + ray_b)[0]))[valid])
        # Across both rays depths play no part: this is the error of directions, at first mostly that of the start.
        across.append(np.abs(np.einsum("eki,eki->ek", share, _rays(np.cross(ray_a, ray_b))[0]))[valid])
    if not sum(map(len, along)):
        return Noise(LEAST_DEPTH_NOISE, least_angle)
    depth, angle = (1.4826 * float(np.median(np.concatenate(each))) for each in (along, across))
    return Noise(max(depth, LEAST_DEPTH_NOISE), max(angle, least_angle))


def _misses(
    matched: MatchedPoints, placed: Placed, log_growth: Array
) -> tuple[Array, tuple[Array, Array], tuple[Array, Array]]:
    """(e, k, 3) in the world; and from both cameras the directions (e, k, 3) and distances (e, k) of the points."""
    a, b = matched.pairs.T
    x, y = _world_points(matched.p, a, placed, log_growth), _world_points(matched.q, b, placed, log_growth)
    return x - y, _rays(x - placed.translation[a, None]), _rays(y - placed.translation[b, None])


def _weigh(matched: MatchedPoints, placed: Placed, log_growth: Array, noise: Noise, loss: float) -> _Weighed:
    miss, (ray_a, far_a), (ray_b, far_b) = _misses(matched, placed, log_growth)
    count = (matched.weight > 0).sum(axis=1)
    depth_noise = noise.depth * np.sqrt(np.maximum(count / SHAPES, 1.0))
    noise_a, noise_b = (
        _covariance(ray, far, depth_noise, noise.angle) for ray, far in ((ray_a, far_a), (ray_b, far_b))
    )
    inverse = _inverse_symmetric(noise_a + noise_b)
    pull = np.einsum("ekij,ekj->eki", inverse, miss)
    distance2 = np.einsum("eki,eki->ek", miss, pull)
    trust = 1.0 / (1.0 + distance2 / loss**2) ** 2
    # A pair most of whose matches miss is wrong altogether, also where some of them happen to fit.
    share = (matched.weight * trust).sum(axis=1) / np.maximum(matched.weight.sum(axis=1), 1e-300)
    trust *= matched.weight * share[:, None] ** 2
    maps = maps_of(placed, log_growth)
    lean = np.stack(
        [
            _lean(maps[photo], np.einsum("ekij,ekj->eki", own, pull), pull * trust[..., None])
            for photo, own in zip(matched.pairs.T, (noise_a, noise_b), strict=True)
        ],
        axis=1,
    )
    return _Weighed(inverse * trust[..., None, None], distance2, lean)


def _lean(maps: Array, share: Array, pull: Array) -> Array:
    """(e, 8) what moving the points by minus their share (e, k, 3) of the miss adds to the gradient of a photo."""
    out = np.zeros((len(share), SIZE))
    out[:, :3] = -np.cross(share, pull).sum(axis=1)
    out[:, 6] = -np.einsum("eki,eki->e", share, pull)
    flat = maps.copy()
    flat[:, :, 2] = 0.0
    growing = flat @ np.linalg.inv(maps)
    out[:, 7] = np.einsum("eij,ekj,eki->e", growing, share, pull)
    return out


def _rays(offset: Array) -> tuple[Array, Array]:
    length = np.maximum(np.linalg.norm(offset, axis=2), 1e-12)
    return offset / length[..., None], length


def _covariance(ray: Array, far: Array, depth_noise: Array, angle_noise: float) -> Array:
    across = (angle_noise * far) ** 2
    along = (depth_noise[:, None] * far) ** 2
    out: Array = (along - across)[..., None, None] * (ray[..., :, None] * ray[..., None, :])
    out[..., [0, 1, 2], [0, 1, 2]] += across[..., None]
    return out


def _inverse_symmetric(m: Array) -> Array:
    """Inverses of symmetric positive matrices (..., 3, 3) by cofactors, several times faster than the general one."""
    a, b, c, d, e, f = (m[..., i, j] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)))
    out = np.empty_like(m)
    out[..., 0, 0], out[..., 1, 1], out[..., 2, 2] = d * f - e * e, a * f - c * c, a * d - b * b
    out[..., 0, 1] = out[..., 1, 0] = c * e - b * f
    out[..., 0, 2] = out[..., 2, 0] = b * e - c * d
    out[..., 1, 2] = out[..., 2, 1] = b * c - a * e
    determinant = a * out[..., 0, 0] + b * out[..., 0, 1] + c * out[..., 0, 2]
    out /= np.maximum(determinant, 1e-300)[..., None, None]
    return out
