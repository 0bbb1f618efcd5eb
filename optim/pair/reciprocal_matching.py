"""Reciprocal nearest neighbours between the pixels of two dense maps, of descriptors or of 3D points.

From a sparse grid of seed pixels the search goes to the nearest neighbour in the other map and back, until no pixel
changes any more (as MASt3R does): the pixels reached are each other's nearest among all pixels, not among the seeds
alone, at a fraction of the cost of matching all pixels.

A pixel is its row in the flattened map, y * width + x. Dense maps are numpy arrays, or tensors in main memory; those on
another device are matched there, see `reciprocal_on_device`. Searches are exhaustive and exact, the full similarity
matrix is never formed, and no pixel is searched for twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array32

if TYPE_CHECKING:
    from torch import Tensor

PixelIndex = NDArray[np.int64]
"""Rows of pixels in a flattened map."""
Dense: TypeAlias = "NDArray[np.floating] | Tensor"

MAX_ROUNDS = 10

# Blocks of similarities fit in the cache of a core; only their maxima are kept.
_QUERIES, _TARGETS = 128, 2048


class NearestSearch:
    """Nearest neighbours of the pixels of one map in another map, each searched for once and remembered."""

    def __init__(self, search: Callable[[PixelIndex], PixelIndex], pixels: int) -> None:
        self._search = search
        self.known: PixelIndex = np.full(pixels, -1, np.int64)
        """(pixels,) what is known so far; -1 for the rest."""

    def __call__(self, rows: PixelIndex) -> PixelIndex:
        unknown = np.unique(rows[self.known[rows] < 0])
        if len(unknown):
            self.known[unknown] = self._search(unknown)
        return self.known[rows]


class MutualSearch(NamedTuple):
    """Nearest-neighbour searches from map a to map b and from b to a."""

    forward: NearestSearch
    backward: NearestSearch

    def swapped(self) -> MutualSearch:
        """The search with a and b exchanged; known neighbours are shared."""
        return MutualSearch(self.backward, self.forward)


class PixelMatches(NamedTuple):
    """Matched pixels of a and b."""

    a: PixelIndex
    b: PixelIndex


def neighbours_by_descriptor(a: Dense, b: Dense) -> MutualSearch:
    """Search the largest dot product between descriptor maps (height, width, d). Descriptors that are not finite count
    as zero."""
    return _neighbours(_host_rows(a), _host_rows(b), lambda targets: lambda queries: most_similar(queries, targets))


def neighbours_by_position(a: Dense, b: Dense) -> MutualSearch:
    """Search the smallest distance between maps (height, width, 3) of 3D points in one frame."""
    return _neighbours(_host_rows(a), _host_rows(b), _tree_search)


def seed_grid(height: int, width: int, step: int) -> PixelIndex:
    """Every step-th pixel of every step-th row, starting in the middle of the first step."""
    y, x = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    return np.asarray(y * width + x, np.int64).ravel()


def reciprocal_matches(neighbours: MutualSearch, seeds: PixelIndex, rounds: int = MAX_ROUNDS) -> PixelMatches:
    """Reciprocal nearest neighbours reached from seed pixels of a, without repetition, sorted by a, then b. Seeds that
    have not converged after `rounds` are dropped."""
    a, b = seeds.copy(), np.full(len(seeds), -1, np.int64)
    moving = np.arange(len(seeds))
    for _ in range(rounds):
        next_b = neighbours.forward(a[moving])
        next_a = neighbours.backward(next_b)
        rests = (next_b == b[moving]) | (next_a == a[moving])
        a[moving], b[moving] = next_a, next_b
        moving = moving[~rests]
        if not len(moving):
            break
    at_rest = np.ones(len(seeds), np.bool_)
    at_rest[moving] = False
    return without_repetition(a[at_rest], b[at_rest])[0]


def cycle_consistent_matches(
    neighbours: MutualSearch, starts: PixelIndex, width: int, tolerance_px: float
) -> PixelMatches:
    """Pixels of a (a map `width` wide) with their nearest neighbours in b, kept if the neighbour's nearest pixel in a
    is less than `tolerance_px` from the start (equal to it, if the tolerance is zero). Sorted, without repetition."""
    b = neighbours.forward(starts)
    a = neighbours.backward(b)
    distance = np.hypot(a % width - starts % width, a // width - starts // width)
    kept = distance < tolerance_px if tolerance_px > 0.0 else distance == 0.0
    return without_repetition(starts[kept], b[kept])[0]


def round_trips(neighbours: MutualSearch) -> PixelIndex:
    """(pixels of a,) the pixel of a that is nearest to each pixel's nearest neighbour in b; -1 where it is not known
    yet."""
    b = neighbours.forward.known
    rows = np.flatnonzero(b >= 0)
    rows = rows[neighbours.backward.known[b[rows]] >= 0]
    out = np.full(len(b), -1, np.int64)
    out[rows] = neighbours.backward.known[b[rows]]
    return out


def reciprocal_both_ways(neighbours: MutualSearch, seeds_a: PixelIndex, seeds_b: PixelIndex) -> list[PixelMatches]:
    """Reciprocal matches reached from seeds of a, and those reached from seeds of b."""
    back = reciprocal_matches(neighbours.swapped(), seeds_b)
    return [reciprocal_matches(neighbours, seeds_a), PixelMatches(back.b, back.a)]


def merge_matches(runs: Sequence[PixelMatches]) -> tuple[PixelMatches, PixelIndex]:
    """The union of matches, sorted by a, then b, and the first row of each match in the concatenated input."""
    return without_repetition(*map(np.concatenate, zip(*runs, strict=True)))


def without_repetition(a: PixelIndex, b: PixelIndex) -> tuple[PixelMatches, PixelIndex]:
    """Matched rows of a and b once each, sorted by a, then b, and where each was first."""
    base = b.max(initial=0) + 1  # one number for both is sorted in a sixth of the time
    found, first = np.unique(a * base + b, return_index=True)
    return PixelMatches(found // base, found % base), first


def most_similar(queries: Array32, targets: Array32) -> PixelIndex:
    """(q,) row of `targets` (n, d) with the largest dot product for each of `queries` (q, d)."""
    best = np.full(len(queries), -np.inf, np.float32)
    row = np.zeros(len(queries), np.int64)
    buffer = np.empty((min(_QUERIES, len(queries)), _TARGETS), np.float32)
    line = np.arange(len(buffer))
    for start in range(0, len(targets), _TARGETS):
        columns = targets[start : start + _TARGETS].T
        for begin in range(0, len(queries), _QUERIES):
            part = slice(begin, begin + _QUERIES)
            some = queries[part]
            block = np.matmul(some, columns, out=buffer[: len(some), : columns.shape[1]])
            column = block.argmax(axis=1)
            value = block[line[: len(some)], column]
            better = value > best[part]
            best[part][better] = value[better]
            row[part][better] = column[better] + start
    return row


def _tree_search(targets: Array32) -> Callable[[Array32], PixelIndex]:
    from scipy.spatial import KDTree

    tree = KDTree(targets)
    return lambda queries: np.asarray(tree.query(queries)[1], np.int64)


def _neighbours(a: Array32, b: Array32, prepare: Callable[[Array32], Callable[[Array32], PixelIndex]]) -> MutualSearch:
    in_a, in_b = prepare(a), prepare(b)
    return MutualSearch(
        NearestSearch(lambda rows: in_b(a[rows]), len(a)), NearestSearch(lambda rows: in_a(b[rows]), len(b))
    )


def _host_rows(dense: Dense) -> Array32:
    """(pixels, d) float32; rows that are not finite become zero, as a NaN would be the maximum of every search."""
    rows = np.ascontiguousarray(np.asarray(dense).reshape(-1, dense.shape[-1]), np.float32)
    return np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, np.float32(0.0))
