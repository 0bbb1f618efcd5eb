"""The observations of a bundle in the order in which an adjustment goes through them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from .block_products import in_order
from .segment_sums import selection

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Short = NDArray[np.int32]

BLOCK = 1 << 16
"""Observations of the points that are eliminated together: what arises between points and photos is held of these only,
and stays near the processor."""

CHUNK = 4096
"""Observations linearised together: their vectors fit into the cache, and the interpreter's share is small."""

OFTEN = 8
"""Points that two photos of a block have in common, on average, at least."""


@dataclass(frozen=True)
class Chunk:
    """Observations of photos next to each other in a block."""

    part: slice
    """Where they stand among all observations."""
    inside: slice
    """Where in their block."""
    runs: range
    """Which photos of the block."""


@dataclass(frozen=True, eq=False)
class Block:
    """Some points with all their observations, photo after photo, by point within a photo."""

    points: slice
    point: Short
    """(m,) numbered within the block."""
    photos: Index
    """(r,) who sees any of the points."""
    bounds: list[int]
    """(r + 1,) photo photos[i] has the observations of the block from bounds[i] to bounds[i + 1]."""
    chunks: list[Chunk]
    by_point: csr_matrix
    """(p, m) for sums over the observations of each point."""


@dataclass(frozen=True, eq=False)
class Sights:
    """The observations block after block, and what else stays the same in an adjustment."""

    photos: Index
    cameras: Index
    """The photos and cameras that see something; below, they are numbered in this order."""
    points: Index
    """(p,) where each point stands in the bundle: points that the same photos see are near each other here."""
    order: Short
    """(m,) where each observation stands in the bundle."""
    photo: Short
    """(m,)."""
    camera_of_photo: Index
    """(c,)."""
    xy: Array
    """(2, m)."""
    fisheye: NDArray[np.bool_]
    """(k,)."""
    blocks: list[Block]
    by_camera: csr_matrix
    """(k, c) for sums over the photos of each camera."""

    @property
    def own(self) -> bool:
        """Whether every photo has a camera of its own: then their unknowns go together."""
        return len(self.cameras) == len(self.photos)

    @property
    def point(self) -> Index:
        """(m,)."""
        return np.concatenate([np.zeros(0, np.int64), *(block.points.start + block.point for block in self.blocks)])


def arrange(
    photo: Index,
    point: Index,
    camera_of_photo: Index,
    xy: Array,
    fisheye: NDArray[np.bool_],
    points: int,
    size: int = BLOCK,
) -> Sights:
    """The observations of a bundle, which are sorted by point; a block has about `size`, more where it must."""
    photos = np.flatnonzero(np.bincount(photo))
    number = np.zeros(len(camera_of_photo), np.int32)
    number[photos] = np.arange(len(photos))
    cameras, camera_of_photo = np.unique(camera_of_photo[photos], return_inverse=True)
    start = np.searchsorted(point, np.arange(points + 1))
    near = in_order(np.minimum.reduceat(number[photo], start[:-1])) if points else np.zeros(0, np.int64)
    rank = np.empty(points, np.int32)
    rank[near] = np.arange(points)
    order = in_order(rank[point])
    count = np.diff(start)[near]
    compact, place = number[photo[order]], rank[point[order]]
    cuts = _cuts(compact, count, size)
    first = np.append(0, np.cumsum(count))
    ones = np.ones(max(np.diff(first[cuts]), default=0))
    blocks = []
    for begin, end in itertools.pairwise(cuts):
        part = slice(int(first[begin]), int(first[end]))
        own = in_order(compact[part])
        order[part], compact[part] = order[part][own], compact[part][own]
        blocks.append(_block(slice(begin, end), part.start, place[part][own] - begin, compact[part], ones))
    return Sights(
        photos=photos,
        cameras=cameras,
        points=near,
        order=order.astype(np.int32),
        photo=compact,
        camera_of_photo=camera_of_photo,
        xy=np.ascontiguousarray(xy[order].T),
        fisheye=fisheye[cameras],
        blocks=blocks,
        by_camera=selection(camera_of_photo, len(cameras)),
    )


def _cuts(photo: Short, count: Index, size: int) -> list[int]:
    """Points at which blocks begin, and where the last one ends, from the photos (m,) of all observations and how many
    each point has. Blocks are so large that their photos meet often: each meeting is work of its own."""
    start = np.cumsum(count) - count
    pairs = int((count * (count - 1)).sum()) // 2
    while True:
        cuts = np.flatnonzero(np.diff(start // size, prepend=-1))
        meetings = 0
        for part in np.split(photo, start[cuts[1:]]):
            meetings += int(np.count_nonzero(np.bincount(part))) ** 2 // 2
        if OFTEN * meetings <= pairs or len(cuts) < 2:
            return [*cuts.tolist(), len(count)]
        size *= 2


def _block(points: slice, start: int, point: Short, photo: Short, ones: Array) -> Block:
    """Of observations that stand from `start` on, already in order."""
    runs = np.flatnonzero(np.diff(photo, prepend=-1))
    bounds = [*runs.tolist(), len(photo)]
    chunks, begin = [], 0
    for end in range(1, len(bounds)):
        if end == len(bounds) - 1 or bounds[end + 1] - bounds[begin] > CHUNK:
            inside = slice(bounds[begin], bounds[end])
            part = slice(start + inside.start, start + inside.stop)
            chunks.append(Chunk(part, inside, range(begin, end)))
            begin = end
    count = points.stop - points.start
    pointers = np.append(0, np.cumsum(np.bincount(point, minlength=count)))
    by_point = csr_matrix((ones[: len(point)], in_order(point).astype(np.int32), pointers), shape=(count, len(point)))
    return Block(points, point, photo[runs].astype(np.int64), bounds, chunks, by_point)
