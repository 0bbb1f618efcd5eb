"""Pictures without distortion: the pinhole camera that takes one, and where its pixels come from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .cameras import CX, CY, FX, FY, Array, project, unproject

WIDEST_HALF_DEG = {False: 75.0, True: 60.0}
"""From the axis to a side, of plain cameras and of fisheyes: a wider plane picture is all sides, made of few pixels."""

STRIP_PX = 1 << 20
"""Pixels whose origins are computed at once: several numbers of eight bytes each."""


def centred_pinhole(intrinsics: Array, fisheye: bool, width: int, height: int) -> tuple[Array, int, int]:
    """(8,) intrinsics, width and height of the largest picture with its principal point in the middle and the focal
    lengths of the given one, within which every pixel was seen."""
    along_x, along_y = np.arange(width + 1.0), np.arange(height + 1.0)
    left, right = (_plane_u_v(np.full_like(along_y, x), along_y, intrinsics, fisheye)[0] for x in (0.0, width))
    top, bottom = (_plane_u_v(along_x, np.full_like(along_x, y), intrinsics, fisheye)[1] for y in (0.0, height))
    # A border bends; its innermost point bounds the picture. What no ray makes (NaN) lies beyond all that is wanted.
    widest = np.tan(np.radians(WIDEST_HALF_DEG[fisheye]))
    half_u = min(-np.nanmax(left, initial=-widest), np.nanmin(right, initial=widest))
    half_v = min(-np.nanmax(top, initial=-widest), np.nanmin(bottom, initial=widest))
    new_width = max(1, int(2.0 * half_u * intrinsics[FX] + 1e-6))
    new_height = max(1, int(2.0 * half_v * intrinsics[FY] + 1e-6))
    pinhole = np.zeros(8)
    pinhole[[FX, FY, CX, CY]] = intrinsics[FX], intrinsics[FY], new_width / 2, new_height / 2
    return pinhole, new_width, new_height


def origins(pinhole: Array, width: int, height: int, intrinsics: Array, fisheye: bool) -> NDArray[np.float32]:
    """(height, width, 2) float32: where in the distorted picture each pixel's centre of the pinhole's was seen."""
    out = np.empty((height, width, 2), np.float32)
    rows = max(1, STRIP_PX // width)
    u = (np.arange(width) + 0.5 - pinhole[CX]) / pinhole[FX]
    for start in range(0, height, rows):
        v = (np.arange(start, min(start + rows, height)) + 0.5 - pinhole[CY]) / pinhole[FY]
        rays = np.stack([*np.broadcast_arrays(u, v[:, None]), np.ones((len(v), width))], axis=-1)
        out[start : start + rows] = project(rays.reshape(-1, 3), intrinsics, fisheye).reshape(len(v), width, 2)
    return out


def _plane_u_v(x: Array, y: Array, intrinsics: Array, fisheye: bool) -> Array:
    """(2, n) points of the plane z = 1."""
    return unproject(np.stack([x, y], axis=1), intrinsics, fisheye).T


def undistorted(xy: Array, intrinsics: Array, fisheye: bool, pinhole: Array) -> Array:
    """(n, 2) pixels of the pinhole's picture that show what pixels `xy` do; not a number where there is no such."""
    plane = unproject(xy, intrinsics, fisheye)
    return plane * pinhole[[FX, FY]] + pinhole[[CX, CY]]
