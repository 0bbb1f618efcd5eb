"""The order in which bundle adjustment goes through the observations: by block of points, by photo, by point.

Points that the same photos see are eliminated together, one block at a time: what couples points and photos is then
held for one block only. Within a block the observations of a photo are contiguous, so that its normal matrix is one
product J^T J.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ..arrays import Array, Index, Index32
from .block_products import integer_lexsort
from .segment_sums import segment_matrix

BLOCK_SIZE = 1 << 16
"""Observations per block of points: the derivatives between its points and photos stay in the cache."""

CHUNK_SIZE = 4096
"""Observations linearized together: their vectors fit into the cache, and the interpreter's overhead is small."""

MIN_POINTS_PER_PHOTO_PAIR = 8
"""Points that two photos of a block share on average, at least; blocks are doubled until they do. Each pair of photos
of a block costs a matrix product of its own, which small blocks would repeat for few points."""


@dataclass(frozen=True)
class ObservationChunk:
    """Observations of consecutive photos in a block."""

    rows: slice
    """Among all observations."""
    rows_in_block: slice
    photos: range
    """Photos, as positions in PointBlock.photos."""


@dataclass(frozen=True, eq=False)
class PointBlock:
    """Consecutive points with all their observations, sorted by photo, then by point."""

    points: slice
    point: Index32
    """(m,) point of each observation, counted from the first point of the block."""
    photos: Index
    """(r,) photos that see any of the points."""
    photo_start: list[int]
    """(r + 1,) photos[i] has the observations photo_start[i] to photo_start[i + 1] of the block."""
    chunks: list[ObservationChunk]

    def points_of(self, chunk: ObservationChunk) -> Index32:
        """(m,) point of each observation of a chunk, counted as in the whole bundle."""
        return self.point[chunk.rows_in_block] + np.int32(self.points.start)

    def photo_starts(self, chunk: ObservationChunk) -> list[int]:
        """Where the observations of each of its photos begin in a chunk."""
        return [self.photo_start[photo] - chunk.rows_in_block.start for photo in chunk.photos]


@dataclass(frozen=True, eq=False)
class ObservationOrder:
    """The observations of a bundle block after block, and the structure that stays the same from step to step.

    Plural fields are indices into the bundle. Only photos and cameras with observations are listed; everything below
    counts them in this order.
    """

    photos: Index
    """(c,) indices into the photos of the bundle."""
    cameras: Index
    """(k,) indices into its cameras."""
    points: Index
    """(p,) indices into its points: points that the same photos see are near each other."""
    observations: Index32
    """(m,) indices into its observations."""
    photo: Index32
    """(m,) photo of each observation."""
    camera_of_photo: Index
    """(c,)."""
    xy: Array
    """(2, m) observed pixels."""
    fisheye: NDArray[np.bool_]
    """(k,)."""
    blocks: list[PointBlock]
    camera_sums: csr_matrix
    """(k, c) segment matrix: sums over the photos of each camera."""
    tied: bool = False
    """Whether rigs tie photos to each other, so that their poses move apart from their cameras."""

    @property
    def camera_per_photo(self) -> bool:
        """Whether no two photos share a camera: the unknowns of pose and camera then form one block."""
        return len(self.cameras) == len(self.photos) and not self.tied

    @property
    def chunks(self) -> list[tuple[PointBlock, ObservationChunk]]:
        """All chunks with their blocks."""
        return [(block, chunk) for block in self.blocks for chunk in block.chunks]

    @property
    def point(self) -> Index:
        """(m,) point of each observation."""
        return np.concatenate([np.zeros(0, np.int64), *(block.points.start + block.point for block in self.blocks)])


def order_observations(
    photo: Index,
    point: Index,
    camera_of_photo: Index,
    xy: Array,
    fisheye: NDArray[np.bool_],
    points: int,
    block_size: int = BLOCK_SIZE,
    tied: bool = False,
) -> ObservationOrder:
    """Order the observations of a bundle, which are sorted by point, in blocks of about `block_size`, or more (see
    MIN_POINTS_PER_PHOTO_PAIR); `tied` as in ObservationOrder."""
    photos = np.flatnonzero(np.bincount(photo))
    number = np.zeros(len(camera_of_photo), np.int32)
    number[photos] = np.arange(len(photos))
    cameras, camera_of_photo = np.unique(camera_of_photo[photos], return_inverse=True)
    start = np.searchsorted(point, np.arange(points + 1))
    # Points by the first photo that sees them: a cheap order that keeps covisible points together.
    sorted_points = integer_lexsort(np.minimum.reduceat(number[photo], start[:-1])) if points else np.zeros(0, np.int64)
    rank = np.empty(points, np.int32)
    rank[sorted_points] = np.arange(points)
    order = integer_lexsort(rank[point])
    track_length = np.diff(start)[sorted_points]
    sorted_photo, sorted_point = number[photo[order]], rank[point[order]]
    cuts = _block_bounds(sorted_photo, track_length, block_size)
    first = np.append(0, np.cumsum(track_length))
    blocks = []
    for begin, end in itertools.pairwise(cuts):
        rows = slice(int(first[begin]), int(first[end]))
        by_photo = integer_lexsort(sorted_photo[rows])
        order[rows], sorted_photo[rows] = order[rows][by_photo], sorted_photo[rows][by_photo]
        block_point = sorted_point[rows][by_photo] - begin
        blocks.append(_point_block(slice(begin, end), rows.start, block_point, sorted_photo[rows]))
    return ObservationOrder(
        photos=photos,
        cameras=cameras,
        points=sorted_points,
        observations=order.astype(np.int32),
        photo=sorted_photo,
        camera_of_photo=camera_of_photo,
        xy=np.ascontiguousarray(xy[order].T),
        fisheye=fisheye[cameras],
        blocks=blocks,
        camera_sums=segment_matrix(camera_of_photo, len(cameras)),
        tied=tied,
    )


def _block_bounds(photo: Index32, track_length: Index, size: int) -> list[int]:
    """First points of the blocks, and the end of the last; `photo` (m,) of the observations, sorted by point."""
    start = np.cumsum(track_length) - track_length
    point_pairs = int((track_length * (track_length - 1)).sum()) // 2
    while True:
        cuts = np.flatnonzero(np.diff(start // size, prepend=-1))
        photo_pairs = 0
        for part in np.split(photo, start[cuts[1:]]):
            photo_pairs += int(np.count_nonzero(np.bincount(part))) ** 2 // 2
        if MIN_POINTS_PER_PHOTO_PAIR * photo_pairs <= point_pairs or len(cuts) < 2:
            return [*cuts.tolist(), len(track_length)]
        size *= 2


def _point_block(points: slice, start: int, point: Index32, photo: Index32) -> PointBlock:
    """The block of observations that begin at row `start`, already in order."""
    runs = np.flatnonzero(np.diff(photo, prepend=-1))
    photo_start = [*runs.tolist(), len(photo)]
    chunks, begin = [], 0
    for end in range(1, len(photo_start)):
        if end == len(photo_start) - 1 or photo_start[end + 1] - photo_start[begin] > CHUNK_SIZE:
            inside = slice(photo_start[begin], photo_start[end])
            rows = slice(start + inside.start, start + inside.stop)
            chunks.append(ObservationChunk(rows, inside, range(begin, end)))
            begin = end
    return PointBlock(points, point, photo[runs].astype(np.int64), photo_start, chunks)
