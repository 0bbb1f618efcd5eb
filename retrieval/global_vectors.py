"""Global descriptors: one vector per photo, and the nearest neighbours among them."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Array32

from .pairs import PairSimilarity, PhotoPairs, unique_pairs
from .words import Codebook, checked_rows, nearest_words


def power_mean(rows: NDArray[np.generic], power: float) -> Array32:
    """(d,) generalised mean (GeM) of descriptors (n, d) at unit length, (mean x^power)^(1 / power): 1 is the mean, a
    large power approaches the maximum. Powers other than 1 use positive components only. Zero without descriptors."""
    floats = rows.astype(np.float64)
    if not len(floats):
        return np.zeros(rows.shape[1], np.float32)
    if power == 1.0:
        return _unit(floats.mean(axis=0))
    return _unit((np.maximum(floats, 1e-6) ** power).mean(axis=0) ** (1.0 / power))


def vlad(codebook: Codebook, rows: NDArray[np.generic]) -> Array32:
    """(words * d,) VLAD of descriptors (n, d): per word the normalised sum of the residuals of its descriptors, all of
    them together at unit length. Zero without descriptors."""
    floats = checked_rows(codebook, rows)
    word = nearest_words(codebook, floats, 1)[:, 0]
    total = np.zeros(codebook.centroids.shape, np.float64)
    np.add.at(total, word, floats - codebook.centroids[word])
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return _unit((total / np.where(length > 0.0, length, 1.0)).ravel())


def nearest_vectors(photos: NDArray[np.integer], vectors: Array32, partners: int) -> tuple[PhotoPairs, PairSimilarity]:
    """Find the `partners` most similar photos of each by the cosine of unit vectors (n, d), where it is positive."""
    count = len(photos)
    if count < 2:
        return unique_pairs(np.empty((0, 2), int), np.empty(0))
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    cosine, other = index.search(vectors, min(partners + 1, count))
    row = np.arange(count)[:, None]
    # A photo usually finds itself, but not among more than `partners` copies of it.
    itself = other == row
    itself[~itself.any(axis=1), -1] = True
    kept = ~itself & (cosine > 0.0)
    pairs = np.column_stack([np.broadcast_to(row, kept.shape)[kept], other[kept]])
    return unique_pairs(photos[pairs], np.minimum(cosine[kept], 1.0))


def _unit(vector: NDArray[np.float64]) -> Array32:
    length = np.linalg.norm(vector)
    return (vector / length if length > 0.0 else vector).astype(np.float32)
