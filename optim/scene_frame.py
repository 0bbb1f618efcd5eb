"""The frame of a scene: upright, at its origin and of unit size, and what lies too far out to belong to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .arrays import Array
from .poses import camera_centres
from .similarity import Similarity

LEVEL_ENOUGH = 0.05
"""Least ratio of the spread of the cameras' x axes along the second horizontal direction to that along the first: of
cameras that all look one way, their own up is better than the normal of their x axes."""


def upright_frame(cam_from_world: Array, keep_scale: bool = False) -> Similarity:
    """Similarity to a frame with y down, its origin in the middle of the cameras (n, 3, 4), and the farthest at 1.

    Photos are mostly taken level: up is the direction that is orthogonal to the x axes of the cameras, or the mean of
    their own up where these hardly differ. The scale is kept if asked for, and where all cameras are at one place.
    """
    rotation = cam_from_world[:, :, :3]
    centres = camera_centres(cam_from_world)
    down = rotation[:, 1].mean(axis=0)
    spread, axes = np.linalg.eigh(rotation[:, 0].T @ rotation[:, 0])
    if spread[1] > LEVEL_ENOUGH * spread[2] and np.linalg.norm(down) > 0.1:
        down = axes[:, 0] * np.sign(axes[:, 0] @ down)
    if not np.linalg.norm(down) > 0.1:
        down = rotation[0, 1]
    down = down / np.linalg.norm(down)
    forward = _orthogonal(rotation[:, 2].mean(axis=0), down)
    if not np.linalg.norm(forward) > 1e-3:  # cameras all around, or straight down
        forward = _orthogonal(np.eye(3)[int(np.abs(down).argmin())], down)
    forward = forward / np.linalg.norm(forward)
    turn = np.stack([np.cross(down, forward), down, forward])
    middle = centres.mean(axis=0)
    radius = float(np.linalg.norm(centres - middle, axis=1).max(initial=0.0))
    scale = 1.0 if keep_scale or not radius > 0.0 else 1.0 / radius
    return Similarity(scale, turn, -scale * turn @ middle)


def far_from_others(points: Array, ratio: float) -> NDArray[np.bool_]:
    """(n,) whether a point (n, 3) is farther from the median than `ratio` times the median distance.

    Repeated without those that are, since they are in both medians; where half of the points are at one place, none is.
    """
    far = np.zeros(len(points), bool)
    while not far.all():
        distance = np.linalg.norm(points - np.median(points[~far], axis=0), axis=1)
        usual = float(np.median(distance[~far]))
        now = distance > ratio * usual if usual > 0.0 else far
        if not (now & ~far).any():
            break
        far = far | now
    return far


def _orthogonal(direction: Array, axis: Array) -> Array:
    part: Array = direction - (direction @ axis) * axis
    return part
