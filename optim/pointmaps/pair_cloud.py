"""The points that two photos show together: triangulated matches, and predicted depths brought to the same scale."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .pair_maps import two_view_depths

Array = NDArray[np.float64]

FEW = 8
"""Triangulated matches that tell the scale of a prediction, at least."""


class PairPoints(NamedTuple):
    """Matches (m, 2) of both photos as points in front of either camera, the baseline being one."""

    plane_a: Array
    plane_b: Array
    """(m, 2) on the planes z = 1."""
    depth_a: Array
    depth_b: Array
    """(m,); NaN where the rays are too parallel, or meet behind a camera."""


def on_plane(xy: Array, focal_px: float, size: tuple[int, int]) -> Array:
    """(n, 2) pixels of a photo (width, height) on the plane z = 1 of a camera whose axis goes through the middle."""
    return (xy - np.array(size) / 2.0) / focal_px


def in_space(plane: Array, depth: Array) -> Array:
    """(n, 3) points in front of the camera."""
    return np.column_stack([plane, np.ones(len(plane))]) * depth[:, None]


def triangulate_pair(plane_a: Array, plane_b: Array, b_from_a: Array) -> PairPoints:
    """Where the rays of matches come nearest to each other; b_from_a is (3, 4)."""
    depths = two_view_depths(plane_a, plane_b, np.broadcast_to(b_from_a, (len(plane_a), 3, 4)))
    return PairPoints(plane_a, plane_b, *depths)


def prediction_scales(
    points: PairPoints, predicted_a: Array, predicted_b: Array, b_from_a: Array
) -> tuple[float, float]:
    """Factors by which depths (m,) that were predicted for the matches become those of the triangulation.

    Where too little can be triangulated, as between photos of a camera that only turned, the depths of a stay as they
    are, and those of b are made to agree with them.
    """
    scales = []
    for depth, predicted in ((points.depth_a, predicted_a), (points.depth_b, predicted_b)):
        ratio = _ratios(depth, predicted)
        scales.append(float(np.median(ratio)) if len(ratio) >= FEW else np.nan)
    if np.isfinite(scales).all():
        return scales[0], scales[1]
    moved = in_space(points.plane_a, predicted_a) @ b_from_a[:, :3].T
    ratio = _ratios(moved[:, 2], predicted_b)
    return 1.0, float(np.median(ratio)) if len(ratio) else 1.0


def _ratios(depth: Array, predicted: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Array = depth / predicted
    return ratio[np.isfinite(ratio) & (ratio > 0.0)]
