"""Telling whether a homography is a camera that turned in place."""

from __future__ import annotations

import numpy as np

from ..arrays import Array
from ..rotations import nearest_rotation

_SAMPLE = 200  # points that choose the focal lengths; all of them judge the result
_ROUNDS = 7


def rotation_from_homography(homography: Array, xy_a: Array, xy_b: Array, focals: Array) -> tuple[Array, Array, Array]:
    """The rotation b_from_a and the two focal lengths under which turning in place comes closest to the homography.

    `focals` (k, 2) are candidates, spread evenly in logarithm: the best is refined by ever closer ones. Points (n, 2)
    count from the principal points. Also returned: the transfer error of every point, in the unit of the points.
    """
    some = np.linspace(0, len(xy_a) - 1, min(len(xy_a), _SAMPLE)).astype(int)
    shared = bool(np.ptp(focals[:, 1] / focals[:, 0]) < 1e-9)
    steps = np.unique(focals[:, 0])
    reach = np.log(steps[-1] / steps[0]) / max(len(steps) - 1, 1)
    for _ in range(_ROUNDS):
        turns = _nearest_rotations(homography, focals)
        best = int(np.argmin(np.median(_transfer_errors(turns, focals, xy_a[some], xy_b[some]), axis=1)))
        rotation, chosen = turns[best], focals[best]
        near = np.exp(reach * np.linspace(-1.0, 1.0, 5))
        grid = (near, near) if shared else tuple(side.ravel() for side in np.meshgrid(near, near))
        focals, reach = chosen * np.column_stack(grid), reach / 2.0
    return rotation, chosen, _transfer_errors(rotation[None], chosen[None], xy_a, xy_b)[0]


def _nearest_rotations(homography: Array, focals: Array) -> Array:
    intrinsics_a, intrinsics_b = (np.column_stack([f, f, np.ones(len(f))]) for f in focals.T)
    proper = homography * np.sign(np.linalg.det(homography))
    return nearest_rotation(proper * intrinsics_a[:, None, :] / intrinsics_b[:, :, None])


def _transfer_errors(rotations: Array, focals: Array, xy_a: Array, xy_b: Array) -> Array:
    """(k, n) distance between points of b and where they come to lie when a turns."""
    rays = np.concatenate([np.broadcast_to(xy_a, (len(focals), *xy_a.shape)), np.empty((len(focals), len(xy_a), 1))], 2)
    rays[..., 2] = focals[:, :1]
    turned = rays @ rotations.transpose(0, 2, 1)
    ahead = turned[..., 2] > 1e-9
    seen = focals[:, 1, None, None] * turned[..., :2] / np.where(ahead, turned[..., 2], 1.0)[..., None]
    return np.where(ahead, np.linalg.norm(seen - xy_b, axis=2), np.inf)
