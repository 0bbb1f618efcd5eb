"""Key points from matches that have positions only, as dense matchers give them.

A dense matcher starts from positions on a lattice of one photo and finds each in the other, so the same lattice
positions recur in many pairs, while the positions found fall anywhere, often next to those of another point. Joining
all coinciding positions would therefore chain nearly everything into tracks that see photos twice. What is reliable is
the star: one position and all positions matched with it in other photos, which show one 3D point. Every match is
assigned to the star of that of its two ends which is matched with more photos, and a position in several stars becomes
a key point in each. So no track between these key points sees a photo twice, and no match is lost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..arrays import Array, Index
from ..view_graph import KeypointOptions, Keypoints, ViewGraph, build_view_graph
from .keypoint_error import detected_keypoint_error_px, relative_sigma, scatter_px


@dataclass(frozen=True, eq=False)
class DenseKeypoints:
    """Key points of all photos, stacked photo after photo, and the matches between them."""

    xy: Array
    """(k, 2) pixels."""
    start: Index
    """(photos + 1,): photo i owns rows start[i]:start[i + 1]."""
    weight: Array
    """(k,) weight of the best match of each."""
    row_a: Index
    row_b: Index
    """(m,) rows of xy."""
    end: Index
    """(k,) match end that gave each position: end i is that of match i in its first photo, m + i that in its second."""


def dense_keypoints(
    photos: int, photo_a: Index, photo_b: Index, xy_a: Array, xy_b: Array, weight: Array, merge_px: float
) -> DenseKeypoints:
    """Make key points of matches (m,); positions (m, 2) coincide if they round to the same multiple of `merge_px`."""
    photo = np.stack([photo_a, photo_b])
    xy = np.concatenate([xy_a, xy_b]).astype(np.float64)
    place = _numbered(photo.ravel(), np.round(xy / merge_px).astype(np.int64)).reshape(photo.shape)
    inconsistent = np.flatnonzero(_sees_a_photo_twice(photos, photo, place))
    end = place.copy()
    stars = _stars(photos, photo[:, inconsistent], place[:, inconsistent], weight[inconsistent])
    end[:, inconsistent] = stars + place.size
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
    return DenseKeypoints(xy[first][order], start, best, row_a, row_b, first[order].astype(np.int64))


def dense_view_graph(
    size: Index,
    pairs: Index,
    match_count: Index,
    xy_a: Array,
    xy_b: Array,
    weight: NDArray[np.floating],
    options: KeypointOptions,
    **columns: Any,
) -> tuple[ViewGraph, Index]:
    """Build the view graph of matches that have positions only; also returns DenseKeypoints.end. `size` (photos, 2).

    Arguments are as for build_view_graph. The expected error of the key points is estimated from the scatter of the
    matches: every dense matcher has a precision of its own.
    """
    photo_a, photo_b = (np.repeat(side, match_count) for side in pairs.T)
    made = dense_keypoints(len(size), photo_a, photo_b, xy_a, xy_b, weight.astype(np.float64), options.merge_px)
    keypoints = Keypoints(made.xy, made.start, size, relative_sigma(1.0 / made.weight, made.start, pairs, options))
    graph = build_view_graph(
        keypoints, pairs, match_count, made.row_a, made.row_b, weight=weight, dense_options=options, **columns
    )
    scatter = scatter_px(graph, xy_a, xy_b)  # of the positions as matched, before merging
    scatter = detected_keypoint_error_px(size, options) if np.isnan(scatter) else scatter
    return replace(graph, keypoint_error_px=options.error_over_scatter * scatter), made.end


def leave_out(graph: ViewGraph, pairs: NDArray[np.integer]) -> ViewGraph:
    """The graph without these pairs (n, 2), dense key points made anew from the remaining matches.

    The matches of an inconsistent pair must not decide which matches of consistent ones are joined.
    """
    left = graph.without(pairs)
    if left is graph or graph.dense_options is None or graph.weight is None:
        return left
    rows, keypoints = left.all_match_rows(), graph.keypoints
    row_a, row_b = left.matches()
    columns = {name: None if (each := getattr(left, name)) is None else each[rows] for name in ("depth_a", "depth_b")}
    made, end = dense_view_graph(
        keypoints.size,
        left.pairs,
        left.match_count,
        keypoints.xy[row_a],
        keypoints.xy[row_b],
        graph.weight[rows],
        graph.dense_options,
        kind=left.kind,
        fundamental=left.fundamental,
        focal_px=left.focal_px,
        depth_focal_px=left.depth_focal_px,
        unmatched=left.unmatched,
        **columns,
    )
    if keypoints.rgb is None:
        return made
    return replace(made, keypoints=replace(made.keypoints, rgb=keypoints.rgb[np.concatenate([row_a, row_b])[end]]))


def _sees_a_photo_twice(photos: int, photo: Index, place: Index) -> NDArray[np.bool_]:
    """(m,) whether the connected component of each match has two positions in one photo."""
    size = place.size
    graph = coo_matrix((np.ones(place.shape[1], bool), (place[0], place[1])), shape=(size, size))
    label = np.asarray(connected_components(graph, directed=False)[1], np.int64)
    photo_of = np.full(size, -1)
    photo_of[place] = photo
    used = np.flatnonzero(photo_of >= 0)
    member = np.sort(label[used] * photos + photo_of[used])
    twice = np.zeros(size, bool)
    twice[member[1:][np.diff(member) == 0] // photos] = True
    out: NDArray[np.bool_] = twice[label[place[0]]]
    return out


def _stars(photos: int, photo: Index, place: Index, weight: Array) -> Index:
    """(2, m) identities of the key points at both ends of each match."""
    each = np.arange(len(weight))
    count = int(place.max(initial=-1)) + 1
    partners = np.sort((place * photos + photo[::-1]).ravel())
    degree = np.bincount(partners[np.diff(partners, prepend=-1) > 0] // photos, minlength=count)
    head = (degree[place[1]] > degree[place[0]]).astype(np.int64)  # the side of each match that is the star's centre
    centre, partner_photo = place[head, each], photo[1 - head, each]
    # A centre matched twice in one photo keeps the better match; the other becomes a track of its own.
    order = np.lexsort((-weight, partner_photo, centre))
    again = (np.diff(centre[order], prepend=-1) == 0) & (np.diff(partner_photo[order], prepend=-1) == 0)
    centre[order[again]] = count + order[again]
    out = np.empty_like(place)
    out[head, each] = centre
    out[1 - head, each] = count + len(weight) + each
    return out


def _numbered(photo: Index, cell: Index) -> Index:
    """(n,) number of each distinct photo and cell (n, 2)."""
    if not len(cell):
        return photo
    cell = cell - cell.min(axis=0)
    width, height = (cell.max(axis=0) + 1).tolist()
    return np.asarray(np.unique((photo * height + cell[:, 1]) * width + cell[:, 0], return_inverse=True)[1], np.int64)
