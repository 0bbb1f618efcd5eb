"""Block-sparse products W V^-1 W^T of the Schur complement, over pairs of observations of the same point.

After elimination of the points, photos a and b are coupled by the sum over their common points of L_a^T L_b, where
L = V^-1/2 W^T is a 3 x d matrix per observation. `CovisiblePairs` lists which observations meet, once per structure;
`sum_products` evaluates the sums, once per step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Index, Index32
from ..parallel import chunk_map, even_blocks

Numbers = NDArray[np.signedinteger[Any]]

BATCH_SIZE = 2048
"""Pairs multiplied at a time: what is gathered for them stays in the cache."""

BATCHES_AT_ONCE = 4
"""Batches that a thread takes at a time."""


@dataclass(frozen=True, eq=False)
class CovisiblePairs:
    """Pairs of items (observations, say) that share a point, grouped by the block of a matrix that they contribute to.

    Item left[i] is multiplied by item right[i]; products are summed within each group.
    """

    left: Index32
    right: Index32
    row: Index
    column: Index
    """(groups,) row and column of the block that each group is summed into."""
    batches: list[tuple[int, int, int, list[int]]]
    """First pair, end, first group, and where its groups begin within the batch and the last one ends, times three."""

    def sum_products(self, left: Array, right: Array) -> Array:
        """(groups, a, b) sums of left[i]^T right[j] over the pairs (i, j) of each group; left (n, 3, a), right
        (n, 3, b)."""
        a, b = left.shape[2], right.shape[2]
        out = np.empty((len(self.row), a, b))
        longest = max((end - begin for begin, end, _, _ in self.batches), default=0)
        flat_left, flat_right = left.reshape(len(left), 3 * a), right.reshape(len(right), 3 * b)

        def multiply(some: range) -> None:
            rows_left, rows_right = np.empty((longest, 3 * a)), np.empty((longest, 3 * b))
            for begin, end, group, bounds in self.batches[some.start : some.stop]:
                n = end - begin
                np.take(flat_left, self.left[begin:end], axis=0, out=rows_left[:n], mode="clip")
                np.take(flat_right, self.right[begin:end], axis=0, out=rows_right[:n], mode="clip")
                x, y = rows_left.reshape(-1, a).T, rows_right.reshape(-1, b)
                start = bounds[0]
                for stop, target in zip(bounds[1:], out[group : group + len(bounds) - 1], strict=True):
                    np.dot(x[:, start:stop], y[start:stop], out=target)
                    start = stop

        chunk_map(multiply, even_blocks(len(self.batches), BATCHES_AT_ONCE))
        return out


def pairs_within(point: Numbers, block: Numbers) -> CovisiblePairs:
    """All pairs of different items (n,) that share their point, each once, the one of the lower block on the left."""
    items = integer_lexsort(block, point)
    value = point[items]
    first = np.arange(len(items))
    left, right = [], []
    for distance in range(1, len(items)):
        first = first[first + distance < len(items)]
        first = first[value[first] == value[first + distance]]
        if len(first) == 0:
            break
        left.append(items[first])
        right.append(items[first + distance])
    return _grouped_by_block(_concatenated(left), _concatenated(right), block, block)


def pairs_between(point_a: Numbers, block_a: Numbers, point_b: Numbers, block_b: Numbers) -> CovisiblePairs:
    """All pairs of an item of the first kind and one of the second that share their point."""
    items = integer_lexsort(block_b, point_b)
    value = point_b[items]
    first, end = np.searchsorted(value, point_a), np.searchsorted(value, point_a, "right")
    count = end - first
    left = np.repeat(np.arange(len(point_a)), count)
    offset = np.arange(len(left)) - np.repeat(np.cumsum(count) - count, count)
    return _grouped_by_block(left, items[first[left] + offset], block_a, block_b)


def integer_lexsort(*keys: Numbers) -> Index:
    """Sort as numpy.lexsort does, the last key first, by a radix sort of integers that are not negative: several times
    faster."""
    order: Index | None = None
    for key in keys:
        largest = int(key.max(initial=0))
        for shift in range(0, max(largest.bit_length(), 1), 16):
            digit = (key >> shift).astype(np.uint16)
            step = np.argsort(digit if order is None else digit[order], kind="stable")
            order = step if order is None else order[step]
    assert order is not None
    return order


def _concatenated(parts: list[Index]) -> Index:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _grouped_by_block(left: Index, right: Index, block_a: Numbers, block_b: Numbers) -> CovisiblePairs:
    row, column = block_a[left].astype(np.int64), block_b[right].astype(np.int64)
    order = integer_lexsort(column, row)
    row, column = row[order], column[order]
    starts = np.flatnonzero((np.diff(row, prepend=-1) != 0) | (np.diff(column, prepend=-1) != 0))
    bounds = np.append(starts, len(row)).tolist()
    batches, first = [], 0
    for group in range(1, len(bounds)):
        if group == len(bounds) - 1 or bounds[group + 1] - bounds[first] > BATCH_SIZE:
            begin = bounds[first]
            inner = [3 * (b - begin) for b in bounds[first : group + 1]]
            batches.append((begin, bounds[group], first, inner))
            first = group
    left, right = left[order], right[order]
    return CovisiblePairs(left.astype(np.int32), right.astype(np.int32), row[starts], column[starts], batches)
