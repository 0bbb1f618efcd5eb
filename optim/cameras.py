"""Projection by COLMAP's pinhole, radial and fisheye camera models, its Jacobians and its inverse.

Every model is a special case of one vector of eight intrinsics:

    perspective    fx, fy, cx, cy, k1, k2, p1, p2
    fisheye        fx, fy, cx, cy, k1, k2, k3, k4

A point (x, y, z) in camera coordinates meets the plane z = 1 at (u, v) = (x / z, y / z), is distorted to (u', v') and
has the pixel (fx u' + cx, fy v' + cy). With r^2 = u^2 + v^2 and theta = atan(r),

    perspective    u' = u (1 + k1 r^2 + k2 r^4) + 2 p1 u v + p2 (r^2 + 2 u^2)
                   v' = v (1 + k1 r^2 + k2 r^4) + p1 (r^2 + 2 v^2) + 2 p2 u v
    fisheye        (u', v') = (u, v) / r * theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8)

`CAMERA_MODELS` is the one table of what the models are; everything that depends on the model derives from it, so that
one projection and one Jacobian serve all of them.

The inner functions work on components, one long vector each, of numpy or torch (`xp`): that keeps vector units busy.
The outer ones take and give rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .arrays import Array, Mask

Vector = Any
"""Array of numpy or tensor of torch, (m,)."""
Vectors = Any
"""Eight of them, or eight numbers."""

FX, FY, CX, CY, K1, K2, P1, P2 = range(8)
"""Places in the vector of intrinsics."""

K3, K4 = P1, P2
"""A fisheye has no tangential terms: the last two places hold the rest of its polynomial."""

CameraModelName = Literal["SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE"]
"""The keys of CAMERA_MODELS, for type checkers and for options."""


@dataclass(frozen=True)
class CameraModel:
    """A camera model of COLMAP, in terms of the eight intrinsics."""

    params: tuple[tuple[int, ...], ...]
    """In the order of COLMAP's parameters: the intrinsics that each of them sets."""
    fisheye: bool = False

    @property
    def shared_focal(self) -> bool:
        """Whether fx and fy are one parameter."""
        return (FX, FY) in self.params

    @property
    def num_focals(self) -> int:
        return 1 if self.shared_focal else 2

    @property
    def num_distortion(self) -> int:
        """Parameters behind the principal point."""
        return sum(min(tied) >= K1 for tied in self.params)

    @property
    def tangential(self) -> bool:
        """Whether the model has p1 and p2."""
        return not self.fisheye and (P1,) in self.params


_SHARED_FOCAL = (FX, FY), (CX,), (CY,)
_TWO_FOCALS = (FX,), (FY,), (CX,), (CY,)

CAMERA_MODELS: dict[str, CameraModel] = {
    "SIMPLE_PINHOLE": CameraModel(_SHARED_FOCAL),
    "PINHOLE": CameraModel(_TWO_FOCALS),
    "SIMPLE_RADIAL": CameraModel((*_SHARED_FOCAL, (K1,))),
    "RADIAL": CameraModel((*_SHARED_FOCAL, (K1,), (K2,))),
    "OPENCV": CameraModel((*_TWO_FOCALS, (K1,), (K2,), (P1,), (P2,))),
    "OPENCV_FISHEYE": CameraModel((*_TWO_FOCALS, (K1,), (K2,), (K3,), (K4,)), fisheye=True),
}

FOCAL_GUESS = 1.2
"""Focal length over the longer side of a photo when nothing is known: a field of view of 45 degrees."""


def fisheyes(models: Sequence[str]) -> Mask:
    """(cameras,) whether each model is a fisheye; a model that is not in the table counts as none."""
    return np.array([model in CAMERA_MODELS and CAMERA_MODELS[model].fisheye for model in models], bool)


def intrinsics_of(model: str, params: Sequence[float]) -> Array:
    """(8,) intrinsics from the parameters of a model."""
    intrinsics = np.zeros(8)
    for value, tied in zip(params, CAMERA_MODELS[model].params, strict=True):
        intrinsics[list(tied)] = value
    return intrinsics


def params_of(model: str, intrinsics: Array) -> tuple[float, ...]:
    """The parameters of a model from intrinsics (8,)."""
    return tuple(float(intrinsics[tied[0]]) for tied in CAMERA_MODELS[model].params)


def project(y: Array, intrinsics: Array, fisheye: Mask | bool = False) -> Array:
    """Project points `y` (m, 3) in camera coordinates to pixels (m, 2); intrinsics (m, 8) or (8,), fisheye (m,) or one
    for all."""
    k = np.broadcast_to(intrinsics, (len(y), 8)).T
    u, v = distort(y[:, 0] / y[:, 2], y[:, 1] / y[:, 2], k, fisheye)
    return np.stack([k[FX] * u + k[CX], k[FY] * v + k[CY]], axis=1)


