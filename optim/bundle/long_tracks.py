"""Points that very many photos see, taken for several points during bundle adjustment.

Elimination of a point couples every two photos that see it: L (L - 1) / 2 products for L observations. Of photos all
around one object each sees few points, but every point is seen by a share of all photos, so that time grows with their
square. A point that is cut into parts of n observations costs L n / 2, and every observation still counts.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..arrays import Index
from .problem import Bundle


def split_long_tracks(bundle: Bundle, max_length: int) -> tuple[Bundle, Index, Index]:
    """Cut the points with more than `max_length` observations into parts of equal length, at most so long.

    Returns the bundle, the point (parts,) that each part is of, and where its observations (m,) were before. Which
    observations form a part is drawn by lot: parts of neighbouring photos would let go of the photos far from them,
    and 20 photos of a half circle end half as exact again.
    """
    length = np.bincount(bundle.point, minlength=len(bundle.points))
    order = np.arange(len(bundle.point))
    if length.max(initial=0) <= max_length:
        return bundle, np.arange(len(length)), order
    long = np.flatnonzero((length > max_length)[bundle.point])
    lot = np.random.default_rng(0).random(len(long))
    order[long] = long[np.lexsort((lot, bundle.point[long]))]
    at = np.arange(len(order)) - (np.cumsum(length) - length)[bundle.point]
    parts = -(-length // max_length)
    number = at * parts[bundle.point] // length[bundle.point]
    first = (np.diff(bundle.point, prepend=-1) != 0) | (np.diff(number, prepend=-1) != 0)
    origin = bundle.point[first]
    split = replace(
        bundle,
        points=bundle.points[origin],
        xy=bundle.xy[order],
        photo=bundle.photo[order],
        point=np.cumsum(first) - 1,
        row=bundle.row[order],
    )
    return split, origin, order


def join_parts(split: Bundle, whole: Bundle, origin: Index) -> Bundle:
    """The cameras and poses of the split bundle, and every point at the mean of its parts, weighted by their
    observations."""
    weight = np.bincount(split.point, minlength=len(origin)).astype(np.float64)
    total = np.bincount(origin, weight, minlength=len(whole.points))
    points = [np.bincount(origin, weight * axis, minlength=len(total)) / total for axis in split.points.T]
    return replace(
        whole,
        intrinsics=split.intrinsics,
        cam_from_world=split.cam_from_world,
        points=np.column_stack(points),
        rigs=split.rigs,
    )
