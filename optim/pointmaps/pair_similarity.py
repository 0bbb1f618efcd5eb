"""Robust similarities between the point maps of two photos, for all pairs at once.

Arrays are padded to one number of matches per pair; padding has weight zero.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array
from ..option_ranges import Count, Positive
from ..rotations import nearest_rotation

_PAIRS_AT_ONCE = 512  # bounds memory
_IRLS_ITERATIONS = 3


@dataclass(frozen=True)
class PairSimilarityOptions:
    """Options of `estimate_pair_similarities`. Errors are relative to the distance of a point from its camera."""

    samples: Count = 24
    """Similarities through three random matches that each pair tries: enough for half of the matches wrong."""
    max_error: Positive = 0.1
    """Error from which on a match counts as an outlier when samples are compared. Predicted depths are good to a few
    percent."""
    loss_scale: Positive = 5.0
    """Scale of the final Geman-McClure loss over the error of the best third of the matches: depths may be rough, and
    half of the matches wrong. At least half of `max_error`."""
    min_error: Positive = 0.005
    """No pair counts as more accurate than this."""


_DEFAULTS = PairSimilarityOptions()


@dataclass(frozen=True, eq=False)
class PairSimilarities:
    """Per pair the similarity that takes points of photo a to photo b: y = scale R x + t."""

    scale: Array
    """(e,)."""
    rotation: Array
    """(e, 3, 3)."""
    translation: Array
    """(e, 3)."""
    support: Array
    """(e,) weight of the inlier matches; 0 for pairs with fewer than three matches."""
    error: Array
    """(e,) weighted RMS distance of the matches, relative to the distance of a point from its camera."""

    def select(self, rows: NDArray[np.int64]) -> PairSimilarities:
        """The pairs `rows`."""
        return PairSimilarities(*(getattr(self, each.name)[rows] for each in fields(self)))

    def weight(self, min_error: float = _DEFAULTS.min_error) -> Array:
        """(e,) weight of each pair in an average: support / error^2."""
        return np.asarray(self.support / np.maximum(self.error, min_error) ** 2)


def estimate_pair_similarities(
    x: Array, y: Array, weight: Array, seed: int = 0, options: PairSimilarityOptions = _DEFAULTS
) -> PairSimilarities:
    """Estimate similarities from matched points x, y (e, k, 3) in the frames of both cameras and weights (e, k).

    Random triples of matches give hypotheses, scored by truncated error; the best one starts a few iterations of
    reweighted least squares.
    """
    parts = [
        _estimate(x[rows], y[rows], weight[rows], seed, options)
        for rows in (slice(begin, begin + _PAIRS_AT_ONCE) for begin in range(0, len(x), _PAIRS_AT_ONCE))
    ]
    empty = PairSimilarities(np.zeros(0), np.zeros((0, 3, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros(0))
    names = [each.name for each in fields(empty)]
    return PairSimilarities(*(np.concatenate([getattr(p, name) for p in [*parts, empty]]) for name in names))


def _estimate(x: Array, y: Array, weight: Array, seed: int, options: PairSimilarityOptions) -> PairSimilarities:
    distance = np.linalg.norm(y, axis=2)
    inverse_distance = np.where(weight > 0, 1.0 / np.maximum(distance, 1e-12), 0.0)  # errors grow with the distance
    scale, rotation, translation = _best_sample(x, y, weight, inverse_distance, seed, options)
    robust_weight = weight
    for _ in range(_IRLS_ITERATIONS):
        error = _distances(x, y, scale, rotation, translation) * inverse_distance
        padded = np.sort(np.where(weight > 0, error, np.inf), axis=1)
        best_third = padded[np.arange(len(x)), (weight > 0).sum(axis=1) // 3]
        best_third = np.where(np.isfinite(best_third), best_third, 0.0)
        loss_scale = np.maximum(options.loss_scale * best_third, 0.5 * options.max_error)[:, None]
        robust_weight = weight / (1.0 + (error / loss_scale) ** 2) ** 2
        scale, rotation, translation = umeyama(x, y, robust_weight * inverse_distance**2)
    error = _distances(x, y, scale, rotation, translation) * inverse_distance
    total = robust_weight.sum(axis=1)
    mean = (robust_weight * error**2).sum(axis=1) / np.maximum(total, 1e-300)
    enough = (weight > 0).sum(axis=1) >= 3
    return PairSimilarities(scale, rotation, translation, np.where(enough, total, 0.0), np.sqrt(mean))


def _best_sample(
    x: Array, y: Array, weight: Array, inverse_distance: Array, seed: int, options: PairSimilarityOptions
) -> tuple[Array, Array, Array]:
    """The similarity of least truncated error, among that of all matches and those of random triples."""
    e, k = weight.shape
    samples = options.samples
    # Matches of larger weight are drawn more often. Every pair uses the same random numbers, so that its result does
    # not depend on the other pairs.
    cumulative = np.cumsum(weight, axis=1)
    draws = np.random.default_rng(seed).random((samples, 3))
    rows = np.arange(e)[:, None, None]
    at = (cumulative[:, None, None, :] < (draws * cumulative[:, -1:, None])[..., None]).sum(axis=3)
    at = np.minimum(at, k - 1)
    triples = umeyama(x[rows, at].reshape(-1, 3, 3), y[rows, at].reshape(-1, 3, 3), np.ones((e * samples, 3)))
    all_matches = umeyama(x, y, weight * inverse_distance**2)
    scale, rotation, translation = (
        np.concatenate([one[:, None], many.reshape(e, samples, *many.shape[1:])], axis=1)
        for one, many in zip(all_matches, triples, strict=True)
    )
    cost = np.empty((e, 1 + samples))
    for sample in range(1 + samples):
        error = _distances(x, y, scale[:, sample], rotation[:, sample], translation[:, sample]) * inverse_distance
        cost[:, sample] = (weight * np.minimum(error / options.max_error, 1.0)).sum(axis=1)
    best = np.argmin(cost, axis=1)
    each = np.arange(e)
    return scale[each, best], rotation[each, best], translation[each, best]


def _distances(x: Array, y: Array, scale: Array, rotation: Array, translation: Array) -> Array:
    """(e, k) distances |scale R x + t - y|."""
    moved = scale[:, None, None] * (x @ rotation.transpose(0, 2, 1)) + translation[:, None]
    distance: Array = np.linalg.norm(moved - y, axis=2)
    return distance


def umeyama(x: Array, y: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Least-squares similarities of n point sets: scales (n,), rotations (n, 3, 3), translations (n, 3).

    Minimises sum_k weight |scale R x + t - y|^2 for x, y (n, k, 3) and weights (n, k); Umeyama 1991. The same for one
    set, with checks, is `similarity.fit_similarity`.
    """
    share = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    mean_x, mean_y = (np.einsum("nk,nki->ni", share, points) for points in (x, y))
    a, b = x - mean_x[:, None], y - mean_y[:, None]
    covariance = (b * share[..., None]).transpose(0, 2, 1) @ a
    rotation = nearest_rotation(covariance)
    variance = np.einsum("nk,nki,nki->n", share, a, a)
    scale = np.einsum("nij,nij->n", rotation, covariance) / np.maximum(variance, 1e-300)
    scale = np.where((variance > 0) & (scale > 0), scale, 1.0)
    return scale, rotation, mean_y - scale[:, None] * np.einsum("nij,nj->ni", rotation, mean_x)
