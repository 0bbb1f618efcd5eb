"""Reprojection residuals and their Jacobians, component by component.

The residual of an observation x of point X by a photo with pose [R | t] and intrinsics K is

    r = (pi(K, R X + t) - x) / sigma

and its cost is s^2 / 2 * rho(|r|^2 / s^2), with rho the robust loss and s its scale. Where the depth of an observation
has a prior, a second residual w (log z - log z_prior) is added.

Every quantity is a handful of long vectors, one entry per observation, instead of many small matrices: the same few
lines then keep both a CPU's vector units and a GPU busy. `xp` is the library of the vectors, numpy or torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..arrays import Array
from ..cameras import CAMERA_MODELS, CX, CY, FX, FY, K1, Vector, Vectors, distort, distort_with_derivatives
from .losses import CAUCHY, Loss

MIN_DEPTH = 1e-9
"""Points at this depth or less count as behind the camera: they have no pixel, and a constant cost without gradient."""

MAX_ERROR = 1e6
"""In sigmas of a pixel: larger errors, and points behind their camera, cost as much as this one."""

MIN_CURVATURE = 0.6
"""Least share of the Gauss-Newton curvature that is kept along the residual. Beyond its scale the loss itself has less,
or a negative one; the normal equations must stay positive definite."""


@dataclass(frozen=True)
class FreeParameters:
    """The unknowns of a photo and its camera: 6 (or 3) of the pose, then q of the intrinsics."""

    rotations: bool
    """Whether photos may rotate; they may always move."""
    intrinsics: tuple[tuple[tuple[int, float | Vector], ...], ...]
    """Per unknown of a camera: the intrinsics that it changes, each with its derivative, 0 or 1, for all cameras or one
    number per camera."""
    tangential: bool
    """Whether any camera has tangential distortion."""

    @property
    def pose_size(self) -> int:
        return 6 if self.rotations else 3

    @property
    def intrinsics_size(self) -> int:
        return len(self.intrinsics)

    def intrinsics_basis(self, cameras: int) -> Array:
        """(cameras, 8, q) B, the derivative of the intrinsics by the unknowns: a step u changes them by B u."""
        out = np.zeros((cameras, 8, self.intrinsics_size))
        for unknown, parts in enumerate(self.intrinsics):
            for intrinsic, derivative in parts:
                out[:, intrinsic, unknown] = derivative
        return out


def free_parameters(
    models: Sequence[str], *, rotations: bool, focal: bool, principal: bool, distortion: bool
) -> FreeParameters:
    """Choose the unknowns of cameras of these models; a parameter that sets both focal lengths is one unknown."""
    free = [focal, focal, principal, principal, *[distortion] * 4]
    params = [CAMERA_MODELS[model].params for model in models]
    derivative = np.zeros((max(map(len, params)), 8, len(models)))
    for camera, tied_params in enumerate(params):
        for unknown, tied in enumerate(tied_params):
            derivative[unknown, list(tied), camera] = float(free[tied[0]])
    intrinsics = []
    for rows in derivative[derivative.any((1, 2))]:
        used = [i for i in range(8) if rows[i].any()]
        intrinsics.append(tuple((i, 1.0 if rows[i].all() else rows[i]) for i in used))
    return FreeParameters(rotations, tuple(intrinsics), any(CAMERA_MODELS[model].tangential for model in models))


@dataclass(frozen=True)
class ObservationNoise:
    """The loss and scale of the observations, and their depth priors."""

    loss: Loss
    scale_px: float
    """Scale of the loss."""
    inverse_sigma: Vector | None
    """(m,) 1 / sigma of each observation; None where all are 1."""
    log_depth: Vector | None = None
    """(m,) logarithm of the prior depth of each observation; None without depth priors."""
    depth_weight: Vector | None = None
    """(m,) pixels that one unit of log depth counts for; zero where the depth has no prior."""
    depth_scale_px: float = np.inf
    """Scale of the Cauchy loss of depth residuals."""

    def select(self, rows: slice) -> ObservationNoise:
        """The noise of some of the observations."""
        return self.map(lambda v: v[rows])

    def map(self, change: Callable[[Vector], Vector]) -> ObservationNoise:
        """The noise with every vector changed."""

        def changed(v: Vector | None) -> Vector | None:
            return None if v is None else change(v)

        return replace(
            self,
            inverse_sigma=changed(self.inverse_sigma),
            log_depth=changed(self.log_depth),
            depth_weight=changed(self.depth_weight),
        )


def transform_points(pose: Vector, x: Vector) -> tuple[list[Vector], list[Vector]]:
    """R X and R X + t of points X (3, m), for poses [R | t] given by 12 components (12, m), row by row."""
    rotated = [pose[4 * i] * x[0] + pose[4 * i + 1] * x[1] + pose[4 * i + 2] * x[2] for i in range(3)]
    return rotated, [rotated[i] + pose[4 * i + 3] for i in range(3)]


def squared_errors(
    y: Sequence[Vector], xy: Vector, k: Vectors, fisheye: Vector, free: FreeParameters, xp: Any
) -> Vector:
    """(m,) |pi(K, y) - x|^2 in square pixels, of points y in camera coordinates; infinite behind the camera."""
    front = y[2] > MIN_DEPTH
    inverse_z = 1.0 / xp.where(front, y[2], 1.0)
    u, v = distort(y[0] * inverse_z, y[1] * inverse_z, k, fisheye, free.tangential, xp)
    dx, dy = k[FX] * u + (k[CX] - xy[0]), k[FY] * v + (k[CY] - xy[1])
    return xp.where(front, dx * dx + dy * dy, np.inf)


def robust_cost(squared: Vector, z: Vector, noise: ObservationNoise, xp: Any) -> Vector:
    """(m,) cost of observations from their squared errors in pixels and their depths."""
    if noise.inverse_sigma is not None:
        squared = squared * noise.inverse_sigma**2
    squared = xp.where(squared < MAX_ERROR**2, squared, MAX_ERROR**2)
    out = 0.5 * noise.scale_px**2 * noise.loss.rho(squared / noise.scale_px**2, xp)
    if noise.log_depth is not None:
        error = _depth_residual(z, noise, xp) / noise.depth_scale_px
        out = out + 0.5 * noise.depth_scale_px**2 * CAUCHY.rho(error * error, xp)
    return out


def _depth_residual(z: Vector, noise: ObservationNoise, xp: Any) -> Vector:
    """(m,) in pixels; zero behind the camera."""
    front = z > MIN_DEPTH
    return noise.depth_weight * xp.where(front, xp.log(xp.where(front, z, 1.0)) - noise.log_depth, 0.0)


def linearize_reprojection(
    pose: Vector,
    x: Vector,
    xy: Vector,
    k: Vectors,
    camera: Vector,
    fisheye: Vector,
    free: FreeParameters,
    noise: ObservationNoise,
    xp: Any,
) -> tuple[list[list[Vector]], list[list[Vector]]]:
    """Linearize the weighted residuals of each observation, two or, with a depth prior, three rows.

    Returns, row by row, [J_camera | residual], by the unknowns of photo and camera, and J_point. Linear least squares
    over them approximates the robust cost to second order along the residual (Triggs et al. 2000, as in Ceres). Weights
    alone (IRLS) overestimate the curvature there, and their steps fall short; the full correction overshoots where many
    observations are outliers, hence MIN_CURVATURE.
    """
    rotated, y = transform_points(pose, x)
    front = y[2] > MIN_DEPTH
    inverse_z = 1.0 / xp.where(front, y[2], 1.0)
    u, v = y[0] * inverse_z, y[1] * inverse_z
    (du, dv), (uu, uv, vv), by_coefficient = distort_with_derivatives(u, v, k, fisheye, free.tangential, xp)
    dx, dy = k[FX] * du + (k[CX] - xy[0]), k[FY] * dv + (k[CY] - xy[1])

    (w_xx, w_xy, w_yy), residual_weight = _robust_weights(dx, dy, front, noise, xp)
    residual = [dx * residual_weight, dy * residual_weight]
    # d pixel / d y with y = R X + t, times the weights.
    plane_x, plane_y = k[FX] * inverse_z, k[FY] * inverse_z
    columns = [(plane_x * uu, plane_y * uv), (plane_x * uv, plane_y * vv)]
    columns.append((-(columns[0][0] * u + columns[1][0] * v), -(columns[0][1] * u + columns[1][1] * v)))
    j_y = [[w_xx * a + w_xy * b for a, b in columns], [w_xy * a + w_yy * b for a, b in columns]]

    j_intrinsics: list[list[Vector]] = []
    for parts in free.intrinsics:
        by_x: Vector = 0.0
        by_y: Vector = 0.0
        for intrinsic, derivative in parts:
            a, b = _pixel_derivative(intrinsic, k, du, dv, by_coefficient)
            if not isinstance(derivative, float):
                derivative = xp.asarray(derivative)[camera]
            by_x, by_y = by_x + derivative * a, by_y + derivative * b
        j_intrinsics.append([w_xx * by_x + w_xy * by_y, w_xy * by_x + w_yy * by_y])
    if noise.log_depth is not None:
        error = _depth_residual(y[2], noise, xp)
        root = xp.sqrt(CAUCHY.weight_and_curvature((error / noise.depth_scale_px) ** 2, xp)[0])
        zero = xp.zeros_like(root)
        residual.append(root * error)
        j_y.append([zero, zero, xp.where(front, root * noise.depth_weight * inverse_z, zero)])
        for column in j_intrinsics:
            column.append(zero)

    augmented, j_point = [], []
    for row, (a, b, c) in enumerate(j_y):
        # A rotation exp(omega) from the left moves y by omega x (R X).
        turn = [rotated[1] * c - rotated[2] * b, rotated[2] * a - rotated[0] * c, rotated[0] * b - rotated[1] * a]
        pose_columns = [*(turn if free.rotations else ()), a, b, c]
        augmented.append([*pose_columns, *(column[row] for column in j_intrinsics), residual[row]])
        j_point.append([a * pose[j] + b * pose[4 + j] + c * pose[8 + j] for j in range(3)])
    return augmented, j_point


def _robust_weights(
    dx: Vector, dy: Vector, front: Vector, noise: ObservationNoise, xp: Any
) -> tuple[tuple[Vector, Vector, Vector], Vector]:
    """The symmetric 2 x 2 matrix that multiplies Jacobians, as its entries, and the factor of the residuals.

    With weight w = rho' and curvature c = 1 + 2 s rho'' / rho', these are sqrt(w) (I - (1 - sqrt(c)) r r^T / |r|^2) and
    sqrt(w / c).
    """
    squared = dx * dx + dy * dy
    s = squared / noise.scale_px**2
    if noise.inverse_sigma is not None:
        s = s * noise.inverse_sigma**2
    weight, curvature = noise.loss.weight_and_curvature(s, xp)
    root = xp.where(front, xp.sqrt(weight), 0.0)
    if noise.inverse_sigma is not None:
        root = root * noise.inverse_sigma
    root_curvature = xp.sqrt(xp.clip(curvature, MIN_CURVATURE, None))
    correction = root * (1.0 - root_curvature) / (squared + 1e-300)
    jacobian_weight = root - correction * dx * dx, -correction * dx * dy, root - correction * dy * dy
    return jacobian_weight, root / root_curvature


def _pixel_derivative(intrinsic: int, k: Vectors, du: Vector, dv: Vector, by_coefficient: Any) -> tuple[Vector, Vector]:
    """d pixel / d intrinsic, of one of the eight intrinsics."""
    if intrinsic >= K1:
        a, b = by_coefficient(intrinsic - K1)
        return k[FX] * a, k[FY] * b
    return {FX: (du, 0.0), FY: (0.0, dv), CX: (1.0, 0.0), CY: (0.0, 1.0)}[intrinsic]
