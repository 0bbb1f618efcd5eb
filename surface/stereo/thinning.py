"""Fewer points of even density."""

from __future__ import annotations

import numpy as np

from unposed.optim.arrays import AnyArray, Index

from .view import DensePoints


def thinned(points: DensePoints, budget: int) -> DensePoints:
    """At most `budget` of the points, one per cell of a grid, whose cells are proportional to what a pixel spans there.

    So near and far surfaces keep the density that the photos have of them. Of the points in a cell, the one that most
    photos see stays. Cells grow from one pixel by bisection until the budget is met.
    """
    if len(points) <= budget:
        return points
    octave = np.round(np.log2(np.maximum(points.footprint, 1e-30)))
    order = np.lexsort((np.arange(len(points)), -np.diff(points.start)))
    low, high, kept = 0.0, 16.0, order[:budget]
    for _ in range(10):
        middle = 0.5 * (low + high)
        rows = _one_per_cell(points.xyz, octave, middle, order)
        if len(rows) > budget:
            low = middle
        else:
            high, kept = middle, rows
    return points.only(np.sort(kept))


def _one_per_cell(xyz: AnyArray, octave: AnyArray, log_size: float, order: Index) -> Index:
    """The first row, in an order, of each cell of 2^(octave + log_size)."""
    cells = np.floor(xyz[order] / np.exp2(octave[order] + log_size)[:, None]).astype(np.int64)
    keys = (
        cells[:, 0] * 73856093 ^ cells[:, 1] * 19349663 ^ cells[:, 2] * 83492791 ^ octave[order].astype(np.int64) << 58
    )
    first = np.unique(keys, return_index=True)[1]
    return order[first]
