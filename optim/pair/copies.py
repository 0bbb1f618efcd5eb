"""One picture twice: copied, saved anew, or made smaller."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ENOUGH = 20
"""Matches that it takes."""
NEARLY_ALL = 0.9
MOVED_PX = 1.0
"""In the smaller of the two; a camera held in the hand never comes back to the pixel."""


def same_picture(
    xy_a: NDArray[np.floating], xy_b: NDArray[np.floating], size_a: tuple[int, int], size_b: tuple[int, int]
) -> bool:
    """Whether matches (m, 2), (m, 2) between photos of these sizes are all in their places."""
    if len(xy_a) < ENOUGH:
        return False
    smaller = np.minimum(size_a, size_b)
    moved = np.linalg.norm((xy_a / np.array(size_a) - xy_b / np.array(size_b)) * smaller, axis=1)
    return bool(np.mean(moved < MOVED_PX) > NEARLY_ALL)
