"""Track establishment: from matches between key points to tracks of 3D points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..arrays import Index, Index32
from ..view_graph import Keypoints

TRIANGLE_CHUNK = 200_000
"""Matches processed together; bounds the memory of their neighbourhoods."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """Groups of key points that show one 3D point, at most one per photo; sorted by track."""

    row: Index
    """(m,) key points, rows of Keypoints.xy."""
    photo: Index
    """(m,)."""
    track: Index
    """(m,) 0, 1, 2 ... without gaps."""

    @property
    def count(self) -> int:
        """Number of tracks."""
        return int(self.track[-1]) + 1 if len(self.track) else 0

    def select(self, keep: NDArray[np.bool_], min_length: int = 2) -> Tracks:
        """The observations `keep`, without tracks that become shorter than min_length, tracks renumbered."""
        length = np.bincount(self.track[keep], minlength=self.count)
        keep = keep & (length[self.track] >= min_length)
        track = np.cumsum(np.diff(self.track[keep], prepend=-1) > 0) - 1  # in order: no need to look for repetitions
        return Tracks(self.row[keep], self.photo[keep], track.astype(np.int64))


def establish_tracks(keypoints: Keypoints, row_a: Index, row_b: Index) -> Tracks:
    """Establish tracks from matches: their connected components, made consistent.

    A track must not see a photo twice. One wrong match merges two tracks, and a few per pair merge all tracks of a
    large collection into one. A wrong match closes no triangle with other matches, though, while matches between three
    photos that see one point do. So inconsistent components are joined anew from the matches in triangles; tracks that
    still see a photo twice lose their observations in it.
    """
    track = _components(len(keypoints.xy), row_a, row_b)
    row, photo, twice = _members(keypoints, track, row_a, row_b)
    if twice.any():
        inconsistent = np.zeros(len(keypoints.xy), bool)
        inconsistent[np.unique(track[row[twice]])] = True  # by label: there are no more labels than key points
        kept = ~inconsistent[track[row_a]]
        at = np.flatnonzero(~kept)
        kept[at] = _in_triangle(len(keypoints.xy), row_a[at], row_b[at])
        row_a, row_b = row_a[kept], row_b[kept]
        track = _components(len(keypoints.xy), row_a, row_b)
        row, photo, twice = _members(keypoints, track, row_a, row_b)
    number = np.cumsum(np.diff(track[row], prepend=-1) > 0) - 1
    return Tracks(row, photo, number.astype(np.int64)).select(~twice)


def _components(key_points: int, row_a: Index, row_b: Index) -> Index32:
    """(key points,) label of the connected component of each."""
    graph = coo_matrix((np.ones(len(row_a), bool), (row_a, row_b)), shape=(key_points, key_points))
    return np.asarray(connected_components(graph, directed=False)[1], np.int32)


def _members(
    keypoints: Keypoints, track: Index32, row_a: Index, row_b: Index
) -> tuple[Index, Index, NDArray[np.bool_]]:
    """Matched key points sorted by track and photo, their photos, and whether their track sees that photo twice."""
    matched = np.zeros(len(keypoints.xy), bool)
    matched[row_a] = matched[row_b] = True
    row = np.flatnonzero(matched)
    photo = keypoints.photo_of(row)
    order = np.lexsort((photo, track[row]))
    row, photo = row[order], photo[order]
    same = (np.diff(track[row]) == 0) & (np.diff(photo) == 0)
    twice = np.zeros(len(row), bool)
    twice[1:] |= same
    twice[:-1] |= same
    return row, photo, twice


def _in_triangle(key_points: int, row_a: Index, row_b: Index) -> NDArray[np.bool_]:
    """(m,) whether both key points of a match are also matched with a common third one."""
    near = coo_matrix((np.ones(len(row_a), np.int32), (row_a, row_b)), shape=(key_points, key_points)).tocsr()
    near = near + near.T
    out = np.zeros(len(row_a), bool)
    for begin in range(0, len(row_a), TRIANGLE_CHUNK):
        part = slice(begin, begin + TRIANGLE_CHUNK)
        common = near[row_a[part]].multiply(near[row_b[part]])
        out[part] = np.asarray(common.sum(axis=1)).ravel() > 0
    return out


def spread_subset(tracks: Tracks, photos: int, per_photo: int) -> Tracks:
    """Select long tracks first, until every photo has about `per_photo`: enough for poses at a fraction of the cost."""
    length = np.bincount(tracks.track, minlength=tracks.count)
    start = np.concatenate([[0], np.cumsum(length)])
    have = np.zeros(photos, np.int64)
    picked = np.zeros(tracks.count, bool)
    # Greedy in blocks of equal length, so that it is one pass over lengths rather than over tracks: a block's tracks
    # are taken where they serve a photo that still lacks some, counting only the photos that lacked them before.
    for size in np.unique(length)[::-1]:
        block = np.flatnonzero(length == size)
        photo = tracks.photo[start[block][:, None] + np.arange(size)]
        for chunk in np.array_split(np.arange(len(block)), max(1, len(block) // 64)):
            useful = (have[photo[chunk]] < per_photo).any(axis=1)
            picked[block[chunk][useful]] = True
            np.add.at(have, photo[chunk][useful].ravel(), 1)
        if (have >= per_photo).all():
            break
    return tracks.select(picked[tracks.track])
