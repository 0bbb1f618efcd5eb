"""Pairs of photos as arrays: (n, 2) photo indices with the smaller index first, and a similarity for each pair."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PhotoPairs = NDArray[np.int32]
"""(n, 2), smaller index first, sorted, no pair twice."""
PairSimilarity = NDArray[np.float32]
"""(n,), in [0, 1]."""


def unique_pairs(pairs: NDArray[np.integer], similarity: NDArray[np.floating]) -> tuple[PhotoPairs, PairSimilarity]:
    """Sort pairs (n, 2), drop pairs of a photo with itself, and keep the largest similarity of repeated pairs."""
    pairs = np.sort(pairs, axis=1)
    other = pairs[:, 0] != pairs[:, 1]
    pairs, similarity = pairs[other], similarity[other]
    order = np.lexsort((-similarity, pairs[:, 1], pairs[:, 0]))
    pairs, similarity = pairs[order], similarity[order]
    first = np.any(np.diff(pairs, axis=0, prepend=-1), axis=1)
    return pairs[first].astype(np.int32), similarity[first].astype(np.float32)
