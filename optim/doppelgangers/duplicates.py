"""Duplicate images: copied, saved anew, or made smaller."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .options import DoppelgangerOptions


def is_duplicate(
    xy_a: NDArray[np.floating],
    xy_b: NDArray[np.floating],
    size_a: tuple[int, int],
    size_b: tuple[int, int],
    options: DoppelgangerOptions,
) -> bool:
    """Whether matches (m, 2), (m, 2) between images of these sizes are at the same places, and all over the images."""
    if len(xy_a) < options.min_duplicate_matches:
        return False
    extent = np.ptp(np.quantile(xy_a, (0.05, 0.95), axis=0), axis=0) / np.array(size_a)
    if (extent < options.min_duplicate_extent).any():
        return False
    smaller = np.minimum(size_a, size_b)
    shift_px = np.linalg.norm((xy_a / np.array(size_a) - xy_b / np.array(size_b)) * smaller, axis=1)
    return bool(np.mean(shift_px < options.max_duplicate_shift_px) > options.min_duplicate_ratio)
