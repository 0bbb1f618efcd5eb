"""Expected errors of key points: the unit of all thresholds of mapping, and relative errors by scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Index
from ..pair.epipolar import sampson_errors
from ..view_graph import KeypointOptions, ViewGraph


def detected_keypoint_errors_px(size: NDArray[np.integer], options: KeypointOptions) -> Array:
    """(photos,) expected error of detected key points, in pixels of the original photos; `size` (photos, 2).

    Detectors work on photos that were reduced to the reference size, and are exact to about one of their pixels.
    """
    return np.asarray(np.maximum(size.max(axis=1) / options.reference_side_px, 1.0))


def detected_keypoint_error_px(size: NDArray[np.integer], options: KeypointOptions) -> float:
    """The error of the median photo; 1 without photos."""
    return float(np.median(detected_keypoint_errors_px(size, options))) if len(size) else 1.0


def relative_sigma(scale: Array, start: Index, pairs: NDArray[np.integer], options: KeypointOptions) -> Array:
    """(k,) standard deviations of key points of this scale (k,), any unit, over that of the median scale.

    sigma = sqrt(scale / median scale), as measured in the residuals of photo sets from churches to kitchens, over
    scales from one to thirty pixels. Photo i has the rows start[i]:start[i + 1]. The median is that of the photos which
    `pairs` (e, 2) connect: strangers in the same folder change nothing.
    """
    photos = len(start) - 1
    # Here: localization asks for errors alone, and importing this takes longer than a photo.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    joined = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(photos, photos))
    count, part = connected_components(joined, directed=False)
    members = np.split(np.argsort(part, kind="stable"), np.cumsum(np.bincount(part, minlength=count))[:-1])
    sigma = np.empty(len(scale))
    for photos_of_part in members:
        slices = [slice(int(start[photo]), int(start[photo + 1])) for photo in photos_of_part.tolist()]
        own = np.concatenate([scale[rows] for rows in slices]) if slices else scale[:0]
        if len(own):
            typical = np.median(own)
            for rows in slices:
                sigma[rows] = np.clip(np.sqrt(scale[rows] / typical), options.min_sigma, options.max_sigma)
    return sigma


def scatter_px(graph: ViewGraph, xy_a: Array | None = None, xy_b: Array | None = None) -> float:
    """Robust standard deviation of all matches about the epipolar lines of their edges; NaN without matches.

    `xy_a` and `xy_b` (m, 2) are the positions as matched, where merging has moved key points a little. Pure rotations
    have no epipolar lines and do not take part.
    """
    xy, errors = graph.keypoints.xy, []
    for edge in np.flatnonzero(graph.fundamental.any(axis=(1, 2))).tolist():
        own = graph.match_rows(edge)
        a = xy[graph.row_a[own]] if xy_a is None else xy_a[own]
        b = xy[graph.row_b[own]] if xy_b is None else xy_b[own]
        errors.append(np.abs(sampson_errors(graph.fundamental[edge], a, b)))
    return 1.4826 * float(np.median(np.concatenate(errors))) if errors else np.nan
