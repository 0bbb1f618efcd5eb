"""Which key points of two extractors in one photo are the same point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..option_ranges import Positive, Share

_NEIGHBOURS = 4
"""First points around a second one that are tried: at one place there may be several, of other scales."""


@dataclass(frozen=True)
class KeypointIdentity:
    """When two key points of one photo are one."""

    max_distance: Share = 0.25
    """Largest distance over the radius of the second point. Of the points that SIFT finds again at twice the size, 95 %
    are nearer, and points of other blobs are hardly ever within the radius."""
    max_scale_ratio: Positive = 1.3
    """Largest ratio of their radii: scales are sampled in steps of 1.26."""


def identical_rows(
    first_xy: NDArray[np.floating],
    first_scale: NDArray[np.floating],
    second_xy: NDArray[np.floating],
    second_scale: NDArray[np.floating],
    options: KeypointIdentity,
) -> NDArray[np.int64]:
    """(n,) row of the first points (k, 2) that each of the second (n, 2) is, or -1 where it is a new one."""
    if not len(first_xy) or not len(second_xy):
        return np.full(len(second_xy), -1, np.int64)
    # Here: a localizer loads this with its preset and does not call it; importing it takes longer than a photo.
    from scipy.spatial import KDTree

    near = KDTree(first_xy).query(second_xy, k=list(range(1, min(_NEIGHBOURS, len(first_xy)) + 1)))
    distance, row = np.asarray(near[0]), np.asarray(near[1])
    ratio = np.abs(np.log(first_scale[row] / second_scale[:, None]))
    same = (distance <= options.max_distance * second_scale[:, None]) & (ratio <= np.log(options.max_scale_ratio))
    best = same.argmax(axis=1)
    return np.where(same.any(axis=1), row[np.arange(len(row)), best], -1).astype(np.int64)
