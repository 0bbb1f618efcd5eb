"""Tracks of a model: how many photos see each point, and under which angle."""

from __future__ import annotations

import numpy as np

from unposed.optim.arrays import Array, Index
from unposed.optim.poses import camera_centres
from unposed.pipeline.artifacts import SparseModel


def track_lengths(model: SparseModel) -> Index:
    """(n,) number of observations of each point."""
    return np.bincount(model.obs_point, minlength=len(model.points))


def triangulation_angles_deg(model: SparseModel) -> Array:
    """(n,) widest angle between the rays to each point, by two sweeps: from the first ray to the farthest, and from
    that one to the farthest again. Exact where the cameras of a track stand on a line or an arc."""
    if not len(model.points):
        return np.zeros(0)
    photo = model.obs_photo
    ray = model.points[model.obs_point] - camera_centres(model.cam_from_world)[photo]
    ray /= np.maximum(np.linalg.norm(ray, axis=1), 1e-300)[:, None]
    seen, start = np.unique(model.obs_point, return_index=True)
    length = np.diff(np.append(start, len(ray)))
    for _ in range(2):
        cosine = np.einsum("mi,mi->m", ray, np.repeat(ray[start], length, axis=0))
        least = np.minimum.reduceat(cosine, start)
        rows = np.flatnonzero(cosine <= np.repeat(least, length))
        start_of = np.searchsorted(rows, start)
        swap = rows[start_of]
        ray[start], ray[swap] = ray[swap].copy(), ray[start].copy()
    angle = np.zeros(len(model.points))
    angle[seen] = np.degrees(np.arccos(np.clip(least, -1.0, 1.0)))
    return angle
