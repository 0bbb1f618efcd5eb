"""One depth per place of a photo, out of many predictions each of which has a scale of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]

LEAST_SPREAD = 1e-3
"""Predictions do not agree better than this, relative to the depth; keeps perfect data from dividing by zero."""


@dataclass(frozen=True, eq=False)
class Fused:
    log_scale: Array
    """(sides,) by which each prediction is larger than the fused depth; NaN for those without a sample."""
    log_depth: Array
    """(cells,); NaN for cells without a sample. Its unit is free for every group of cells and sides that share none
    with others."""
    spread: float
    """How far single predictions are from the fused depth: relative, robust standard deviation."""


def fuse(
    side: Index, cell: Index, log_depth: Array, weight: Array, sides: int, cells: int, iterations: int = 10
) -> Fused:
    """The model log_depth = log_scale[side] + fused[cell], fitted to samples (n,) with a Cauchy loss.

    Alternating means: where every prediction covers the whole photo, as on grids, they settle in two or three steps.
    """
    scale, fused = np.zeros(sides), np.zeros(cells)
    trusted, spread = weight, 0.0
    for turn in range(iterations):
        fused = _means(cell, log_depth - scale[side], trusted, cells)
        residual = log_depth - fused[cell] - scale[side]
        scale = scale + _means(side, residual, trusted, sides)
        residual = log_depth - fused[cell] - scale[side]
        spread = max(1.4826 * float(np.median(np.abs(residual))), LEAST_SPREAD) if len(residual) else 0.0
        if turn:  # scales first: before them nothing is an outlier
            trusted = weight / (1.0 + (residual / (2.0 * spread)) ** 2)
    return Fused(scale, fused, spread)


def _means(owner: Index, value: Array, weight: Array, owners: int) -> Array:
    total = np.bincount(owner, weight, owners)
    sums = np.bincount(owner, weight * value, owners)
    with np.errstate(divide="ignore", invalid="ignore"):
        means: Array = sums / total
    return means
