"""Key points from matches that have positions only, as dense matchers give them.

A dense matcher starts from positions on a lattice of one photo and finds each in the other, so the same lattice
positions return in many pairs, while their answers fall anywhere, and often next to the start of something else.
Joining whatever coincides therefore chains up nearly everything into tracks that see photos twice. What is sound in
these is the star: one position and all its answers in other photos, which show one point of the world. Every match goes
to the star of that of its two ends which is matched with more photos, and a position that takes part in several stars
becomes a key point in each. So no track between these key points sees a photo twice, and no match is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DenseKeypoints:
    """Key points of all photos, stacked photo after photo, and the matches between them."""

    xy: Array
    """(k, 2) pixels."""
    start: Index
    """(photos + 1,): photo i owns rows start[i]:start[i + 1]."""
    weight: Array
    """(k,) that of the best match of each."""
    row_a: Index
    row_b: Index
    """(m,) rows of xy."""


def dense_keypoints(
    photos: int, photo_a: Index, photo_b: Index, xy_a: Array, xy_b: Array, weight: Array, merge_px: float = 0.1
) -> DenseKeypoints:
    """Key points of matches (m,) between photos; positions (m, 2) are the same if they round to the same `merge_px`."""
    photo = np.stack([photo_a, photo_b])
    xy = np.concatenate([xy_a, xy_b]).astype(np.float64)
    place = _numbered(photo.ravel(), np.round(xy / merge_px).astype(np.int64)).reshape(photo.shape)
    doubtful = np.flatnonzero(_contradicts(photos, photo, place))
    end = place.copy()
    end[:, doubtful] = _stars(photos, photo[:, doubtful], place[:, doubtful], weight[doubtful]) + place.size
    _, first, key_point = np.unique(end, return_index=True, return_inverse=True)

    owner = photo.ravel()[first]
    order = np.argsort(owner, kind="stable")
    row = np.empty(len(order), np.int64)
    row[order] = np.arange(len(order))
    row_a, row_b = row[key_point.reshape(photo.shape)]
    best = np.zeros(len(order))
    np.maximum.at(best, row_a, weight)
    np.maximum.at(best, row_b, weight)
    start = np.searchsorted(owner[order], np.arange(photos + 1)).astype(np.int64)
    return DenseKeypoints(xy[first][order], start, best, row_a, row_b)


def _contradicts(photos: int, photo: Index, place: Index) -> NDArray[np.bool_]:
    """(m,) whether the matches that hang together with each lead to two places in one photo."""
    size = place.size
    graph = coo_matrix((np.ones(place.shape[1], bool), (place[0], place[1])), shape=(size, size))
    label = np.asarray(connected_components(graph, directed=False)[1], np.int64)
    photo_of = np.full(size, -1)
    photo_of[place] = photo
    used = np.flatnonzero(photo_of >= 0)
    member = np.sort(label[used] * photos + photo_of[used])
    wrong = np.zeros(size, bool)
    wrong[member[1:][np.diff(member) == 0] // photos] = True
    answer: NDArray[np.bool_] = wrong[label[place[0]]]
    return answer


def _stars(photos: int, photo: Index, place: Index, weight: Array) -> Index:
    """(2, m) identities of the key points at both ends of each match."""
    each = np.arange(len(weight))
    count = int(place.max(initial=-1)) + 1
    partners = np.sort((place * photos + photo[::-1]).ravel())
    degree = np.bincount(partners[np.diff(partners, prepend=-1) > 0] // photos, minlength=count)
    head = (degree[place[1]] > degree[place[0]]).astype(np.int64)  # the side of each match that is the star's centre
    centre, answer_photo = place[head, each], photo[1 - head, each]
    # A centre with two answers in one photo keeps the better one; the other match stands alone.
    order = np.lexsort((-weight, answer_photo, centre))
    again = (np.diff(centre[order], prepend=-1) == 0) & (np.diff(answer_photo[order], prepend=-1) == 0)
    centre[order[again]] = count + order[again]
    out = np.empty_like(place)
    out[head, each] = centre
    out[1 - head, each] = count + len(weight) + each
    return out


def _numbered(photo: Index, cell: Index) -> Index:
    """(n,) a number for each different photo and cell (n, 2)."""
    if not len(cell):
        return photo
    cell = cell - cell.min(axis=0)
    width, height = (cell.max(axis=0) + 1).tolist()
    return np.asarray(np.unique((photo * height + cell[:, 1]) * width + cell[:, 0], return_inverse=True)[1], np.int64)
