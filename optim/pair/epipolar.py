"""Epipolar geometry of two pinhole cameras: matrices, errors, ray angles, and how well a focal length is determined.

Points are (n, 2); where focal lengths appear they count from the principal point. Poses are (3, 4), unit baseline.
"""

from __future__ import annotations

from math import inf

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def cross_matrix(vector: Array) -> Array:
    """(3, 3) matrix that takes the cross product with the vector."""
    x, y, z = vector
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def homogeneous(xy: Array) -> Array:
    """(n, 3) with a last coordinate of one."""
    return np.column_stack([xy, np.ones(len(xy))])


def fundamental_from_pose(b_from_a: Array, focal_a: float, focal_b: float) -> Array:
    """F of unit norm with x_b^T F x_a = 0."""
    essential = cross_matrix(b_from_a[:, 3]) @ b_from_a[:, :3]
    matrix = np.diag([1.0, 1.0, focal_b]) @ essential @ np.diag([1.0, 1.0, focal_a])
    return np.asarray(matrix / np.linalg.norm(matrix))


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


def focal_deviation(xy_a: Array, xy_b: Array, b_from_a: Array, focal: float) -> float:
    """Standard deviation of log(focal) when two photos share it and pose and focal were fitted to these matches,
    whose own errors tell the noise. Large values mean that the pair hardly determines its focal length."""
    rotation, translation = b_from_a[:, :3], b_from_a[:, 3]
    sideways = np.linalg.svd(translation[None])[2][1:]  # the baseline has unit length: it may only turn

    def errors(step: Array) -> Array:
        turned = (np.eye(3) + cross_matrix(step[:3])) @ rotation
        moved = translation + step[3:5] @ sideways
        stretched = focal * np.exp(step[5])
        return sampson_errors(fundamental_from_pose(np.column_stack([turned, moved]), stretched, stretched), xy_a, xy_b)

    freedom = len(xy_a) - 6
    if freedom <= 0:
        return inf
    width = 1e-5
    jacobian = np.column_stack([(errors(width * e) - errors(-width * e)) / (2.0 * width) for e in np.eye(6)])
    # Only the part of the focal's column that no change of pose can imitate tells the focal.
    pose, column = jacobian[:, :5], jacobian[:, 5]
    told = column - pose @ np.linalg.lstsq(pose, column, rcond=None)[0]
    information, variance = float(told @ told), float(np.sum(errors(np.zeros(6)) ** 2)) / freedom
    return float(np.sqrt(variance / information)) if information > 0.0 else inf
