"""Pinhole and fisheye cameras with distortion, by COLMAP's names and conventions.

All models are special cases of one row of eight numbers, here called intrinsics:

    fx, fy, cx, cy, k1, k2, p1, p2        of a fisheye: fx, fy, cx, cy, k1, k2, k3, k4

`TIED` says which of them each model varies together, so that one projection and one Jacobian serve every model. A
fisheye's polynomial is one of the angle from the axis, not of the radius on the plane z = 1; the functions below are
told which rows are meant so.

The inner functions work on components, one long vector each, of numpy or torch (`xp`): that is what keeps processors
busy. The others take and give rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
Vector = Any
"""Array of numpy or tensor of torch, (m,)."""
Vectors = Any
"""Eight of them, or eight numbers."""

FX, FY, CX, CY, K1, K2, P1, P2 = range(8)

TIED: dict[str, tuple[tuple[int, ...], ...]] = {
    "SIMPLE_PINHOLE": ((FX, FY), (CX,), (CY,)),
    "PINHOLE": ((FX,), (FY,), (CX,), (CY,)),
    "SIMPLE_RADIAL": ((FX, FY), (CX,), (CY,), (K1,)),
    "RADIAL": ((FX, FY), (CX,), (CY,), (K1,), (K2,)),
    "OPENCV": ((FX,), (FY,), (CX,), (CY,), (K1,), (K2,), (P1,), (P2,)),
    "OPENCV_FISHEYE": ((FX,), (FY,), (CX,), (CY,), (K1,), (K2,), (P1,), (P2,)),
}
"""Per model, in the order of COLMAP's parameters: the intrinsics that a parameter sets."""

FISHEYE = frozenset({"OPENCV_FISHEYE"})

FOCAL_GUESS = 1.2
"""Focal length over the longer side of a photo when nothing is known: a field of view of 45 degrees."""


def fisheyes(models: Sequence[str]) -> Bools:
    """(cameras,) which are fisheyes."""
    return np.array([model in FISHEYE for model in models], bool)


def intrinsics_of(model: str, params: Sequence[float]) -> Array:
    """Row of eight intrinsics from a model's own parameters."""
    row = np.zeros(8)
    for value, tied in zip(params, TIED[model], strict=True):
        row[list(tied)] = value
    return row


def params_of(model: str, intrinsics: Array) -> tuple[float, ...]:
    """A model's own parameters from a row of intrinsics."""
    return tuple(float(intrinsics[tied[0]]) for tied in TIED[model])


def project(y: Array, intrinsics: Array, fisheye: Bools | bool = False) -> Array:
    """Pixels (m, 2) of points `y` (m, 3) in camera coordinates; intrinsics (m, 8) or (8,), fisheye (m,) or one."""
    k = np.broadcast_to(intrinsics, (len(y), 8)).T
    u, v = distort(y[:, 0] / y[:, 2], y[:, 1] / y[:, 2], k, fisheye)
    return np.stack([k[FX] * u + k[CX], k[FY] * v + k[CY]], axis=1)


def project_with_jacobians(y: Array, intrinsics: Array, fisheye: Bools | bool = False) -> tuple[Array, Array, Array]:
    """Pixels (m, 2), their derivative by `y` (m, 2, 3) and by the eight intrinsics (m, 2, 8)."""
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
    """Where points (u, v) of the plane z = 1 are seen, on a plane as well; `k` are the eight intrinsics, numbers or
    vectors. Without `tangential`, p1 and p2 are taken for zero."""
    radial, _, _ = _radial(u, v, k, fisheye, xp, False)
    if not tangential:
        return u * radial, v * radial
    p1, p2 = (_plain_only(k[i], fisheye, xp) for i in (P1, P2))
    r2, uv = u * u + v * v, 2.0 * u * v
    return u * radial + p1 * uv + p2 * (r2 + 2.0 * u * u), v * radial + p1 * (r2 + 2.0 * v * v) + p2 * uv


def distort_with_derivatives(
    u: Vector, v: Vector, k: Vectors, fisheye: Vector = False, tangential: bool = True, xp: Any = np
) -> tuple[tuple[Vector, Vector], tuple[Vector, Vector, Vector], Callable[[int], tuple[Vector, Vector]]]:
    """As `distort`; then the symmetric derivative by (u, v), as its entries uu, uv and vv; then what gives the
    derivative by coefficient i of the four."""
    radial, slope, angles = _radial(u, v, k, fisheye, xp, True)
    r2, uv = u * u + v * v, u * v
    du, dv = u * radial, v * radial
    by_uu, by_uv, by_vv = radial + slope * (u * u), slope * uv, radial + slope * (v * v)
    if tangential:
        p1, p2 = (_plain_only(k[i], fisheye, xp) for i in (P1, P2))
        du = du + 2.0 * p1 * uv + p2 * (r2 + 2.0 * u * u)
        dv = dv + p1 * (r2 + 2.0 * v * v) + 2.0 * p2 * uv
        by_uu = by_uu + 2.0 * p1 * v + 6.0 * p2 * u
        by_uv = by_uv + 2.0 * p1 * u + 2.0 * p2 * v
        by_vv = by_vv + 6.0 * p1 * v + 2.0 * p2 * u

    def by_coefficient(i: int) -> tuple[Vector, Vector]:
        if i < 2:
            power = r2 if i == 0 else r2 * r2
            plain = u * power, v * power
        else:
            plain = (2.0 * uv, r2 + 2.0 * v * v) if i == 2 else (r2 + 2.0 * u * u, 2.0 * uv)
        if angles is None:
            return plain
        angle, per_radius = angles
        power = angle ** (2 * i + 2) * per_radius
        return xp.where(fisheye, u * power, plain[0]), xp.where(fisheye, v * power, plain[1])

    return (du, dv), (by_uu, by_uv, by_vv), by_coefficient


