"""Matches with depths of all pairs, and lattices of depth over whole photos."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from ..arrays import Array, Index, Mask

LATTICE_SIDE = 24
"""Cells of a depth lattice along either side of a photo."""

MAX_DEPTH_RATIO = 1e3
"""Depths beyond this ratio to the median of their prediction, or below its inverse, are numbers without a meaning: sky,
masked pixels, overflow."""


@dataclass(frozen=True, eq=False)
class PairDepths:
    """Matches with depths of e pairs, padded to k matches per pair, and depth lattices of both photos."""

    pairs: Index
    """(e, 2) photos a, b."""
    xy: Array
    """(e, 2, k, 2) pixels in both photos."""
    depth: Array
    """(e, 2, k) depth in both cameras; each side of a pair has an unknown scale. See `plausible_depths`."""
    weight: Array
    """(e, k) weight of each match; 0 for padding."""
    lattice: Array
    """(e, 2, LATTICE_SIDE^2) mean log depth in each cell of a photo; NaN for cells without a depth."""
    focal_px: Array
    """(e, 2) focal length under which the depths were predicted; NaN if the matcher gives none."""
    dense: Mask
    """(e,) whether the lattices average dense predictions; if so, depths of matches are corrected cell by cell."""

    def select(self, keep: Mask) -> PairDepths:
        """The pairs with `keep` (e,) set."""
        return PairDepths(**{each.name: getattr(self, each.name)[keep] for each in fields(self)})


def lattice_cells(xy: Array, size: Array) -> Index:
    """(n,) lattice cell of pixels (n, 2) in photos of size (2,) or (n, 2)."""
    column, row = np.clip((xy * (LATTICE_SIDE / size)).astype(np.int64), 0, LATTICE_SIDE - 1).T
    return np.asarray(row * LATTICE_SIDE + column)


def plausible_depths(depth: Array) -> Mask:
    """(..., n) whether depths (..., n) are finite, positive and within MAX_DEPTH_RATIO of the median of their row."""
    good = np.isfinite(depth) & (depth > 0)
    ordered = np.sort(np.where(good, depth, np.inf), axis=-1)
    middle = np.maximum(good.sum(axis=-1, keepdims=True) - 1, 0) // 2
    median = np.take_along_axis(ordered, middle, axis=-1) if depth.shape[-1] else ordered
    known = np.where(good, depth, 1.0)
    return np.asarray(good & (known / MAX_DEPTH_RATIO < median) & (known > median / MAX_DEPTH_RATIO))


def log_depth_lattice(xy: Array, depth: Array, confidence: Array, size: Array) -> Array:
    """(LATTICE_SIDE^2,) confidence-weighted mean log depth per cell of pixels (n, 2) with depths (n,); NaN without."""
    good = plausible_depths(depth) & np.isfinite(confidence) & (confidence > 0)
    cell, weight = lattice_cells(xy[good], size), confidence[good]
    total = np.bincount(cell, weight, LATTICE_SIDE**2)
    with np.errstate(invalid="ignore"):
        mean: Array = np.bincount(cell, weight * np.log(depth[good]), LATTICE_SIDE**2) / total
    return mean
