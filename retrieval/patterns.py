"""Scene graphs by sequence and by key frames, as published for pair networks (DUSt3R, MASt3R-SfM).

Pairs are (n, 2) photo indices, smaller first, sorted, without repetition; matchers decode both orders of a pair.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from unposed.optim.arrays import Array, Index

from .pairs import PhotoPairs, unique_pairs


def window_pairs(photos: int, window: int, *, cyclic: bool = True, powers: bool = False) -> PhotoPairs:
    """Pair every photo with the `window` next ones, or with those 1, 2, 4 ... 2^(window - 1) places ahead. `cyclic`
    continues at the first photo after the last."""
    step = 2 ** np.arange(window) if powers else np.arange(1, window + 1)
    step = step[step < photos]  # larger steps leave the collection, or go around it
    first, second = (grid.ravel() for grid in np.meshgrid(np.arange(photos), step, indexing="ij"))
    second = second + first
    if cyclic:
        return _unique(first, second % photos)
    inside = second < photos
    return _unique(first[inside], second[inside])


def star_pairs(photos: int, centre: int) -> PhotoPairs:
    """Pair one photo with all others."""
    return _unique(np.full(photos, centre), np.arange(photos))


def farthest_points(
    similarity: csr_array, count: int | None, start: int, stop_distance: float = 0.0
) -> tuple[Index, Array]:
    """Farthest-point sampling: photos each as dissimilar as possible from all before, and their distances 1 -
    similarity to these (0 for the first).

    `similarity` (n, n) is sparse, with 0 where nothing is stored. Stops after `count` photos, or where no photo is
    farther than `stop_distance`.
    """
    photos = similarity.shape[0]
    chosen, distance = [start], [0.0]
    nearest = _distances(similarity, start)
    while len(chosen) < (photos if count is None else min(count, photos)):
        nearest[chosen[-1]] = -np.inf  # chosen once, whatever the similarity of a photo to itself
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
    """All pairs of key frames, every photo with its most similar key frame and with its most similar photos; also
    returns the key frames.

    Key frames come from `farthest_points`, so they cover the collection. `similarity` (n, n), row i holds the photos
    similar to i; a stored diagonal takes one of the places of a photo.
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
    """(photos, photos) symmetric similarity matrix of the pairs."""
    value = np.tile(similarity.astype(np.float64), 2)
    return csr_array((value, (pairs.T.ravel(), pairs[:, ::-1].T.ravel())), shape=(photos, photos))


def _unique(first: NDArray[np.integer], second: NDArray[np.integer]) -> PhotoPairs:
    return unique_pairs(np.stack([first, second], axis=1), np.ones(len(first)))[0]


def _distances(similarity: csr_array, photo: int) -> Array:
    row = slice(similarity.indptr[photo], similarity.indptr[photo + 1])
    distance = np.ones(similarity.shape[0])
    distance[similarity.indices[row]] = 1.0 - similarity.data[row]
    return distance
