"""Undistortion: the pinhole camera of an undistorted image, and the pixels of the distorted image that fill it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from .arrays import Array
from .cameras import CX, CY, FX, FY, P1, P2, distort, unproject
from .option_ranges import Within

HalfAngle = Annotated[float, Within("(0, 90)")]
"""Degrees."""

STRIP_PX = 1 << 20
"""Pixels whose sources are computed at once: several numbers of eight bytes each."""


@dataclass(frozen=True)
class UndistortionOptions:
    """How wide an undistorted image may be, in degrees from the axis to a side: the sides of a wider plane image take
    up most of it, and stretch few pixels."""

    max_half_angle_deg: HalfAngle = 75.0
    """Of perspective cameras."""
    max_fisheye_half_angle_deg: HalfAngle = 60.0
    """Of fisheyes, whose own sides are denser."""


def centred_pinhole(
    intrinsics: Array,
    fisheye: bool,
    width: int,
    height: int,
    options: UndistortionOptions = UndistortionOptions(),
    multiple_px: int = 1,
    max_side_px: int | None = None,
) -> tuple[Array, int, int]:
    """(8,) intrinsics, width and height of the largest undistorted image without empty pixels, with the focal lengths
    of the distorted one and its principal point in the middle; smaller, with smaller focal lengths, where its longer
    side would be above `max_side_px`.

    Width and height are multiples of `multiple_px`, unless they are smaller than that."""
    along_x, along_y = np.arange(width + 1.0), np.arange(height + 1.0)
    left, right = (_plane_u_v(np.full_like(along_y, x), along_y, intrinsics, fisheye)[0] for x in (0.0, width))
    top, bottom = (_plane_u_v(along_x, np.full_like(along_x, y), intrinsics, fisheye)[1] for y in (0.0, height))
    # The border of the distorted image is a curve; its innermost point is the bound. Points without a ray (NaN) lie
    # further out than any bound.
    half_angle_deg = options.max_fisheye_half_angle_deg if fisheye else options.max_half_angle_deg
    widest = np.tan(np.radians(half_angle_deg))
    half_u = min(-np.nanmax(left, initial=-widest), np.nanmin(right, initial=widest))
    half_v = min(-np.nanmax(top, initial=-widest), np.nanmin(bottom, initial=widest))
    sides = 2.0 * half_u * intrinsics[FX], 2.0 * half_v * intrinsics[FY]
    scale = 1.0 if max_side_px is None else min(1.0, max_side_px / max(sides))
    new_width, new_height = (max(1, int(scale * side + 1e-6)) for side in sides)
    new_width, new_height = (
        side - side % multiple_px if side >= multiple_px else side for side in (new_width, new_height)
    )
    pinhole = np.zeros(8)
    pinhole[[FX, FY, CX, CY]] = scale * intrinsics[FX], scale * intrinsics[FY], new_width / 2, new_height / 2
    return pinhole, new_width, new_height


def origins(pinhole: Array, width: int, height: int, intrinsics: Array, fisheye: bool) -> NDArray[np.float32]:
    """(height, width, 2) float32: the point of the distorted image that each pixel centre of the pinhole comes from."""
    out = np.empty((height, width, 2), np.float32)
    rows = max(1, STRIP_PX // width)
    tangential = not fisheye and bool(intrinsics[[P1, P2]].any())
    u = (np.arange(width) + 0.5 - pinhole[CX]) / pinhole[FX]
    for start in range(0, height, rows):
        v = (np.arange(start, min(start + rows, height)) + 0.5 - pinhole[CY]) / pinhole[FY]
        right, below = np.broadcast_arrays(u, v[:, None])
        across, down = distort(right, below, intrinsics.tolist(), fisheye, tangential)
        out[start : start + rows, :, 0] = intrinsics[FX] * across + intrinsics[CX]
        out[start : start + rows, :, 1] = intrinsics[FY] * down + intrinsics[CY]
    return out


def _plane_u_v(x: Array, y: Array, intrinsics: Array, fisheye: bool) -> Array:
    """(2, n) points of the plane z = 1 of pixels (x, y)."""
    return unproject(np.stack([x, y], axis=1), intrinsics, fisheye).T


def undistorted(xy: Array, intrinsics: Array, fisheye: bool, pinhole: Array) -> Array:
    """Map pixels `xy` (n, 2) of the distorted image to the pinhole; NaN where they have no ray."""
    plane = unproject(xy, intrinsics, fisheye)
    return plane * pinhole[[FX, FY]] + pinhole[[CX, CY]]
