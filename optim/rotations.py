"""Rotations of 3D space: exponential map, angle, nearest rotation, residuals of relative rotations."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, Index

THREE_HALVES = 1.5 * np.eye(3)
"""Of Newton's step for the polar decomposition; made anew each time it would take a quarter of the step."""


def exp_so3(omega: Array) -> Array:
    """Rotations (n, 3, 3) from vectors `omega` (n, 3), angle in radians times axis, by the formula of Rodrigues."""
    angle = np.linalg.norm(omega, axis=1)
    # sin(a)/a and (1 - cos(a))/a^2 by numpy's sinc, which is exact at zero: sinc(x) = sin(pi x) / (pi x).
    a = np.sinc(angle / np.pi)
    b = 0.5 * np.sinc(0.5 * angle / np.pi) ** 2
    cross = skew(omega)
    rotation: Array = np.eye(3) + a[:, None, None] * cross + b[:, None, None] * (cross @ cross)
    return rotation


def skew(v: Array) -> Array:
    """Matrices (n, 3, 3) of the cross product: skew(v) @ x = v x x."""
    out = np.zeros((len(v), 3, 3))
    out[:, 0, 1], out[:, 0, 2], out[:, 1, 2] = -v[:, 2], v[:, 1], -v[:, 0]
    return out - out.transpose(0, 2, 1)


def rotation_from_quaternion(quaternion: ArrayLike) -> Array:
    """Rotation matrices (..., 3, 3) from quaternions (..., 4) in the order w, x, y, z, of any length but zero."""
    q = np.asarray(quaternion, float)
    w, v = q[..., 0, None, None], q[..., 1:]
    cross = skew(v.reshape(-1, 3)).reshape(*v.shape, 3)
    squared = (q**2).sum(axis=-1)[..., None, None]
    rotation: Array = np.eye(3) + 2.0 * (w * cross + cross @ cross) / squared
    return rotation


def rotation_angle_deg(rotation: ArrayLike) -> Array:
    """Angle in [0, 180] of each rotation matrix (..., 3, 3)."""
    matrix = np.asarray(rotation, float)
    twice_cosine = np.trace(matrix, axis1=-2, axis2=-1) - 1.0
    antisymmetric = matrix - np.swapaxes(matrix, -1, -2)
    x, y, z = antisymmetric[..., 2, 1], antisymmetric[..., 0, 2], antisymmetric[..., 1, 0]
    twice_sine = np.sqrt(x**2 + y**2 + z**2)
    # The arc cosine alone loses half of the digits near 0 and 180 degrees.
    angle: Array = np.degrees(np.arctan2(twice_sine, twice_cosine))
    return angle


def log_so3(rotation: Array) -> Array:
    """Vectors (n, 3), angle in radians times axis, of rotations (n, 3, 3)."""
    angle = np.radians(rotation_angle_deg(rotation))
    axis = np.stack(
        [
            rotation[:, 2, 1] - rotation[:, 1, 2],
            rotation[:, 0, 2] - rotation[:, 2, 0],
            rotation[:, 1, 0] - rotation[:, 0, 1],
        ],
        axis=1,
    )
    # Near a half turn the skew part vanishes; such pairs are outliers, and only their size matters.
    length = np.linalg.norm(axis, axis=1)
    out: Array = axis * (angle / np.where(length > 1e-12, length, 1.0))[:, None]
    return np.where((length <= 1e-12)[:, None], angle[:, None] * np.array([1.0, 0.0, 0.0]), out)


def nearest_rotation(matrix: ArrayLike) -> Array:
    """Rotation closest (Frobenius) to each matrix (..., 3, 3), always of determinant +1."""
    u, _, vt = np.linalg.svd(np.asarray(matrix, float))
    u[..., :, 2] *= np.sign(np.linalg.det(u @ vt))[..., None]
    rotation: Array = u @ vt
    return rotation


def orthonormalised(rotation: Array) -> Array:
    """A product (3, 3) of rotations without its rounding errors e: one step of Newton's method for the polar
    decomposition, which leaves errors of e^2, at a tenth of the time of `nearest_rotation`."""
    out: Array = rotation @ (THREE_HALVES - 0.5 * (rotation.T @ rotation))
    return out


def rotation_residuals_deg(pairs: Index, b_from_a: Array, cam_from_world: Array) -> Array:
    """(e,) angle between each relative rotation b_from_a and R_b R_a^T from the poses; NaN where a photo has none."""
    predicted = cam_from_world[pairs[:, 1]] @ cam_from_world[pairs[:, 0]].transpose(0, 2, 1)
    return rotation_angle_deg(b_from_a @ predicted.transpose(0, 2, 1))
