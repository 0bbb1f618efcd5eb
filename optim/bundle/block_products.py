"""Products of many small matrices that meet in few places, as they arise where points are eliminated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Short = NDArray[np.int32]
Numbers = NDArray[np.signedinteger[Any]]

BATCH = 2048
"""Pairs multiplied at a time: what is gathered for them stays in the cache."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Who is multiplied by whom: item left[i] by item right[i], and the products are summed within each group."""

    left: Short
    right: Short
    row: Index
    column: Index
    """(groups,) the blocks of a matrix that the sums belong to."""
    batches: list[tuple[int, int, int, list[int]]]
    """First pair, end, first group, and where its groups begin within the batch, and where the last one ends."""

    def products(self, left: Array, right: Array) -> Array:
        """(groups, a, b) sums of left[i]^T right[j] over (n, 3, a) and (n, 3, b)."""
        a, b = left.shape[2], right.shape[2]
        out = np.empty((len(self.row), a, b))
        longest = max((end - begin for begin, end, _, _ in self.batches), default=0)
        rows_left, rows_right = np.empty((longest, 3 * a)), np.empty((longest, 3 * b))
        flat_left, flat_right = left.reshape(len(left), 3 * a), right.reshape(len(right), 3 * b)
        for begin, end, group, inner in self.batches:
            n = end - begin
            np.take(flat_left, self.left[begin:end], axis=0, out=rows_left[:n], mode="clip")
            np.take(flat_right, self.right[begin:end], axis=0, out=rows_right[:n], mode="clip")
            x, y = rows_left.reshape(-1, a).T, rows_right.reshape(-1, b)
            at = inner[0]
            for to, target in zip(inner[1:], out[group : group + len(inner) - 1], strict=True):
                np.dot(x[:, at:to], y[at:to], out=target)
                at = to
        return out


def within(point: Numbers, block: Numbers) -> Pairs:
    """All pairs of different items that share their point; each once, the one of the lower block on the left."""
    items = in_order(block, point)
    value = point[items]
    alive = np.arange(len(items))
    left, right = [], []
    for distance in range(1, len(items)):
        alive = alive[alive + distance < len(items)]
        alive = alive[value[alive] == value[alive + distance]]
        if len(alive) == 0:
            break
        left.append(items[alive])
        right.append(items[alive + distance])
    return _grouped(_joined(left), _joined(right), block, block)


def between(point_a: Numbers, block_a: Numbers, point_b: Numbers, block_b: Numbers) -> Pairs:
    """All pairs of an item of the first kind and one of the second that share their point."""
    items = in_order(block_b, point_b)
    value = point_b[items]
    first, end = np.searchsorted(value, point_a), np.searchsorted(value, point_a, "right")
    count = end - first
    left = np.repeat(np.arange(len(point_a)), count)
    offset = np.arange(len(left)) - np.repeat(np.cumsum(count) - count, count)
    return _grouped(left, items[first[left] + offset], block_a, block_b)


def in_order(*keys: Numbers) -> Index:
    """As numpy.lexsort of integers that are not negative, the last key first: a radix sort, several times faster."""
    order: Index | None = None
    for key in keys:
        largest = int(key.max(initial=0))
        for shift in range(0, max(largest.bit_length(), 1), 16):
            digit = (key >> shift).astype(np.uint16)
            step = np.argsort(digit if order is None else digit[order], kind="stable")
            order = step if order is None else order[step]
    assert order is not None
    return order


def _joined(parts: list[Index]) -> Index:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _grouped(left: Index, right: Index, block_a: Numbers, block_b: Numbers) -> Pairs:
    row, column = block_a[left].astype(np.int64), block_b[right].astype(np.int64)
    order = in_order(column, row)
    row, column = row[order], column[order]
    starts = np.flatnonzero((np.diff(row, prepend=-1) != 0) | (np.diff(column, prepend=-1) != 0))
    bounds = np.append(starts, len(row)).tolist()
    batches, first = [], 0
    for group in range(1, len(bounds)):
        if group == len(bounds) - 1 or bounds[group + 1] - bounds[first] > BATCH:
            begin = bounds[first]
            inner = [3 * (b - begin) for b in bounds[first : group + 1]]
            batches.append((begin, bounds[group], first, inner))
            first = group
    return Pairs(left[order].astype(np.int32), right[order].astype(np.int32), row[starts], column[starts], batches)