def project_with_jacobians(y: Array, intrinsics: Array, fisheye: Mask | bool = False) -> tuple[Array, Array, Array]:
    """Project as `project` does: pixels (m, 2), d pixels / d y (m, 2, 3) and d pixels / d intrinsics (m, 2, 8)."""
    k = np.broadcast_to(intrinsics, (len(y), 8)).T
    inverse_z = 1.0 / y[:, 2]
    u, v = y[:, 0] * inverse_z, y[:, 1] * inverse_z
    (du, dv), (uu, uv, vv), by_coefficient = distort_with_derivatives(u, v, k, fisheye)
    pixels = np.stack([k[FX] * du + k[CX], k[FY] * dv + k[CY]], axis=1)
    by_y = np.empty((len(y), 2, 3))
    by_y[:, 0, 0], by_y[:, 0, 1] = k[FX] * uu, k[FX] * uv
    by_y[:, 1, 0], by_y[:, 1, 1] = k[FY] * uv, k[FY] * vv
    by_y[:, :, 2] = -(by_y[:, :, 0] * u[:, None] + by_y[:, :, 1] * v[:, None])
    by_y *= inverse_z[:, None, None]
    by_k = np.zeros((len(y), 2, 8))
    by_k[:, 0, FX], by_k[:, 1, FY] = du, dv
    by_k[:, 0, CX] = by_k[:, 1, CY] = 1.0
    for i in range(4):
        by_u, by_v = by_coefficient(i)
        by_k[:, 0, K1 + i], by_k[:, 1, K1 + i] = k[FX] * by_u, k[FY] * by_v
    return pixels, by_y, by_k


def distort(
    u: Vector, v: Vector, k: Vectors, fisheye: Vector = False, tangential: bool = True, xp: Any = np
) -> tuple[Vector, Vector]:
    """Distort points (u, v) of the plane z = 1 to (u', v'); `k` are the eight intrinsics, numbers or vectors. Without
    `tangential`, p1 and p2 are taken for zero."""
    radial, _, _ = _radial(u, v, k, fisheye, xp, False)
    if not tangential:
        return u * radial, v * radial
    p1, p2 = (_zero_for_fisheyes(k[i], fisheye, xp) for i in (P1, P2))
    r2, uv = u * u + v * v, 2.0 * u * v
    return u * radial + p1 * uv + p2 * (r2 + 2.0 * u * u), v * radial + p1 * (r2 + 2.0 * v * v) + p2 * uv


def distort_with_derivatives(
    u: Vector, v: Vector, k: Vectors, fisheye: Vector = False, tangential: bool = True, xp: Any = np
) -> tuple[tuple[Vector, Vector], tuple[Vector, Vector, Vector], Callable[[int], tuple[Vector, Vector]]]:
    """Distort as `distort` does, and differentiate.

    Returns (u', v'); the derivative by (u, v), which is symmetric, as its entries uu, uv and vv; and a function that
    gives the derivative by distortion coefficient i of four.
    """
    radial, slope, angles = _radial(u, v, k, fisheye, xp, True)
    r2, uv = u * u + v * v, u * v
    du, dv = u * radial, v * radial
    by_uu, by_uv, by_vv = radial + slope * (u * u), slope * uv, radial + slope * (v * v)
    if tangential:
        p1, p2 = (_zero_for_fisheyes(k[i], fisheye, xp) for i in (P1, P2))
        du = du + 2.0 * p1 * uv + p2 * (r2 + 2.0 * u * u)
        dv = dv + p1 * (r2 + 2.0 * v * v) + 2.0 * p2 * uv
        by_uu = by_uu + 2.0 * p1 * v + 6.0 * p2 * u
        by_uv = by_uv + 2.0 * p1 * u + 2.0 * p2 * v
        by_vv = by_vv + 6.0 * p1 * v + 2.0 * p2 * u

    def by_coefficient(i: int) -> tuple[Vector, Vector]:
        if i < 2:
            power = r2 if i == 0 else r2 * r2
            perspective = u * power, v * power
        else:
            perspective = (2.0 * uv, r2 + 2.0 * v * v) if i == 2 else (r2 + 2.0 * u * u, 2.0 * uv)
        if angles is None:
            return perspective
        angle, per_radius = angles
        power = angle ** (2 * i + 2) * per_radius
        return xp.where(fisheye, u * power, perspective[0]), xp.where(fisheye, v * power, perspective[1])

    return (du, dv), (by_uu, by_uv, by_vv), by_coefficient


def _radial(
    u: Vector, v: Vector, k: Vectors, fisheye: Vector, xp: Any, derive: bool
) -> tuple[Vector, Vector, tuple[Vector, Vector] | None]:
    """The radial factor g with (u', v') = g (u, v); (1 / r) dg / dr if `derive`; theta and theta / r, None without
    fisheyes."""
    r2 = u * u + v * v
    radial = 1.0 + r2 * (k[K1] + r2 * k[K2])
    slope = 2.0 * k[K1] + 4.0 * k[K2] * r2 if derive else None
    if not (fisheye if isinstance(fisheye, bool) else bool(fisheye.any())):
        return radial, slope, None
    fisheye = fisheye + 0 * u > 0  # a vector, whatever it was
    tiny = 1e-300
    r = xp.sqrt(r2)
    angle = xp.arctan(r)
    per_radius = xp.where(r > tiny, angle / (r + tiny), 1.0 + r)  # its limit on the axis is 1
    t = angle * angle
    stretched = per_radius * (1.0 + t * (k[K1] + t * (k[K2] + t * (k[K3] + t * k[K4]))))
    radial = xp.where(fisheye, stretched, radial)
    if derive:
        by_r = (1.0 + t * (3.0 * k[K1] + t * (5.0 * k[K2] + t * (7.0 * k[K3] + t * 9.0 * k[K4])))) / (1.0 + r2)
        slope = xp.where(fisheye, (by_r - stretched) / (r2 + tiny), slope + 0.0 * r2)
    return radial, slope, (angle, per_radius)


