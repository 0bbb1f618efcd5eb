"""Rotations and similarities of 3D space: angles between them, the nearest one, the best one between point sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Similarity:
    """Maps x to scale * rotation @ x + translation."""

    scale: float
    rotation: Array
    """(3, 3)."""
    translation: Array
    """(3,)."""

    def __call__(self, points: ArrayLike) -> Array:
        """Map points (..., 3)."""
        mapped: Array = self.scale * np.asarray(points, float) @ self.rotation.T + self.translation
        return mapped


def rotation_angle_deg(rotation: ArrayLike) -> Array:
    """Angle in [0, 180] of each rotation matrix (..., 3, 3)."""
    matrix = np.asarray(rotation, float)
    twice_cosine = np.trace(matrix, axis1=-2, axis2=-1) - 1.0
    skew = matrix - np.swapaxes(matrix, -1, -2)
    twice_sine = np.sqrt(skew[..., 2, 1] ** 2 + skew[..., 0, 2] ** 2 + skew[..., 1, 0] ** 2)
    # The arc cosine alone loses half of the digits near 0 and 180 degrees.
    angle: Array = np.degrees(np.arctan2(twice_sine, twice_cosine))
    return angle


def direction_angle_deg(a: ArrayLike, b: ArrayLike) -> Array:
    """Angle in [0, 180] between vectors (..., 3) of any length; a zero vector makes 180 with everything."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    sine, cosine = np.linalg.norm(np.cross(a, b), axis=-1), np.sum(a * b, axis=-1)
    meant = a.any(axis=-1) & b.any(axis=-1)
    angle: Array = np.where(meant, np.degrees(np.arctan2(sine, cosine)), 180.0)
    return angle


def nearest_rotation(matrix: ArrayLike) -> Array:
    """The rotation closest (Frobenius) to each matrix (..., 3, 3), always of determinant +1."""
    u, _, vt = np.linalg.svd(np.asarray(matrix, float))
    u[..., :, 2] *= np.sign(np.linalg.det(u @ vt))[..., None]
    rotation: Array = u @ vt
    return rotation


def fit_similarity(source: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None) -> Similarity:
    """The similarity that brings source points (n, 3) closest to target points (n, 3) (Umeyama 1991).

    It minimises sum_i weight_i |S(source_i) - target_i|^2. The rotation is not unique where the points lie on a line
    (see `flatness`); where all source points coincide the scale is 1.
    """
    source, target = np.asarray(source, float), np.asarray(target, float)
    share = np.full(len(source), 1.0) if weight is None else np.asarray(weight, float)
    share = share / share.sum()
    source_mean, target_mean = share @ source, share @ target
    a, b = source - source_mean, target - target_mean

    u, stretch, vt = np.linalg.svd((b * share[:, None]).T @ a)
    mirrored = np.linalg.det(u) * np.linalg.det(vt) < 0
    sign = np.array([1.0, 1.0, -1.0 if mirrored else 1.0])
    rotation = (u * sign) @ vt
    variance = float(share @ (a**2).sum(axis=1))
    scale = float(stretch @ sign) / variance if variance > 0 else 1.0
    return Similarity(scale, rotation, target_mean - scale * rotation @ source_mean)


def flatness(points: ArrayLike) -> float:
    """Second over first extent of points (n, 3): 0 where all lie on one line, 1 for a round cloud."""
    points = np.asarray(points, float)
    extents = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return float(extents[1] / extents[0]) if len(extents) > 1 and extents[0] > 0 else 0.0
