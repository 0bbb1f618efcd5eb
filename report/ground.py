"""A model from above: which way is up, and how many photos see each place of the ground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unposed.optim.arrays import AnyArray, Array, Index
from unposed.optim.poses import camera_centres
from unposed.pipeline.artifacts import SparseModel

CELLS = 110
"""Of the map of coverage along its longer side."""
FAR_QUANTILE = 0.03
"""Share of the points at either end of each axis that may lie outside of the map: stray ones would make it small."""


def upright_axes(cam_from_world: AnyArray) -> Array:
    """(3, 3) rotation from the world to a frame whose third axis is up: rows right, ahead, up.

    Up is the unit vector v of least v^T M v, with M the mean of r r^T over the cameras' right-hand axes r, which are
    level in photos that are held upright, whatever the pitch; plus a fifth of the covariance of their positions
    relative to its trace, which decides where all look the same way, as from a drone; minus 0.03 u u^T, u the mean of
    the cameras' own up axes, which decides where they stand in a row, as before a front.
    """
    pose = np.asarray(cam_from_world, np.float64)
    right, own_up = pose[:, 0, :3], -pose[:, 1, :3].mean(axis=0)
    centred = camera_centres(pose) - camera_centres(pose).mean(axis=0)
    spread = centred.T @ centred / max(len(pose), 1)
    matrix = right.T @ right / len(pose) + 0.2 * spread / max(float(np.trace(spread)), 1e-300)
    up = np.linalg.eigh(matrix - 0.03 * np.outer(own_up, own_up))[1][:, 0]
    up = up if up @ own_up >= 0.0 else -up
    ahead = pose[:, 2, :3].mean(axis=0)
    ahead = ahead - (ahead @ up) * up
    if np.linalg.norm(ahead) < 0.1:  # cameras in a ring look in all directions
        ahead = np.linalg.eigh(spread + 1e-12 * np.eye(3))[1][:, -1]
        ahead = ahead - (ahead @ up) * up
    if np.linalg.norm(ahead) < 1e-9:
        ahead = np.eye(3)[np.argmin(np.abs(up))]
        ahead = ahead - (ahead @ up) * up
    ahead = ahead / np.linalg.norm(ahead)
    return np.stack([np.cross(ahead, up), ahead, up])


@dataclass(frozen=True, eq=False)
class GroundMap:
    """How many photos see each place, from above."""

    photos: Index
    """(rows, columns) photos that see a point of the cell; row 0 is farthest ahead. 0: no point lies there."""
    low: Array
    high: Array
    """(2,) corners of the map in the upright frame."""
    cameras: Array
    """(p, 2) positions of the cameras in it."""
    looks: Array
    """(p, 2) horizontal part of their viewing directions, of length one at most."""


def ground_map(model: SparseModel, axes: Array) -> GroundMap:
    """Count, for each cell of the ground plane, the photos that observe points above or below it."""
    pose = np.asarray(model.cam_from_world, np.float64)
    cameras = camera_centres(pose) @ axes[:2].T
    points = model.points @ axes[:2].T
    bounds = cameras
    if len(points):
        ends = np.quantile(points, [FAR_QUANTILE, 1.0 - FAR_QUANTILE], axis=0)
        bounds = np.concatenate([cameras, ends])
    low, high = bounds.min(axis=0), bounds.max(axis=0)
    margin = 0.06 * max(float((high - low).max()), 1e-9)
    low, high = low - margin, high + margin
    cell = float((high - low).max()) / CELLS
    columns, rows = (max(1, int(np.ceil(extent / cell))) for extent in high - low)
    high = low + cell * np.array([columns, rows])
    at = np.floor((points - low) / cell).astype(np.int64)
    inside = ((at >= 0) & (at < [columns, rows])).all(axis=1)
    photo = model.obs_photo
    own = inside[model.obs_point]
    place = (rows - 1 - at[:, 1]) * columns + at[:, 0]
    seen = np.unique(place[model.obs_point[own]] * len(pose) + photo[own]) // len(pose)
    count = np.bincount(seen, minlength=rows * columns).reshape(rows, columns)
    return GroundMap(count, low, high, cameras, pose[:, 2, :3] @ axes[:2].T)
