"""Similarity transforms of 3D space, and their least-squares fit to corresponding points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array


@dataclass(frozen=True, eq=False)
class Similarity:
    """The map x -> scale * rotation @ x + translation."""

    scale: float
    rotation: Array
    """(3, 3)."""
    translation: Array
    """(3,)."""

    def __call__(self, points: ArrayLike) -> Array:
        """Map points (..., 3)."""
        mapped: Array = self.scale * np.asarray(points, float) @ self.rotation.T + self.translation
        return mapped


def direction_angle_deg(a: ArrayLike, b: ArrayLike) -> Array:
    """Angle in [0, 180] between vectors (..., 3) of any length; 180 where one of them is zero."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    sine, cosine = np.linalg.norm(np.cross(a, b), axis=-1), np.sum(a * b, axis=-1)
    defined = a.any(axis=-1) & b.any(axis=-1)
    angle: Array = np.where(defined, np.degrees(np.arctan2(sine, cosine)), 180.0)
    return angle


def fit_similarity(source: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None) -> Similarity:
    """Fit the similarity S that minimises sum_i weight_i |S(source_i) - target_i|^2 over points (n, 3) (Umeyama 1991).

    The rotation is not unique where the points lie on a line (see `flatness`); where all source points coincide the
    scale is 1.
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
    """Ratio of the second to the first singular value of centred points (n, 3): 0 where all lie on one line, 1 for a
    round cloud."""
    points = np.asarray(points, float)
    extents = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return float(extents[1] / extents[0]) if len(extents) > 1 and extents[0] > 0 else 0.0
