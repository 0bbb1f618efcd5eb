"""How exact key points are: the unit in which thresholds of mappers are given, and relative errors by size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..pair.epipolar import sampson_errors
from ..view_graph import ViewGraph

Array = NDArray[np.float64]

REFERENCE_SIDE_PX = 1600
"""Detectors work on photos of at most about this size; key points are as exact as the pixels of these."""

UNIT_OVER_SCATTER = 3.0
"""Unit of dense matches over their scatter about the epipolar lines. The scatter is what verification has left of the
error, and only its part across the lines; and it is noise, not outliers, up to several times as much."""


def usual_unit_px(size: NDArray[np.integer]) -> float:
    """Expected error of key points that were detected on photos of the reference size, in pixels of the median original
    photo; `size` (photos, 2)."""
    return float(np.median(np.maximum(size.max(axis=1) / REFERENCE_SIDE_PX, 1.0)))


def relative_sigma(scale: Array) -> Array:
    """(k,) relative error of key points of this scale (k,), any unit.

    It grows like the square root of the scale: seen in the residuals of photo sets from churches to kitchens, over
    scales from one to thirty pixels.
    """
    if not len(scale):
        return scale
    return np.clip(np.sqrt(scale / np.median(scale)), 0.5, 3.0)


def scatter_px(graph: ViewGraph, xy_a: Array | None = None, xy_b: Array | None = None) -> float:
    """Robust standard deviation of all matches about the epipolar lines of their own edges; not a number without any.

    `xy_a` and `xy_b` (m, 2) are the positions of the two ends if these are not quite those of the key points. Pure
    rotations have no epipolar lines and are left out.
    """
    xy, errors = graph.keypoints.xy, []
    for edge in np.flatnonzero(graph.fundamental.any(axis=(1, 2))).tolist():
        own = graph.match_rows(edge)
        a = xy[graph.row_a[own]] if xy_a is None else xy_a[own]
        b = xy[graph.row_b[own]] if xy_b is None else xy_b[own]
        errors.append(np.abs(sampson_errors(graph.fundamental[edge], a, b)))
    return 1.4826 * float(np.median(np.concatenate(errors))) if errors else np.nan
