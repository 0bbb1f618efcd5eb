"""One vector for each photo, and the photos whose vectors are nearest: cheap, and blind to what is small."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .neighbours import Pairs, Similarity, unique_pairs
from .words import Codebook, Floats32, checked_rows, nearest_words

BLOCK_BYTES = 64 << 20


def power_mean(rows: NDArray[np.generic], power: float) -> Floats32:
    """(d,) generalised mean of descriptors (n, d), at unit length: 1 is the mean, a large power the maximum. Powers
    other than 1 are of what is positive. Zero without descriptors."""
    floats = rows.astype(np.float64)
    if not len(floats):
        return np.zeros(rows.shape[1], np.float32)
    if power == 1.0:
        return _unit(floats.mean(axis=0))
    return _unit((np.maximum(floats, 1e-6) ** power).mean(axis=0) ** (1.0 / power))


def vlad(codebook: Codebook, rows: NDArray[np.generic]) -> Floats32:
    """(words * d,) how the descriptors (n, d) deviate from their words: one direction for each word, all of them at
    unit length together. Zero without descriptors."""
    floats = checked_rows(codebook, rows)
    word = nearest_words(codebook, floats, 1)[:, 0]
    total = np.zeros(codebook.centroids.shape, np.float64)
    np.add.at(total, word, floats - codebook.centroids[word])
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return _unit((total / np.where(length > 0.0, length, 1.0)).ravel())


def nearest_vectors(photos: NDArray[np.integer], vectors: Floats32, partners: int) -> tuple[Pairs, Similarity]:
    """The best partners of each photo by the cosine of unit vectors (n, d), where it is positive."""
    count = len(photos)
    if count < 2:
        return unique_pairs(np.empty((0, 2), int), np.empty(0))
    kept = min(partners, count - 1)
    step = max(1, BLOCK_BYTES // (4 * count))
    found = []
    for start in range(0, count, step):
        cosine = vectors[start : start + step] @ vectors.T
        here = np.arange(len(cosine))
        cosine[here, start + here] = -1.0  # nobody is his own partner
        best = np.argpartition(cosine, count - kept, axis=1)[:, count - kept :]
        value = np.take_along_axis(cosine, best, axis=1)
        row, column = np.nonzero(value > 0.0)
        found.append((np.column_stack([start + row, best[row, column]]), value[row, column]))
    pairs, similarity = (np.concatenate(part) for part in zip(*found, strict=True))
    return unique_pairs(photos[pairs], np.minimum(similarity, 1.0))


def _unit(vector: NDArray[np.float64]) -> Floats32:
    length = np.linalg.norm(vector)
    return (vector / length if length > 0.0 else vector).astype(np.float32)
