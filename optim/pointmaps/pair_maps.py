"""Depths of many pairs made into one depth per place of every photo.

A network predicts the depth of a photo anew for each of its pairs, every time up to a scale. All predictions of a photo
are brought to one scale and averaged over a lattice of cells; each match then keeps the detail of its own prediction
and takes the level of the average.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..bundle.intrinsics import Intrinsics
from ..cameras import FX
from .depth_fusion import fuse

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Bools = NDArray[np.bool_]

LATTICE = 24
"""Cells along either side of a photo."""

LEAST_ANGLE_DEG = 1.5
"""Between the rays of a match that is worth triangulating."""

FARTHEST = 1e3
"""By the median of a prediction: what is said to be so many times as far, or as near, is no depth."""

FOCAL_SIGMA = 0.01, 0.3
"""Relative error of focal lengths that predictions agree upon, at least, and of mere guesses."""


@dataclass(frozen=True, eq=False)
class PairMaps:
    """Matches with depths of e pairs, padded to k per pair, and what their predictions say of whole photos."""

    pairs: Index
    """(e, 2)."""
    xy: Array
    """(e, 2, k, 2) pixels in both photos."""
    depth: Array
    """(e, 2, k); each side of a pair up to a scale of its own. Only finite positive ones count, see `plausible`."""
    weight: Array
    """(e, k); 0 where there is no match."""
    lattice: Array
    """(e, 2, cells) mean logarithm of the predicted depth in each cell of a photo; NaN where there is none."""
    focal_px: Array
    """(e, 2) under which it was predicted; NaN: it does not say."""
    dense: Bools
    """(e,) whose lattices are predictions of the whole photo, by which matches may be corrected cell by cell."""

    def select(self, keep: Bools) -> PairMaps:
        """The pairs `keep` (e,)."""
        return PairMaps(**{each.name: getattr(self, each.name)[keep] for each in fields(self)})


def cells_of(xy: Array, size: Array) -> Index:
    """(n,) lattice cell of pixels (n, 2) in photos of size (2,) or (n, 2)."""
    column, row = np.clip((xy * (LATTICE / size)).astype(np.int64), 0, LATTICE - 1).T
    return np.asarray(row * LATTICE + column)


def plausible(depth: Array) -> Bools:
    """(..., n) which of the depths (..., n) of each prediction can be ones."""
    good = np.isfinite(depth) & (depth > 0)
    ordered = np.sort(np.where(good, depth, np.inf), axis=-1)
    middle = np.maximum(good.sum(axis=-1, keepdims=True) - 1, 0) // 2
    median = np.take_along_axis(ordered, middle, axis=-1) if depth.shape[-1] else ordered
    known = np.where(good, depth, 1.0)
    return np.asarray(good & (known / FARTHEST < median) & (known > median / FARTHEST))


def on_lattice(xy: Array, depth: Array, confidence: Array, size: Array) -> Array:
    """(cells,) mean logarithm of the depths (n,) of pixels (n, 2) by confidence; NaN where there is none."""
    good = plausible(depth) & np.isfinite(confidence) & (confidence > 0)
    cell, weight = cells_of(xy[good], size), confidence[good]
    total = np.bincount(cell, weight, LATTICE**2)
    with np.errstate(invalid="ignore"):
        mean: Array = np.bincount(cell, weight * np.log(depth[good]), LATTICE**2) / total
    return mean


def first_focals(maps: PairMaps, belief: Intrinsics, sigma: Array) -> tuple[Intrinsics, Array]:
    """The belief with the focal lengths that predictions agree upon, and the relative error (cameras,) to expect.

    Medians: some predictions are far off. Focal lengths of which something is known, `sigma` (cameras,) finite, stay.
    """
    focal, sigma = belief.values[:, FX].copy(), sigma.copy()
    said = np.log(maps.focal_px.ravel())
    camera = np.where(np.isfinite(said), belief.camera_of_photo[maps.pairs].ravel(), -1)
    for k in np.flatnonzero(~np.isfinite(sigma)):
        own = said[camera == k]
        sigma[k] = FOCAL_SIGMA[1]
        if len(own):
            focal[k] = np.exp(np.median(own))
            sigma[k] = np.clip(1.4826 * np.median(np.abs(own - np.median(own))), *FOCAL_SIGMA)
    return belief.with_focals(focal), sigma


def canonical_depths(maps: PairMaps, sizes: Array) -> tuple[Array, Bools]:
    """(e, 2, k) depths at one scale per photo, 0 where unknown, and the pairs (e,) whose scales could be found.

    The unit of each photo is such that its depths are around one. `sizes` (photos, 2).
    """
    e, _, cells = maps.lattice.shape
    photo = maps.pairs.ravel()
    level = maps.lattice.reshape(2 * e, cells)
    side, cell = np.nonzero(np.isfinite(level))
    place = photo[side] * cells + cell
    fused = fuse(side, place, level[side, cell], np.ones(len(side)), 2 * e, len(sizes) * cells)
    average = fused.log_depth.reshape(len(sizes), cells)
    scale = np.where(_largest_groups(photo, side, place), fused.log_scale, np.nan)
    unit = np.zeros(len(sizes))
    seen = np.isfinite(average).any(axis=1)
    unit[seen] = np.nanmedian(average[seen], axis=1)

    valid = plausible(maps.depth)
    log_depth = np.log(np.where(valid, maps.depth, 1.0)) - (scale + unit[photo]).reshape(e, 2, 1)
    correction = np.where(np.repeat(maps.dense, 2)[:, None], average[photo] + scale[:, None] - level, 0.0)
    at = cells_of(maps.xy.reshape(-1, 2), np.repeat(sizes[photo], maps.xy.shape[2], axis=0)).reshape(2 * e, -1)
    log_depth += np.nan_to_num(np.take_along_axis(correction, at, axis=1)).reshape(log_depth.shape)
    valid &= np.isfinite(log_depth)
    depth: Array = np.where(valid, np.exp(np.where(valid, log_depth, 0.0)), 0.0)
    return depth, np.asarray(np.isfinite(scale).reshape(e, 2).all(axis=1))


def _largest_groups(photo: Index, side: Index, place: Index) -> Bools:
    """(sides,) who belongs to the largest group of its photo's sides, all of which are linked by common places."""
    sides = len(photo)
    size = sides + int(place.max(initial=-1)) + 1
    graph = coo_matrix((np.ones(len(side), bool), (side, sides + place)), shape=(size, size))
    label = connected_components(graph, directed=False)[1][:sides]
    largest = np.zeros(int(photo.max(initial=-1)) + 1, np.int64)
    order = np.argsort(np.bincount(label)[label], kind="stable")
    largest[photo[order]] = label[order]  # the last one written is the largest
    return np.asarray(label == largest[photo])


def two_view_depths(plane_a: Array, plane_b: Array, b_from_a: Array) -> tuple[Array, Array]:
    """Depths (m,) in both cameras of points seen at (m, 2) on their planes z = 1, by poses (m, 3, 4).

    Where the rays come nearest to each other. NaN where they are so parallel that this says nothing, and behind a
    camera.
    """
    ray_a = np.einsum("mij,mj->mi", b_from_a[:, :, :3], np.column_stack([plane_a, np.ones(len(plane_a))]))
    ray_b = np.column_stack([plane_b, np.ones(len(plane_b))])
    across = np.cross(ray_a, ray_b)
    square = np.einsum("mi,mi->m", across, across)
    limit = np.sin(np.radians(LEAST_ANGLE_DEG)) * np.linalg.norm(ray_a, axis=1) * np.linalg.norm(ray_b, axis=1)
    baseline = b_from_a[:, :, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        depths = [np.einsum("mi,mi->m", np.cross(ray, baseline), across) / square for ray in (ray_b, ray_a)]
    good = (square > limit**2) & (depths[0] > 0) & (depths[1] > 0)
    return np.where(good, depths[0], np.nan), np.where(good, depths[1], np.nan)
