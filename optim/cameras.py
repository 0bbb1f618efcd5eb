"""Pinhole cameras with radial and tangential distortion, by COLMAP's names and conventions.

All models are special cases of one row of eight numbers, here called intrinsics:

    fx, fy, cx, cy, k1, k2, p1, p2

`TIED` says which of them each model varies together, so that one projection and one Jacobian serve every model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FX, FY, CX, CY, K1, K2, P1, P2 = range(8)

TIED: dict[str, tuple[tuple[int, ...], ...]] = {
    "SIMPLE_PINHOLE": ((FX, FY), (CX,), (CY,)),
    "PINHOLE": ((FX,), (FY,), (CX,), (CY,)),
    "SIMPLE_RADIAL": ((FX, FY), (CX,), (CY,), (K1,)),
    "RADIAL": ((FX, FY), (CX,), (CY,), (K1,), (K2,)),
    "OPENCV": ((FX,), (FY,), (CX,), (CY,), (K1,), (K2,), (P1,), (P2,)),
}
"""Per model, in the order of COLMAP's parameters: the intrinsics that a parameter sets."""


def intrinsics_of(model: str, params: Sequence[float]) -> Array:
    """Row of eight intrinsics from a model's own parameters."""
    row = np.zeros(8)
    for value, tied in zip(params, TIED[model], strict=True):
        row[list(tied)] = value
    return row


def params_of(model: str, intrinsics: Array) -> tuple[float, ...]:
    """A model's own parameters from a row of intrinsics."""
    return tuple(float(intrinsics[tied[0]]) for tied in TIED[model])


def project(y: Array, intrinsics: Array) -> Array:
    """Pixels (m, 2) of points `y` (m, 3) in camera coordinates; intrinsics (m, 8) or (8,)."""
    k = np.broadcast_to(intrinsics, (len(y), 8))
    n = y[:, :2] / y[:, 2:]
    return k[:, [FX, FY]] * _distort(n, k) + k[:, [CX, CY]]


def project_with_jacobians(y: Array, intrinsics: Array) -> tuple[Array, Array, Array]:
    """Pixels (m, 2), their derivative by `y` (m, 2, 3) and by the eight intrinsics (m, 2, 8)."""
    k = np.broadcast_to(intrinsics, (len(y), 8))
    inverse_z = 1.0 / y[:, 2]
    u, v = y[:, 0] * inverse_z, y[:, 1] * inverse_z
    r2 = u * u + v * v
    radial = 1.0 + r2 * (k[:, K1] + r2 * k[:, K2])
    slope = 2.0 * k[:, K1] + 4.0 * k[:, K2] * r2  # d radial / d u = slope * u
    p1, p2 = k[:, P1], k[:, P2]
    du = u * radial + 2.0 * p1 * u * v + p2 * (r2 + 2.0 * u * u)
    dv = v * radial + p1 * (r2 + 2.0 * v * v) + 2.0 * p2 * u * v
    pixels = np.stack([k[:, FX] * du + k[:, CX], k[:, FY] * dv + k[:, CY]], axis=1)

    du_du = radial + slope * u * u + 2.0 * p1 * v + 6.0 * p2 * u
    du_dv = slope * u * v + 2.0 * p1 * u + 2.0 * p2 * v
    dv_dv = radial + slope * v * v + 6.0 * p1 * v + 2.0 * p2 * u
    by_y = np.empty((len(y), 2, 3))
    by_y[:, 0, 0], by_y[:, 0, 1] = k[:, FX] * du_du, k[:, FX] * du_dv
    by_y[:, 1, 0], by_y[:, 1, 1] = k[:, FY] * du_dv, k[:, FY] * dv_dv
    by_y[:, :, 2] = -(by_y[:, :, 0] * u[:, None] + by_y[:, :, 1] * v[:, None])
    by_y *= inverse_z[:, None, None]

    by_k = np.zeros((len(y), 2, 8))
    by_k[:, 0, FX], by_k[:, 1, FY] = du, dv
    by_k[:, 0, CX] = by_k[:, 1, CY] = 1.0
    by_k[:, 0, K1], by_k[:, 1, K1] = k[:, FX] * u * r2, k[:, FY] * v * r2
    by_k[:, 0, K2], by_k[:, 1, K2] = by_k[:, 0, K1] * r2, by_k[:, 1, K1] * r2
    by_k[:, 0, P1], by_k[:, 1, P1] = k[:, FX] * 2.0 * u * v, k[:, FY] * (r2 + 2.0 * v * v)
    by_k[:, 0, P2], by_k[:, 1, P2] = k[:, FX] * (r2 + 2.0 * u * u), k[:, FY] * 2.0 * u * v
    return pixels, by_y, by_k


def unproject(xy: Array, intrinsics: Array, iterations: int = 12) -> Array:
    """Points (m, 2) on the plane z = 1 of the camera that project to pixels `xy`.

    Newton on the distortion. Outside the range around the centre where it is one to one there is no answer: such rows
    are NaN.
    """
    k = np.broadcast_to(intrinsics, (len(xy), 8))
    target = (xy - k[:, [CX, CY]]) / k[:, [FX, FY]]
    if not k[:, K1:].any():
        return target
    n = target.copy()
    unit = np.array([1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    plain = np.where(np.arange(8) < K1, unit, k)
    ones = np.ones((len(n), 1))
    with np.errstate(all="ignore"):  # rows without an answer run away
        for _ in range(iterations):
            value, by_y, _ = project_with_jacobians(np.concatenate([n, ones], axis=1), plain)
            a, b, d = by_y[:, 0, 0], by_y[:, 0, 1], by_y[:, 1, 1]  # symmetric
            error = value - target
            step = np.stack([d * error[:, 0] - b * error[:, 1], a * error[:, 1] - b * error[:, 0]], axis=1)
            step /= (a * d - b * b)[:, None]
            n = n - step
            if np.nanmax(np.abs(step), initial=0.0) < 1e-15:
                break
        missed = np.linalg.norm(_distort(n, k) - target, axis=1) / (1.0 + np.linalg.norm(target, axis=1))
        good = (missed < 1e-9) & _one_to_one(n, k)
    n[~good] = np.nan
    return n


def _one_to_one(n: Array, k: Array) -> NDArray[np.bool_]:
    """(m,) whether radii grow everywhere between the centre and the points `n` of the plane z = 1."""
    # The slope 1 + 3 k1 s + 5 k2 s^2 over s = r^2 is a parabola: it is least at the point itself or at its vertex.
    r2 = np.einsum("mi,mi->m", n, n)
    vertex = np.where(k[:, K2] > 0.0, -0.3 * k[:, K1] / np.where(k[:, K2] > 0.0, k[:, K2], 1.0), 0.0)
    slopes = [1.0 + s * (3.0 * k[:, K1] + s * 5.0 * k[:, K2]) for s in (r2, np.clip(vertex, 0.0, r2))]
    return np.asarray(np.minimum(*slopes) > 0.0)


def _distort(n: Array, k: Array) -> Array:
    u, v = n[:, 0], n[:, 1]
    r2 = u * u + v * v
    radial = 1.0 + r2 * (k[:, K1] + r2 * k[:, K2])
    p1, p2 = k[:, P1], k[:, P2]
    return np.stack(
        [
            u * radial + 2.0 * p1 * u * v + p2 * (r2 + 2.0 * u * u),
            v * radial + p1 * (r2 + 2.0 * v * v) + 2.0 * p2 * u * v,
        ],
        axis=1,
    )