def _radial(
    u: Vector, v: Vector, k: Vectors, fisheye: Vector, xp: Any, derive: bool
) -> tuple[Vector, Vector, tuple[Vector, Vector] | None]:
    """What points of the plane are stretched by, its derivative by u over u, and, where there are fisheyes, the angle
    from the axis and its ratio to the radius."""
    r2 = u * u + v * v
    radial = 1.0 + r2 * (k[K1] + r2 * k[K2])
    slope = 2.0 * k[K1] + 4.0 * k[K2] * r2 if derive else None
    if not (fisheye if isinstance(fisheye, bool) else bool(fisheye.any())):
        return radial, slope, None
    fisheye = fisheye + 0 * u > 0  # as a vector
    tiny = 1e-300
    r = xp.sqrt(r2)
    angle = xp.arctan(r)
    per_radius = xp.where(r > tiny, angle / (r + tiny), 1.0 + r)  # one on the axis
    t = angle * angle
    stretched = per_radius * (1.0 + t * (k[K1] + t * (k[K2] + t * (k[P1] + t * k[P2]))))
    radial = xp.where(fisheye, stretched, radial)
    if derive:
        by_r = (1.0 + t * (3.0 * k[K1] + t * (5.0 * k[K2] + t * (7.0 * k[P1] + t * 9.0 * k[P2])))) / (1.0 + r2)
        slope = xp.where(fisheye, (by_r - stretched) / (r2 + tiny), slope + 0.0 * r2)
    return radial, slope, (angle, per_radius)


def _plain_only(value: Vector, fisheye: Vector, xp: Any) -> Vector:
    """The value where there is no fisheye, and zero elsewhere."""
    if isinstance(fisheye, bool):
        return 0.0 * value if fisheye else value
    return xp.where(fisheye, 0.0 * value, value)


def unproject(xy: Array, intrinsics: Array, fisheye: Bools | bool = False, iterations: int = 12) -> Array:
    """Points (m, 2) on the plane z = 1 of the camera that project to pixels `xy`.

    Newton on the distortion. Outside the range around the centre where it is one to one there is no answer: such rows
    are NaN. So is what a fisheye sees at right angles to its axis or behind itself.
    """
    k = np.broadcast_to(intrinsics, (len(xy), 8)).T
    target = np.stack([(xy[:, 0] - k[CX]) / k[FX], (xy[:, 1] - k[CY]) / k[FY]])
    round_eye = np.broadcast_to(np.asarray(fisheye, bool), len(xy))
    out = target.copy()
    for part, solve in ((~round_eye, _undistort), (round_eye, _undistort_fisheye)):
        if part.all():
            out = solve(target, k, iterations)
        elif part.any():
            out[:, part] = solve(target[:, part], k[:, part], iterations)
    return np.ascontiguousarray(out.T)


def _undistort(target: Array, k: Array, iterations: int) -> Array:
    """(2, m) points of the plane z = 1 from their distorted places."""
    if not k[K1:].any():
        return target
    u, v = target
    with np.errstate(all="ignore"):  # rows without an answer run away
        for _ in range(iterations):
            (du, dv), (a, b, d), _ = distort_with_derivatives(u, v, k)
            error_u, error_v = du - target[0], dv - target[1]
            step = np.stack([d * error_u - b * error_v, a * error_v - b * error_u]) / (a * d - b * b)
            u, v = u - step[0], v - step[1]
            if np.nanmax(np.abs(step), initial=0.0) < 1e-15:
                break
        missed = np.hypot(*(np.stack(distort(u, v, k)) - target)) / (1.0 + np.hypot(*target))
        # The slope 1 + 3 k1 s + 5 k2 s^2 of the radius over s = r^2 is a parabola: it is least at the point itself
        # or at its vertex.
        r2 = u * u + v * v
        vertex = np.where(k[K2] > 0.0, -0.3 * k[K1] / np.where(k[K2] > 0.0, k[K2], 1.0), 0.0)
        slopes = [1.0 + s * (3.0 * k[K1] + s * 5.0 * k[K2]) for s in (r2, np.clip(vertex, 0.0, r2))]
        good = (missed < 1e-9) & (np.minimum(*slopes) > 0.0)
    return np.where(good, np.stack([u, v]), np.nan)


def _undistort_fisheye(target: Array, k: Array, iterations: int) -> Array:
    """Likewise; what is sought is the angle from the axis, and its tangent the radius."""

    def grown(angle: Array) -> tuple[Array, Array]:
        t = angle * angle
        value = angle * (1.0 + t * (k[4] + t * (k[5] + t * (k[6] + t * k[7]))))
        return value, 1.0 + t * (3.0 * k[4] + t * (5.0 * k[5] + t * (7.0 * k[6] + t * 9.0 * k[7])))

    distance = np.hypot(*target)
    angle = np.minimum(distance, 0.49 * np.pi)
    with np.errstate(all="ignore"):
        for _ in range(iterations + 8):  # starts further off than on the plane
            value, slope = grown(angle)
            step = (value - distance) / slope
            angle = angle - step
            if np.nanmax(np.abs(step), initial=0.0) < 1e-15:
                break
        steepness = np.min([grown(share * angle)[1] for share in np.linspace(0.0, 1.0, 17)], axis=0)
        good = (np.abs(grown(angle)[0] - distance) < 1e-9) & (steepness > 0.0) & (angle >= 0.0)
        good &= angle < 0.5 * np.pi
        return np.where(good, target * np.where(distance > 0.0, np.tan(angle) / distance, 1.0), np.nan)
