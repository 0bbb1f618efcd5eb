"""Triangles of pairs: the shortest cycles, in which the relative poses of three pairs must compose to none."""

from __future__ import annotations

import numpy as np

from .arrays import Index

MAX_TRIANGLES = 2_000_000
"""Bounds memory; beyond, every pair keeps the same number of its triangles."""


def triangles_of(photos: int, pairs: Index) -> tuple[Index, Index, Index]:
    """Rows of the pairs (a, b), (b, c), (a, c) of every triangle a < b < c."""
    order = np.argsort(pairs[:, 0], kind="stable")
    start = np.searchsorted(pairs[order, 0], np.arange(photos + 1))
    # Every pair (a, b) with every pair (b, c) that goes on from it.
    onward = np.diff(start)[pairs[:, 1]]
    if onward.sum() > MAX_TRIANGLES:
        onward = np.minimum(onward, max(1, MAX_TRIANGLES // len(pairs)))
    first = np.repeat(np.arange(len(pairs)), onward)
    step = np.arange(len(first)) - np.repeat(np.cumsum(onward) - onward, onward)
    second = order[start[pairs[first, 1]] + step]
    code = pairs[:, 0] * photos + pairs[:, 1]
    by_code = np.argsort(code)
    wanted = pairs[first, 0] * photos + pairs[second, 1]
    at = np.minimum(np.searchsorted(code[by_code], wanted), len(pairs) - 1)
    third = by_code[at]
    closed = code[third] == wanted
    return first[closed], second[closed], third[closed]
