"""One picture twice: copied, saved anew, or made smaller."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ENOUGH = 20
"""Matches that it takes."""
NEARLY_ALL = 0.9
MOVED_PX = 1.0
"""In the smaller of the two; a camera held in the hand never comes back to the pixel."""

FILLED = 0.4
"""Part of either side of the photo over which the matches reach, at least: what is mounted on the camera, and the date
in a corner, stay in their places as well."""


def same_picture(
    xy_a: NDArray[np.floating], xy_b: NDArray[np.floating], size_a: tuple[int, int], size_b: tuple[int, int]
) -> bool:
    """Whether matches (m, 2), (m, 2) between photos of these sizes are all in their places, all over the photos."""
    if (
        len(xy_a) < ENOUGH
        or (np.ptp(np.quantile(xy_a, (0.05, 0.95), axis=0), axis=0) < FILLED * np.array(size_a)).any()
    ):
        return False
    smaller = np.minimum(size_a, size_b)
    moved = np.linalg.norm((xy_a / np.array(size_a) - xy_b / np.array(size_b)) * smaller, axis=1)
    return bool(np.mean(moved < MOVED_PX) > NEARLY_ALL)
