"""What the matches of two photos say about their geometry: epipolar geometry, a plane, a pure rotation, or nothing.

Everything is decided by the fundamental matrix, which needs no intrinsics; focal lengths only serve the relative pose
that is offered on top. Robust estimation is poselib's; sampling is seeded and led by the matches' weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lgamma, log, sqrt
from typing import Any, Literal

import numpy as np
import poselib
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Kind = Literal["general", "planar", "rotation", "none"]

FOCAL_GUESS = 1.2
"""Focal length over the longer side when nothing is known: a field of view of 45 degrees."""
_FOCAL_RANGE = 0.3, 12.0  # of the longer side: from a fisheye-like 118 degrees to a 5 degree telephoto lens
_REFERENCE_SIDE = 1600  # key points of larger photos are as much less exact as the photo is larger ...
_SMALLEST_SCALE = 0.6  # ... but those of small photos do not get better without end


@dataclass(frozen=True, eq=False)
class TwoView:
    """The geometry of photos a and b. Arrays are zero where the kind has none."""

    kind: Kind
    inliers: Mask
    fundamental: Array
    """(3, 3), x_b^T F x_a = 0 in pixels."""
    b_from_a: Array
    """(3, 4) rotation and unit translation between the cameras."""
    focals_px: Array
    """(2,) under which b_from_a was found."""
    angle_deg: float
    """Median angle between the two rays of an inlier."""


def tolerance_px(size: tuple[int, int]) -> float:
    """How far a key point of a photo of this size may lie from where it belongs, for a tolerance of 1 at 1600 pixels."""
    return max(max(size) / _REFERENCE_SIDE, _SMALLEST_SCALE)


def two_view_geometry(
    xy_a: NDArray[np.floating],
    xy_b: NDArray[np.floating],
    weight: NDArray[np.floating],
    size_a: tuple[int, int],
    size_b: tuple[int, int],
    *,
    focals_px: tuple[float, float] | None = None,
    max_error: float = 1.5,
    min_inliers: int = 15,
    seed: int = 0,
) -> TwoView:
    """Robust geometry of matches (m, 2), (m, 2) in pixels, tried in the order of their weight, largest first.

    With `focals_px` None, photos of equal size are taken to share their focal length, which is then estimated
    from the pair; of photos of different size nothing but the default field of view is assumed. Inliers and
    fundamental matrix do not depend on focal lengths at all. `max_error` is in pixels of a photo of 1600.
    """
    # Coordinates are counted from the centre in units of the tolerance: both photos then have the same noise,
    # all thresholds are 1, and the numbers suit the solvers.
    tolerance = np.array([max_error * tolerance_px(size_a), max_error * tolerance_px(size_b)])
    sizes = np.array([size_a, size_b], float)
    a, b = ((xy - size / 2) / unit for xy, size, unit in zip((xy_a, xy_b), sizes, tolerance, strict=True))
    order = np.argsort(-weight, kind="stable")

    inliers = np.zeros(len(a), bool)
    fundamental, inliers[order] = _fundamental(a[order], b[order], seed)
    count = int(inliers.sum())
    chance = max(line_probability(a), line_probability(b))
    if count < min_inliers or log_false_alarms(len(a), count, 7, chance) > _SIGNIFICANT:
        return TwoView("none", np.zeros(len(a), bool), np.zeros((3, 3)), np.zeros((3, 4)), np.zeros(2), 0.0)
    ...
    raise NotImplementedError
