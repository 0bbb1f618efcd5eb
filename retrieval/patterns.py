"""Pairs by place in the collection or by a few key frames, as scene graphs of pairwise networks are made.

Pairs are (n, 2) photo indices, smaller first, sorted, none twice: what a network sees in (a, b) and in (b, a) is the
matcher's affair.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from unposed.optim.arrays import Array, Index

from .pairs import PhotoPairs, unique_pairs


def window_pairs(photos: int, window: int, *, cyclic: bool = True, powers: bool = False) -> PhotoPairs:
    """Every photo with the `window` next ones, or with those 1, 2, 4, ... 2^(window - 1) places away.

    cyclic: after the last photo comes the first.
    """
    step = 2 ** np.arange(window) if powers else np.arange(1, window + 1)
    step = step[step < photos]  # further is nowhere, or once around
    first, second = (grid.ravel() for grid in np.meshgrid(np.arange(photos), step, indexing="ij"))
    second = second + first
    if cyclic:
        return _unique(first, second % photos)
    inside = second < photos
    return _unique(first[inside], second[inside])


def star_pairs(photos: int, centre: int) -> PhotoPairs:
    """One photo with all others."""
    return _unique(np.full(photos, centre), np.arange(photos))


def farthest_points(
    similarity: csr_array, count: int | None, start: int, stop_distance: float = 0.0
) -> tuple[Index, Array]:
    """Photos, each as unlike all before it as can be, and their distances (1 - similarity) to these; 0 for the first.

    `similarity` (n, n), what is not stored is 0. Ends after `count` photos, or when none is further than
    `stop_distance` from all that were chosen.
    """
    photos = similarity.shape[0]
    chosen, distance = [start], [0.0]
    nearest = _distances(similarity, start)
    while len(chosen) < (photos if count is None else min(count, photos)):
        nearest[chosen[-1]] = -np.inf  # chosen ones are not chosen again, whatever a photo's similarity to itself
        following = int(np.argmax(nearest))
        if nearest[following] < stop_distance:
            break
        chosen.append(following)
        distance.append(float(nearest[following]))
        nearest = np.minimum(nearest, _distances(similarity, following))
    return np.array(chosen, np.int64), np.array(distance)


def key_frame_pairs(
    similarity: csr_array, key_frames: int, neighbours: int, start: int = 0
) -> tuple[PhotoPairs, Index]:
    """All pairs of key frames, every photo with the most similar of them and with its own most similar ones; and the
    key frames.

    `similarity` (n, n), row i holds what is like photo i. A photo takes one of its own places if the diagonal is
    stored. Key frames are `farthest_points`, which spread over all that there is to see.
    """
    photos = similarity.shape[0]
    keys = farthest_points(similarity, key_frames, start)[0] if key_frames and photos else np.zeros(0, np.int64)
    first, second = [np.repeat(keys, len(keys))], [np.tile(keys, len(keys))]
    is_key = np.isin(np.arange(photos), keys)
    for photo in range(photos):
        row = slice(similarity.indptr[photo], similarity.indptr[photo + 1])
        score, others = similarity.data[row], similarity.indices[row]
        best = others[np.argsort(-score, kind="stable")]
        partners = [best[:neighbours]]
        if not is_key[photo]:
            partners.append(best[is_key[best]][:1])
        for each in partners:
            first.append(np.full(len(each), photo))
            second.append(each.astype(np.int64))
    return _unique(np.concatenate(first), np.concatenate(second)), keys


def symmetric(photos: int, pairs: NDArray[np.integer], similarity: NDArray[np.floating]) -> csr_array:
    """(photos, photos) similarity of both photos of each pair to each other."""
    value = np.tile(similarity.astype(np.float64), 2)
    return csr_array((value, (pairs.T.ravel(), pairs[:, ::-1].T.ravel())), shape=(photos, photos))


def _unique(first: NDArray[np.integer], second: NDArray[np.integer]) -> PhotoPairs:
    return unique_pairs(np.stack([first, second], axis=1), np.ones(len(first)))[0]


def _distances(similarity: csr_array, photo: int) -> Array:
    row = slice(similarity.indptr[photo], similarity.indptr[photo + 1])
    distance = np.ones(similarity.shape[0])
    distance[similarity.indices[row]] = 1.0 - similarity.data[row]
    return distance
