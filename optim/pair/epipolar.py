"""Epipolar geometry of two pinhole cameras: errors and ray angles.

Points are (n, 2); where focal lengths appear they count from the principal point.
"""

from __future__ import annotations

import numpy as np

from ..arrays import Array


def homogeneous(xy: Array) -> Array:
    """(n, 3) with a last coordinate of one."""
    return np.column_stack([xy, np.ones(len(xy))])


def sampson_errors(fundamental: Array, xy_a: Array, xy_b: Array) -> Array:
    """Signed distance of every match to the epipolar geometry, to first order, in the unit of the points."""
    lines_b, lines_a = homogeneous(xy_a) @ fundamental.T, homogeneous(xy_b) @ fundamental
    slope = np.sqrt(np.sum(lines_b[:, :2] ** 2, axis=1) + np.sum(lines_a[:, :2] ** 2, axis=1))
    return np.asarray(np.sum(homogeneous(xy_b) * lines_b, axis=1) / np.maximum(slope, 1e-300))


def ray_angles(xy_a: Array, xy_b: Array, b_rotation_a: Array, focal_a: float, focal_b: float) -> Array:
    """Angle in radians between the two rays of every match: the triangulation angle of its point."""
    rays_a = np.column_stack([xy_a, np.full(len(xy_a), focal_a)]) @ b_rotation_a.T
    rays_b = np.column_stack([xy_b, np.full(len(xy_b), focal_b)])
    # The arc tangent keeps the small angles that an arc cosine would round away.
    return np.asarray(np.arctan2(np.linalg.norm(np.cross(rays_a, rays_b), axis=1), np.sum(rays_a * rays_b, axis=1)))
