"""Triangulate the matches of a pair, and scale predicted depths to the triangulation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arrays import Array

MIN_ANGLE_DEG = 1.5
"""Smallest angle between the rays of a match for its depth to be more than noise."""


class PairPoints(NamedTuple):
    """Matches (m, 2) of both photos as points in front of either camera; the baseline is the unit of length."""

    normalized_a: Array
    normalized_b: Array
    """(m, 2) on the planes z = 1."""
    depth_a: Array
    depth_b: Array
    """(m,) NaN where the rays are nearly parallel or meet behind a camera."""


def normalized_points(xy: Array, focal_px: float, size: tuple[int, int]) -> Array:
    """(n, 2) on the plane z = 1 of pixels (n, 2) in a photo (width, height) with a central principal point."""
    return (xy - np.array(size) / 2.0) / focal_px


def points_at_depth(normalized: Array, depth: Array) -> Array:
    """(n, 3) points in the camera frame: depth (n,) times (x, y, 1)."""
    return np.column_stack([normalized, np.ones(len(normalized))]) * depth[:, None]


def triangulate_pair(normalized_a: Array, normalized_b: Array, b_from_a: Array) -> PairPoints:
    """Triangulate matches (m, 2), (m, 2) of two cameras with the relative pose b_from_a (3, 4)."""
    depths = triangulate_depths(normalized_a, normalized_b, np.broadcast_to(b_from_a, (len(normalized_a), 3, 4)))
    return PairPoints(normalized_a, normalized_b, *depths)


def triangulate_depths(
    normalized_a: Array, normalized_b: Array, b_from_a: Array, min_angle_deg: float = MIN_ANGLE_DEG
) -> tuple[Array, Array]:
    """Depths (m,), (m,) in both cameras of matches (m, 2) on the planes z = 1, by poses b_from_a (m, 3, 4).

    With rays u = R (x_a, 1) and v = (x_b, 1) the midpoint of their common perpendicular has the depths

        d_a = (v x t) . (u x v) / |u x v|^2,    d_b = (u x t) . (u x v) / |u x v|^2.

    NaN where the rays enclose less than `min_angle_deg`, and behind a camera.
    """
    ray_a = np.einsum("mij,mj->mi", b_from_a[:, :, :3], np.column_stack([normalized_a, np.ones(len(normalized_a))]))
    ray_b = np.column_stack([normalized_b, np.ones(len(normalized_b))])
    normal = np.cross(ray_a, ray_b)
    square = np.einsum("mi,mi->m", normal, normal)
    limit = np.sin(np.radians(min_angle_deg)) * np.linalg.norm(ray_a, axis=1) * np.linalg.norm(ray_b, axis=1)
    baseline = b_from_a[:, :, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        depths = [np.einsum("mi,mi->m", np.cross(ray, baseline), normal) / square for ray in (ray_b, ray_a)]
    good = (square > limit**2) & (depths[0] > 0) & (depths[1] > 0)
    return np.where(good, depths[0], np.nan), np.where(good, depths[1], np.nan)


def predicted_depth_scales(
    points: PairPoints, predicted_a: Array, predicted_b: Array, b_from_a: Array, min_points: int = 8
) -> tuple[float, float]:
    """Factors that bring predicted depths (m,), (m,) of the matches to the scale of the triangulation.

    Medians of the ratios. With fewer than `min_points` triangulated matches in either photo, as between photos of a
    camera that only rotated, the depths of a keep their scale and those of b are scaled to agree with them.
    """
    scales = []
    for depth, predicted in ((points.depth_a, predicted_a), (points.depth_b, predicted_b)):
        ratio = _finite_ratios(depth, predicted)
        scales.append(float(np.median(ratio)) if len(ratio) >= min_points else np.nan)
    if np.isfinite(scales).all():
        return scales[0], scales[1]
    rotated = points_at_depth(points.normalized_a, predicted_a) @ b_from_a[:, :3].T
    ratio = _finite_ratios(rotated[:, 2], predicted_b)
    return 1.0, float(np.median(ratio)) if len(ratio) else 1.0


def _finite_ratios(depth: Array, predicted: Array) -> Array:
    """Positive finite values of depth / predicted."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Array = depth / predicted
    return ratio[np.isfinite(ratio) & (ratio > 0.0)]