def _zero_for_fisheyes(value: Vector, fisheye: Vector, xp: Any) -> Vector:
    """A tangential coefficient; for fisheyes, whose k3 or k4 has its place, zero."""
    if isinstance(fisheye, bool):
        return 0.0 * value if fisheye else value
    return xp.where(fisheye, 0.0 * value, value)


def unproject(xy: Array, intrinsics: Array, fisheye: Mask | bool = False, iterations: int = 12) -> Array:
    """Unproject pixels `xy` (m, 2) to points (m, 2) of the plane z = 1, by Newton's method on the distortion.

    Rows are NaN outside the region around the centre in which the distortion is one to one, and at 90 degrees and more
    from the axis of a fisheye.
    """
    k = np.broadcast_to(intrinsics, (len(xy), 8)).T
    target = np.stack([(xy[:, 0] - k[CX]) / k[FX], (xy[:, 1] - k[CY]) / k[FY]])
    is_fisheye = np.broadcast_to(np.asarray(fisheye, bool), len(xy))
    out = target.copy()
    for part, solve in ((~is_fisheye, _undistort), (is_fisheye, _undistort_fisheye)):
        if part.all():
            out = solve(target, k, iterations)
        elif part.any():
            out[:, part] = solve(target[:, part], k[:, part], iterations)
    return np.ascontiguousarray(out.T)


def _undistort(target: Array, k: Array, iterations: int) -> Array:
    """Undistort points (2, m) of the plane z = 1 by the perspective model."""
    if not k[K1:].any():
        return target
    u, v = target
    with np.errstate(all="ignore"):  # rows without an answer diverge
        for _ in range(iterations):
            (du, dv), (a, b, d), _ = distort_with_derivatives(u, v, k)
            error_u, error_v = du - target[0], dv - target[1]
            step = np.stack([d * error_u - b * error_v, a * error_v - b * error_u]) / (a * d - b * b)
            u, v = u - step[0], v - step[1]
            if np.nanmax(np.abs(step), initial=0.0) < 1e-15:
                break
        missed = np.hypot(*(np.stack(distort(u, v, k)) - target)) / (1.0 + np.hypot(*target))
        # dr'/dr = 1 + 3 k1 s + 5 k2 s^2 with s = r^2 is a parabola in s, and must be positive from the axis up to the
        # point: it is smallest at the point itself or at its vertex.
        r2 = u * u + v * v
        vertex = np.where(k[K2] > 0.0, -0.3 * k[K1] / np.where(k[K2] > 0.0, k[K2], 1.0), 0.0)
        slopes = [1.0 + s * (3.0 * k[K1] + s * 5.0 * k[K2]) for s in (r2, np.clip(vertex, 0.0, r2))]
        good = (missed < 1e-9) & (np.minimum(*slopes) > 0.0)
    return np.where(good, np.stack([u, v]), np.nan)


def _undistort_fisheye(target: Array, k: Array, iterations: int) -> Array:
    """Undistort points (2, m) by the fisheye model: the unknown is theta, and r = tan(theta)."""

    def distorted_radius(angle: Array) -> tuple[Array, Array]:
        """With its derivative."""
        t = angle * angle
        value = angle * (1.0 + t * (k[K1] + t * (k[K2] + t * (k[K3] + t * k[K4]))))
        return value, 1.0 + t * (3.0 * k[K1] + t * (5.0 * k[K2] + t * (7.0 * k[K3] + t * 9.0 * k[K4])))

    distance = np.hypot(*target)
    angle = np.minimum(distance, 0.49 * np.pi)
    with np.errstate(all="ignore"):
        for _ in range(iterations + 8):  # the start is further from the answer than that of the perspective model
            value, slope = distorted_radius(angle)
            step = (value - distance) / slope
            angle = angle - step
            if np.nanmax(np.abs(step), initial=0.0) < 1e-15:
                break
        least_slope = np.min([distorted_radius(share * angle)[1] for share in np.linspace(0.0, 1.0, 17)], axis=0)
        good = (np.abs(distorted_radius(angle)[0] - distance) < 1e-9) & (least_slope > 0.0) & (angle >= 0.0)
        good &= angle < 0.5 * np.pi
        return np.where(good, target * np.where(distance > 0.0, np.tan(angle) / distance, 1.0), np.nan)
