"""Bring the depths of all pairs to one scale per photo.

A network predicts the depth of a photo anew for each of its pairs, each time up to a scale. All predictions of a photo
are brought to one scale and averaged over a lattice of cells. Each match keeps the detail of its own prediction and
takes the level of the average:

    log canonical_depth = log depth - log scale - log unit + (average[cell] + log scale - lattice[cell])

where the bracket applies to dense predictions alone.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..arrays import Array, Index, Mask
from .depth_fusion import fuse_depths
from .pair_depths import PairDepths, lattice_cells, plausible_depths


def canonical_depths(depths: PairDepths, sizes: Array, outlier_spreads: float = 2.0) -> tuple[Array, Mask]:
    """Depths (e, 2, k) at one scale per photo, 0 where unknown, and (e,) whether the pair's scales are known.

    The unit of each photo is the median of its fused depths, so that depths are around one. `sizes` is (photos, 2);
    `outlier_spreads` as in `fuse_depths`.
    """
    e, _, cells = depths.lattice.shape
    photo = depths.pairs.ravel()
    level = depths.lattice.reshape(2 * e, cells)
    side, cell = np.nonzero(np.isfinite(level))
    photo_cell = photo[side] * cells + cell
    weight = np.ones(len(side))
    fused = fuse_depths(
        side, photo_cell, level[side, cell], weight, 2 * e, len(sizes) * cells, outlier_spreads=outlier_spreads
    )
    average = fused.log_depth.reshape(len(sizes), cells)
    scale = np.where(_in_largest_group(photo, side, photo_cell), fused.log_scale, np.nan)
    unit = np.zeros(len(sizes))
    seen = np.isfinite(average).any(axis=1)
    unit[seen] = np.nanmedian(average[seen], axis=1)

    valid = plausible_depths(depths.depth)
    log_depth = np.log(np.where(valid, depths.depth, 1.0)) - (scale + unit[photo]).reshape(e, 2, 1)
    correction = np.where(np.repeat(depths.dense, 2)[:, None], average[photo] + scale[:, None] - level, 0.0)
    at = lattice_cells(depths.xy.reshape(-1, 2), np.repeat(sizes[photo], depths.xy.shape[2], axis=0))
    log_depth += np.nan_to_num(np.take_along_axis(correction, at.reshape(2 * e, -1), axis=1)).reshape(log_depth.shape)
    valid &= np.isfinite(log_depth)
    depth: Array = np.where(valid, np.exp(np.where(valid, log_depth, 0.0)), 0.0)
    return depth, np.asarray(np.isfinite(scale).reshape(e, 2).all(axis=1))


def _in_largest_group(photo: Index, side: Index, photo_cell: Index) -> Mask:
    """(sides,) whether a side of a pair belongs to the largest group of its photo's sides that common cells connect.

    Scales of predictions in different groups cannot be compared.
    """
    sides = len(photo)
    size = sides + int(photo_cell.max(initial=-1)) + 1
    graph = coo_matrix((np.ones(len(side), bool), (side, sides + photo_cell)), shape=(size, size))
    label = connected_components(graph, directed=False)[1][:sides]
    largest = np.zeros(int(photo.max(initial=-1)) + 1, np.int64)
    order = np.argsort(np.bincount(label)[label], kind="stable")
    largest[photo[order]] = label[order]  # the last one written is the largest
    return np.asarray(label == largest[photo])
