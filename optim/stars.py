"""Key points and tracks from matches that have positions only, as dense matchers give them.

A dense matcher starts from positions on a lattice of one photo and finds each in the other, so the same lattice
positions return in many pairs, while their answers fall anywhere, and often next to the start of something else.
Joining whatever coincides therefore chains up everything, and components that see a photo twice would take nearly all
matches with them. What is sound is the star: one position and all its answers in other photos, which show one point of
the world. Every match goes to the star of that of its two ends which is matched with more photos, and a position that
takes part in several stars becomes a key point in each. So components of the matches between these key points are the
stars, none of them sees a photo twice, and no match is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class KeyPoints:
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


def key_points(
    photos: int, photo_a: Index, photo_b: Index, xy_a: Array, xy_b: Array, weight: Array, merge_px: float = 0.1
) -> KeyPoints:
    """Stars from matches (m,) between photos; positions (m, 2) are the same if they round to the same `merge_px`."""
    m = len(weight)
    photo = np.stack([photo_a, photo_b])
    xy = np.stack([xy_a, xy_b]).astype(np.float64).reshape(2, m, 2)
    place = _numbered(photo.ravel(), np.round(xy.reshape(-1, 2) / merge_px).astype(np.int64)).reshape(2, m)

    partners = np.unique(np.concatenate([place[0] * photos + photo_b, place[1] * photos + photo_a])) // photos
    degree = np.bincount(partners, minlength=2 * m)
    head = (degree[place[1]] > degree[place[0]]).astype(np.int64)  # the side of each match that is the star's centre
    each = np.arange(m)
    centre, answer_photo = place[head, each], photo[1 - head, each]
    # A centre with two answers in one photo keeps the better one; the other match stands alone.
    order = np.lexsort((-weight, answer_photo, centre))
    again = (np.diff(centre[order], prepend=-1) == 0) & (np.diff(answer_photo[order], prepend=-1) == 0)
    star = centre
    star[order[again]] = 2 * m + order[again]

    # One key point per star for its centre, and one per match for the answer.
    _, first, centre_row = np.unique(star, return_index=True, return_inverse=True)
    owner = np.concatenate([photo[head, each][first], answer_photo])
    order = np.argsort(owner, kind="stable")
    row = np.empty(len(order), np.int64)
    row[order] = np.arange(len(order))
    best = np.zeros(len(first))
    np.maximum.at(best, centre_row, weight)
    ends = np.empty((2, m), np.int64)
    ends[head, each] = row[centre_row]
    ends[1 - head, each] = row[len(first) + each]
    return KeyPoints(
        xy=np.concatenate([xy[head, each][first], xy[1 - head, each]])[order],
        start=np.searchsorted(owner[order], np.arange(photos + 1)).astype(np.int64),
        weight=np.concatenate([best, weight])[order],
        row_a=ends[0],
        row_b=ends[1],
    )


def _numbered(photo: Index, cell: Index) -> Index:
    """(n,) a number for each different photo and cell (n, 2)."""
    if not len(cell):
        return photo
    cell = cell - cell.min(axis=0)
    width, height = (cell.max(axis=0) + 1).tolist()
    return np.asarray(np.unique((photo * height + cell[:, 1]) * width + cell[:, 0], return_inverse=True)[1], np.int64)
