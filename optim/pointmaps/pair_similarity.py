"""Similarities between the point maps of two photos, for all pairs at once.

Arrays are padded to one number of matches per pair; a weight of zero marks what is no match.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..rotations import nearest_rotation

Array = NDArray[np.float64]

SAMPLES = 24
"""Guesses per pair, from three matches each: enough for half of them wrong."""

TOLERANCE = 0.1
"""By the distance of a point from its camera: what is further off counts as an outlier when guesses are compared.
Predicted depths are good to a few percent."""

LEAST_ERROR = 0.005
"""No pair counts as more exact than this."""

CHUNK = 512
"""Pairs treated together; bounds memory."""


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
    """(e,) weight of the matches that agree; 0 where there were fewer than three."""
    error: Array
    """(e,) their weighted root mean square distance, by the distance of a point from its camera."""

    def select(self, rows: NDArray[np.int64]) -> PairSimilarities:
        """The pairs `rows`."""
        return PairSimilarities(*(getattr(self, each.name)[rows] for each in fields(self)))

    def strength(self) -> Array:
        """(e,) how much each pair should count beside the others."""
        return np.asarray(self.support / np.maximum(self.error, LEAST_ERROR) ** 2)


def pair_similarities(x: Array, y: Array, weight: Array, seed: int = 0) -> PairSimilarities:
    """From matched points (e, k, 3) in the frames of both cameras and weights (e, k)."""
    parts = [
        _robust(x[begin : begin + CHUNK], y[begin : begin + CHUNK], weight[begin : begin + CHUNK], seed)
        for begin in range(0, len(x), CHUNK)
    ]
    empty = PairSimilarities(np.zeros(0), np.zeros((0, 3, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros(0))
    names = [each.name for each in fields(empty)]
    return PairSimilarities(*(np.concatenate([getattr(p, name) for p in [*parts, empty]]) for name in names))


def _robust(x: Array, y: Array, weight: Array, seed: int) -> PairSimilarities:
    distance = np.linalg.norm(y, axis=2)
    near = np.where(weight > 0, 1.0 / np.maximum(distance, 1e-12), 0.0)  # errors grow with the distance
    scale, rotation, translation = _best_guess(x, y, weight, near, seed)
    trusted = weight
    for _ in range(3):
        error = _distances(x, y, scale, rotation, translation) * near
        # Five times what the better third keeps within: depths may be rough, and half of the matches wrong.
        padded = np.sort(np.where(weight > 0, error, np.inf), axis=1)
        usual = padded[np.arange(len(x)), (weight > 0).sum(axis=1) // 3]
        usual = np.where(np.isfinite(usual), usual, 0.0)
        trusted = weight / (1.0 + (error / np.maximum(5.0 * usual, 0.5 * TOLERANCE)[:, None]) ** 2) ** 2
        scale, rotation, translation = umeyama(x, y, trusted * near**2)
    error = _distances(x, y, scale, rotation, translation) * near
    total = trusted.sum(axis=1)
    mean = (trusted * error**2).sum(axis=1) / np.maximum(total, 1e-300)
    enough = (weight > 0).sum(axis=1) >= 3
    return PairSimilarities(scale, rotation, translation, np.where(enough, total, 0.0), np.sqrt(mean))


def _best_guess(x: Array, y: Array, weight: Array, near: Array, seed: int) -> tuple[Array, Array, Array]:
    """The best of the similarities through all matches and through random triples, by truncated error."""
    e, k = weight.shape
    # Good matches are drawn more often; every pair draws by the same random numbers, so its result is its own.
    cumulative = np.cumsum(weight, axis=1)
    draws = np.random.default_rng(seed).random((SAMPLES, 3))
    rows = np.arange(e)[:, None, None]
    at = (cumulative[:, None, None, :] < (draws * cumulative[:, -1:, None])[..., None]).sum(axis=3)
    at = np.minimum(at, k - 1)
    guesses = umeyama(x[rows, at].reshape(-1, 3, 3), y[rows, at].reshape(-1, 3, 3), np.ones((e * SAMPLES, 3)))
    everyone = umeyama(x, y, weight * near**2)
    scale, rotation, translation = (
        np.concatenate([one[:, None], many.reshape(e, SAMPLES, *many.shape[1:])], axis=1)
        for one, many in zip(everyone, guesses, strict=True)
    )
    cost = np.empty((e, 1 + SAMPLES))
    for guess in range(1 + SAMPLES):
        error = _distances(x, y, scale[:, guess], rotation[:, guess], translation[:, guess]) * near
        cost[:, guess] = (weight * np.minimum(error / TOLERANCE, 1.0)).sum(axis=1)
    best = np.argmin(cost, axis=1)
    each = np.arange(e)
    return scale[each, best], rotation[each, best], translation[each, best]


def _distances(x: Array, y: Array, scale: Array, rotation: Array, translation: Array) -> Array:
    moved = scale[:, None, None] * (x @ rotation.transpose(0, 2, 1)) + translation[:, None]
    distance: Array = np.linalg.norm(moved - y, axis=2)
    return distance


def umeyama(x: Array, y: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Scales (n,), rotations (n, 3, 3) and translations (n, 3) that bring x (n, k, 3) closest to y by weights (n, k).

    As similarity.fit_similarity, for many sets at once.
    """
    share = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    mean_x, mean_y = (np.einsum("nk,nki->ni", share, points) for points in (x, y))
    a, b = x - mean_x[:, None], y - mean_y[:, None]
    mixed = (b * share[..., None]).transpose(0, 2, 1) @ a
    rotation = nearest_rotation(mixed)
    variance = np.einsum("nk,nki,nki->n", share, a, a)
    scale = np.einsum("nij,nij->n", rotation, mixed) / np.maximum(variance, 1e-300)
    scale = np.where((variance > 0) & (scale > 0), scale, 1.0)
    return scale, rotation, mean_y - scale[:, None] * np.einsum("nij,nj->ni", rotation, mean_x)
