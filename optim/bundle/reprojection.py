"""Reprojection errors and their derivatives, component by component.

Every quantity is a handful of long vectors, one entry per observation, instead of many small matrices: the same few
lines then keep both a processor's vector units and a GPU busy. `xp` is the library of the vectors, numpy or torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cameras import CAMERA_MODELS, CX, CY, FX, FY, K1, Vector, Vectors, distort, distort_with_derivatives
from .losses import CAUCHY, Loss

Array = NDArray[np.float64]

NEAREST = 1e-9
"""Depth up to which a point counts as behind the camera: it has no pixel, and pulls at nothing."""

FURTHEST = 1e6
"""Errors count as no more; that is also what points behind their camera cost."""

CURVATURE_FLOOR = 0.6
"""Least share of the Gauss-Newton curvature kept along a residual; the loss itself has none, or less, beyond its
scale, and the normal equations must stay positive."""


@dataclass(frozen=True)
class Freedom:
    """Which unknowns a photo and its camera have: 6 (or 3) of the pose, then q of the camera."""

    turns: bool
    """Whether photos may rotate; they always may move."""
    columns: tuple[tuple[tuple[int, float | Vector], ...], ...]
    """Per unknown of a camera: which intrinsics it sets, and how strongly, one number or one per camera."""
    tangential: bool
    """Whether any camera has tangential terms."""

    @property
    def pose(self) -> int:
        return 6 if self.turns else 3

    @property
    def lens(self) -> int:
        return len(self.columns)

    def spread(self, cameras: int) -> Array:
        """(cameras, 8, q): the intrinsics by the unknowns."""
        out = np.zeros((cameras, 8, self.lens))
        for column, parts in enumerate(self.columns):
            for intrinsic, share in parts:
                out[:, intrinsic, column] = share
        return out


def freedom_of(models: Sequence[str], *, rotations: bool, focal: bool, principal: bool, distortion: bool) -> Freedom:
    """What cameras of these models leave free."""
    free = [focal, focal, principal, principal, *[distortion] * 4]
    width = max(len(CAMERA_MODELS[model].params) for model in models)
    share = np.zeros((width, 8, len(models)))
    for camera, model in enumerate(models):
        for column, tied in enumerate(CAMERA_MODELS[model].params):
            share[column, list(tied), camera] = float(free[tied[0]])
    columns = []
    for rows in share[share.any((1, 2))]:
        used = [i for i in range(8) if rows[i].any()]
        columns.append(tuple((i, 1.0 if rows[i].all() else rows[i]) for i in used))
    return Freedom(rotations, tuple(columns), any(CAMERA_MODELS[model].tangential for model in models))


@dataclass(frozen=True)
class Noise:
    """How errors are counted."""

    loss: Loss
    scale_px: float
    inverse_sigma: Vector | None
    """By how much the error of each observation is divided, as its inverse."""
    log_depth: Vector | None = None
    """Logarithm of the depth that an observation is believed to have. With it comes a second error, in depth."""
    depth_weight: Vector | None = None
    """Pixels that a relative error of the depth counts for; zero where nothing is believed."""
    depth_scale_px: float = np.inf
    """Scale of the Cauchy loss of errors in depth."""

    def part(self, of: slice) -> Noise:
        """For some of the observations."""
        return self.each(lambda v: v[of])

    def each(self, change: Callable[[Vector], Vector]) -> Noise:
        """With every vector changed."""

        def changed(v: Vector | None) -> Vector | None:
            return None if v is None else change(v)

        return replace(
            self,
            inverse_sigma=changed(self.inverse_sigma),
            log_depth=changed(self.log_depth),
            depth_weight=changed(self.depth_weight),
        )


def carry(pose: Vector, x: Vector) -> tuple[list[Vector], list[Vector]]:
    """Points x (3, m) turned into the axes of their photos, whose poses are given by 12 components row by row, and
    the same after the translation."""
    turned = [pose[4 * i] * x[0] + pose[4 * i + 1] * x[1] + pose[4 * i + 2] * x[2] for i in range(3)]
    return turned, [turned[i] + pose[4 * i + 3] for i in range(3)]


def squared_errors(y: Sequence[Vector], xy: Vector, k: Vectors, fisheye: Vector, free: Freedom, xp: Any) -> Vector:
    """(m,) squared distance in pixels of points in camera coordinates from where they were seen."""
    front = y[2] > NEAREST
    inverse_z = 1.0 / xp.where(front, y[2], 1.0)
    u, v = distort(y[0] * inverse_z, y[1] * inverse_z, k, fisheye, free.tangential, xp)
    dx, dy = k[FX] * u + (k[CX] - xy[0]), k[FY] * v + (k[CY] - xy[1])
    return xp.where(front, dx * dx + dy * dy, np.inf)


def count(squared: Vector, z: Vector, noise: Noise, xp: Any) -> Vector:
    """(m,) what observations cost, from their squared errors in pixels and their depths."""
    if noise.inverse_sigma is not None:
        squared = squared * noise.inverse_sigma**2
    squared = xp.where(squared < FURTHEST**2, squared, FURTHEST**2)
    out = 0.5 * noise.scale_px**2 * noise.loss.rho(squared / noise.scale_px**2, xp)
    if noise.log_depth is not None:
        error = _depth_error(z, noise, xp) / noise.depth_scale_px
        out = out + 0.5 * noise.depth_scale_px**2 * CAUCHY.rho(error * error, xp)
    return out


def _depth_error(z: Vector, noise: Noise, xp: Any) -> Vector:
    """(m,) in pixels; none behind the camera."""
    front = z > NEAREST
    return noise.depth_weight * xp.where(front, xp.log(xp.where(front, z, 1.0)) - noise.log_depth, 0.0)


def linearise(
    pose: Vector,
    x: Vector,
    xy: Vector,
    k: Vectors,
    camera: Vector,
    fisheye: Vector,
    free: Freedom,
    noise: Noise,
    xp: Any,
) -> tuple[list[list[Vector]], list[list[Vector]]]:
    """The weighted residuals of each observation, two or, with a depth, three: their derivatives by the unknowns of
    photo and camera followed by the residual itself, and their derivatives by the point.

    Plain least squares over them imitates the robust loss around here, with the second-order correction of Triggs.
    Plain reweighting overrates the curvature along the residual, and its steps fall short; taken in full, the
    correction overshoots where many observations are outliers.
    """
    turned, y = carry(pose, x)
    front = y[2] > NEAREST
    inverse_z = 1.0 / xp.where(front, y[2], 1.0)
    u, v = y[0] * inverse_z, y[1] * inverse_z
    (du, dv), (uu, uv, vv), by_coefficient = distort_with_derivatives(u, v, k, fisheye, free.tangential, xp)
    dx, dy = k[FX] * du + (k[CX] - xy[0]), k[FY] * dv + (k[CY] - xy[1])

    (xx, xy_, yy), shrunk = _weights(dx, dy, front, noise, xp)
    residual = [dx * shrunk, dy * shrunk]
    # By the point in camera coordinates, through the weights.
    plane_x, plane_y = k[FX] * inverse_z, k[FY] * inverse_z
    columns = [(plane_x * uu, plane_y * uv), (plane_x * uv, plane_y * vv)]
    columns.append((-(columns[0][0] * u + columns[1][0] * v), -(columns[0][1] * u + columns[1][1] * v)))
    by_y = [[xx * a + xy_ * b for a, b in columns], [xy_ * a + yy * b for a, b in columns]]

    lens: list[list[Vector]] = []
    for parts in free.columns:
        along: Vector = 0.0
        across: Vector = 0.0
        for intrinsic, share in parts:
            a, b = _by_intrinsic(intrinsic, k, du, dv, by_coefficient)
            if not isinstance(share, float):
                share = xp.asarray(share)[camera]
            along, across = along + share * a, across + share * b
        lens.append([xx * along + xy_ * across, xy_ * along + yy * across])
    if noise.log_depth is not None:
        error = _depth_error(y[2], noise, xp)
        root = xp.sqrt(CAUCHY.slope((error / noise.depth_scale_px) ** 2, xp)[0])
        nothing = xp.zeros_like(root)
        residual.append(root * error)
        by_y.append([nothing, nothing, xp.where(front, root * noise.depth_weight * inverse_z, nothing)])
        for column in lens:
            column.append(nothing)

    unknowns, points = [], []
    for row, (a, b, c) in enumerate(by_y):
        # A turn by omega moves the point by omega x (R X).
        turn = [turned[1] * c - turned[2] * b, turned[2] * a - turned[0] * c, turned[0] * b - turned[1] * a]
        unknowns.append([*(turn if free.turns else ()), a, b, c, *(column[row] for column in lens), residual[row]])
        points.append([a * pose[j] + b * pose[4 + j] + c * pose[8 + j] for j in range(3)])
    return unknowns, points


def _weights(
    dx: Vector, dy: Vector, front: Vector, noise: Noise, xp: Any
) -> tuple[tuple[Vector, Vector, Vector], Vector]:
    """The symmetric matrix that Jacobians are multiplied by, as its entries, and the number for the residuals."""
    squared = dx * dx + dy * dy
    s = squared / noise.scale_px**2
    if noise.inverse_sigma is not None:
        s = s * noise.inverse_sigma**2
    weight, curvature = noise.loss.slope(s, xp)
    root = xp.where(front, xp.sqrt(weight), 0.0)
    if noise.inverse_sigma is not None:
        root = root * noise.inverse_sigma
    kept = xp.sqrt(xp.clip(curvature, CURVATURE_FLOOR, None))
    bent = root * (1.0 - kept) / (squared + 1e-300)
    return (root - bent * dx * dx, -bent * dx * dy, root - bent * dy * dy), root / kept


def _by_intrinsic(intrinsic: int, k: Vectors, du: Vector, dv: Vector, by_coefficient: Any) -> tuple[Vector, Vector]:
    """How the pixel moves with one of the eight."""
    if intrinsic >= K1:
        a, b = by_coefficient(intrinsic - K1)
        return k[FX] * a, k[FY] * b
    return {FX: (du, 0.0), FY: (0.0, dv), CX: (1.0, 0.0), CY: (0.0, 1.0)}[intrinsic]
