"""Pure rotation: test whether a homography is that of a camera that rotates about its centre.

Such a camera has x_b ~ K_b R K_a^-1 x_a, so its homography is one of a rotation and two focal lengths. A plane seen by
a moving camera gives a homography as well; the transfer error under the nearest rotation tells them apart.
"""

from __future__ import annotations

import numpy as np

from ..arrays import Array
from ..rotations import nearest_rotation

_SAMPLE = 200  # points that choose the focal lengths; all of them judge the result
_ROUNDS = 7


def rotation_from_homography(homography: Array, xy_a: Array, xy_b: Array, focals: Array) -> tuple[Array, Array, Array]:
    """Rotation b_from_a (3, 3) and focal lengths (2,) whose homography K_b R K_a^-1 is closest to the given one.

    `focals` (k, 2) are candidates evenly spaced in logarithm; the best one by median transfer error is refined by grids
    of half the spacing. Points (n, 2) are relative to the principal points. Also returns the transfer error (n,) of
    every point, in the unit of the points.
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
    """(k, 3, 3) rotations closest to K_b^-1 H K_a for each pair of focal lengths (k, 2)."""
    intrinsics_a, intrinsics_b = (np.column_stack([f, f, np.ones(len(f))]) for f in focals.T)
    proper = homography * np.sign(np.linalg.det(homography))
    return nearest_rotation(proper * intrinsics_a[:, None, :] / intrinsics_b[:, :, None])


def _transfer_errors(rotations: Array, focals: Array, xy_a: Array, xy_b: Array) -> Array:
    """(k, n) distance between the points of b and those of a transferred by K_b R K_a^-1; infinite behind the
    camera."""
    rays = np.concatenate([np.broadcast_to(xy_a, (len(focals), *xy_a.shape)), np.empty((len(focals), len(xy_a), 1))], 2)
    rays[..., 2] = focals[:, :1]
    turned = rays @ rotations.transpose(0, 2, 1)
    ahead = turned[..., 2] > 1e-9
    seen = focals[:, 1, None, None] * turned[..., :2] / np.where(ahead, turned[..., 2], 1.0)[..., None]
    return np.where(ahead, np.linalg.norm(seen - xy_b, axis=2), np.inf)
