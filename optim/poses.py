"""Poses of cameras."""

from __future__ import annotations

import numpy as np

from .arrays import AnyArray, Array


def camera_centres(cam_from_world: AnyArray) -> Array:
    """(n, 3) positions of cameras (n, 3, 4) in the world, c = -R^T t."""
    pose = np.asarray(cam_from_world, np.float64)
    return np.asarray(-np.einsum("nji,nj->ni", pose[:, :, :3], pose[:, :, 3]))
