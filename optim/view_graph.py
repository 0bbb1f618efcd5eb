"""The view graph: key points of all photos and the verified correspondences of all pairs.

It is built once per collection and read by every later step: the search for doppelgangers, mapping, refinement and
reports. All arrays are columns with one entry per key point, edge or match, so that they can lie in a memory-mapped
file, and removing edges copies nothing per match.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Array, Index, Mask
from .option_ranges import Count, Positive
from .rigs import Rigs, frames_of

KINDS = ("general", "planar", "rotation")
"""Kinds of two-view geometry, indexed by ViewGraph.kind."""


@dataclass(frozen=True)
class KeypointOptions:
    """How exact key points are taken to be, and how they are made of matches without key points."""

    reference_side_px: Count = 1600
    """Longer side, in pixels, of the photos that detectors work on: a detected key point is as exact as one pixel of a
    photo of this size."""
    min_sigma: Positive = 0.5
    """Least relative standard deviation of a key point: of smaller scales none was measured."""
    max_sigma: Positive = 3.0
    """Largest relative standard deviation of a key point: of larger scales none was measured."""
    merge_px: Positive = 0.1
    """Positions of dense matches in one photo that round to the same multiple of so many pixels are one key point."""
    error_over_scatter: Positive = 3.0
    """Expected error of a dense key point over the scatter of the matches about their epipolar lines. The scatter is
    what verification has left of the error, and only its component across the lines."""


@dataclass(frozen=True, eq=False)
class Keypoints:
    """Key points of all photos, stacked photo after photo."""

    xy: Array
    """(k, 2) pixels."""
    start: Index
    """(photos + 1,): photo i owns rows start[i]:start[i + 1]."""
    size: Index
    """(photos, 2) width and height in pixels."""
    sigma: Array | None = None
    """(k,) relative standard deviation of each position, 1 for the typical one; None: all equal."""
    rgb: NDArray[np.uint8] | None = None
    """(k, 3) colour of the photo at the key point; None: unknown."""

    def __len__(self) -> int:
        """Number of photos."""
        return len(self.size)

    def rows_of(self, photo: int) -> slice:
        """Rows of the key points of a photo."""
        return slice(int(self.start[photo]), int(self.start[photo + 1]))

    def photo_of(self, row: Index) -> Index:
        """Photo of each row."""
        return np.searchsorted(self.start, row, side="right") - 1


@dataclass(frozen=True, eq=False)
class ViewGraph:
    """Photos as nodes and verified pairs as edges, with correspondences and two-view geometry of each edge.

    A graph made by `select` shares the columns of matches with the one it was selected from.
    """

    keypoints: Keypoints
    pairs: Index
    """(e, 2) photos a < b."""
    match_start: Index
    match_stop: Index
    """(e,): edge i owns rows match_start[i]:match_stop[i] of row_a and row_b."""
    row_a: Index
    row_b: Index
    """(m,) matched key points, rows of `keypoints`."""
    kind: NDArray[np.int8]
    """(e,) index into KINDS."""
    fundamental: Array
    """(e, 3, 3), x_b^T F x_a = 0 in pixels; zeros for pure rotations."""
    focal_px: Array
    """(e,) focal length estimated from the pair alone, both photos sharing a camera; NaN where it was not estimated."""
    weight: NDArray[np.floating] | None = None
    """(m,) confidence of the matcher in (0, 1]; None: all equal."""
    depth_a: Array | None = None
    depth_b: Array | None = None
    """(m,) predicted depth of each match in the camera of its own photo, up to one scale per side of an edge; NaN where
    unknown. None: the matcher predicts no depths."""
    depth_focal_px: Array | None = None
    """(e, 2) focal lengths under which the depths of the two sides were predicted; NaN where unknown."""
    keypoint_error_px: float = 1.0
    """Expected error of a key point, in pixels of the original photos, to within a factor of a few. The unit of all
    thresholds of mapping and refinement."""
    photo_error_px: Array | None = None
    """(photos,) the error that the size of each photo alone suggests; None: nothing tells photos apart."""
    dense_options: KeypointOptions | None = None
    """How key points were made of the positions of dense matches; None: a detector found them."""
    unmatched: Mapping[int, str] = field(default_factory=dict)
    """Reason by photo, of photos that could not be matched with any other."""
    rigs: Rigs | None = None
    """Which photos are fixed to each other, which connects them as edges do; None: none are."""

    def __len__(self) -> int:
        """Number of edges."""
        return len(self.pairs)

    @property
    def dense(self) -> bool:
        """Whether key points were made of the positions of dense matches."""
        return self.dense_options is not None

    @property
    def photo_count(self) -> int:
        """Number of photos, with edges or without."""
        return len(self.keypoints)

    @property
    def match_count(self) -> Index:
        """(e,) number of verified matches of each edge."""
        return np.asarray(self.match_stop - self.match_start)

    def match_rows(self, edge: int) -> slice:
        """Rows of an edge in row_a and row_b."""
        return slice(int(self.match_start[edge]), int(self.match_stop[edge]))

    def edge_of_match(self) -> Index:
        """(m,) edge of each match of `matches`."""
        return np.repeat(np.arange(len(self)), self.match_count)

    def matches(self) -> tuple[Index, Index]:
        """row_a and row_b of all edges, edge after edge; copied only where edges were removed."""
        rows = self.all_match_rows()
        return self.row_a[rows], self.row_b[rows]

    def all_match_rows(self) -> slice | Index:
        """Rows of all edges in the columns of matches, edge after edge."""
        count = self.match_count
        begin = np.concatenate([[0], np.cumsum(count)])
        total = int(begin[-1])
        if total == len(self.row_a) and np.array_equal(self.match_start, begin[:-1]):
            return slice(None)
        rows: Index = np.arange(total) + np.repeat(self.match_start - begin[:-1], count)
        return rows

    def select(self, keep: Mask) -> ViewGraph:
        """The graph with the edges `keep` (e,) only."""
        if keep.all():
            return self
        return replace(
            self,
            pairs=self.pairs[keep],
            match_start=self.match_start[keep],
            match_stop=self.match_stop[keep],
            kind=self.kind[keep],
            fundamental=self.fundamental[keep],
            focal_px=self.focal_px[keep],
            depth_focal_px=None if self.depth_focal_px is None else self.depth_focal_px[keep],
        )

    def among(self, photos: Mask) -> ViewGraph:
        """The graph with the edges between these photos (photos,) only."""
        return self.select(np.asarray(photos[self.pairs].all(axis=1)))

    def in_units_of(self, photos: Mask | NDArray[np.integer]) -> ViewGraph:
        """The same graph with the key point error expected in these photos, whatever others there are."""
        if self.photo_error_px is None or not len(own := self.photo_error_px[photos]):
            return self
        return replace(self, keypoint_error_px=float(np.median(own)))

    def without(self, pairs: NDArray[np.integer]) -> ViewGraph:
        """The graph without these pairs (n, 2)."""
        if not len(pairs):
            return self
        number = self.pairs[:, 0] * self.photo_count + self.pairs[:, 1]
        return self.select(~np.isin(number, pairs[:, 0].astype(np.int64) * self.photo_count + pairs[:, 1]))

    def tied_by(self, rigs: Rigs | None) -> ViewGraph:
        """The graph whose photos these rigs fix to each other. Edges between photos of one moment and one centre are
        left out: they say nothing that the rig does not."""
        if rigs is None:
            return self
        frame = rigs.tied
        graph = replace(self, rigs=rigs)
        return graph.select(frame[self.pairs[:, 0]] != frame[self.pairs[:, 1]]) if rigs.central else graph

    def largest_component(self) -> Mask:
        """(photos,) which belong to the connected component with most photos; matches break ties."""
        return largest_component(self.photo_count, self.pairs, self.match_count.astype(np.float64), self.rigs)


def largest_component(photos: int, pairs: Index, weight: Array, rigs: Rigs | None = None) -> Mask:
    """(photos,) which belong to the connected component with most photos; the sum of `weight` (e,) breaks ties. Photos
    of one frame of a rig are connected."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    frame = frames_of(rigs, photos)
    frames = int(frame.max(initial=-1)) + 1
    graph = coo_matrix((np.ones(len(pairs)), (frame[pairs[:, 0]], frame[pairs[:, 1]])), shape=(frames, frames))
    count, label = connected_components(graph, directed=False)
    label = label[frame]
    size = np.bincount(label, minlength=count)
    heavy = np.bincount(label[pairs[:, 0]], weights=weight, minlength=count)
    return np.asarray(label == np.lexsort((heavy, size))[-1])


def build_view_graph(
    keypoints: Keypoints,
    pairs: NDArray[np.integer],
    match_count: NDArray[np.integer],
    row_a: Index,
    row_b: Index,
    *,
    kind: NDArray[np.integer] | None = None,
    fundamental: Array | None = None,
    focal_px: Array | None = None,
    **columns: Any,
) -> ViewGraph:
    """Build the view graph of pairs (e, 2) whose matches lie pair after pair, `match_count` (e,) of each.

    Edges are general where `kind` is not given; without `fundamental` and `focal_px` they do not constrain focal
    lengths.
    """
    edges = len(pairs)
    stop = np.cumsum(match_count, dtype=np.int64)
    return ViewGraph(
        keypoints,
        np.asarray(pairs, np.int64).reshape(-1, 2),
        stop - np.asarray(match_count, np.int64),
        stop,
        row_a,
        row_b,
        kind=np.zeros(edges, np.int8) if kind is None else np.asarray(kind, np.int8),
        fundamental=np.zeros((edges, 3, 3)) if fundamental is None else fundamental,
        focal_px=np.full(edges, np.nan) if focal_px is None else focal_px,
        **columns,
    )
