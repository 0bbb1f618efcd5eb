"""Refinement of one absolute pose and its intrinsics on given points, with the covariance of both.

The unknowns are x = (omega, dt, u): R' = exp(omega) R, t' = t + dt, k' = k + B u. Levenberg-Marquardt minimizes

    sum_i s^2 / 2 rho(|e_i|^2 / s^2) + noise_px^2 / 2 sum_j ((k_j - mean_j) / sigma_j)^2

with Cauchy's loss rho of scale s. The points do not move, but they have errors of their own: with C_i the covariance of
point i in units of the noise of key points, the residual e_i has the covariance I + J_i C_i J_i^T, J_i the derivative
of its pixel by the point, and is divided by the Cholesky factor of that. A point that two photos see from nearby places
is uncertain along its rays, and says little where it is seen from the side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from ..bundle.losses import CAUCHY
from ..bundle.problem import IntrinsicsPrior
from ..bundle.reprojection import MIN_DEPTH, free_parameters
from ..cameras import FX, FY, fisheyes, project_with_jacobians
from ..rotations import exp_so3, skew

_ITERATIONS = 30
_TOLERANCE = 1e-9
"""Relative decrease of the cost in one step at which refinement ends."""


@dataclass(frozen=True, eq=False)
class RefinedPose:
    """A pose and intrinsics of least robust reprojection error, and how well they are determined."""

    cam_from_world: Array
    """(3, 4)."""
    intrinsics: Array
    """(8,) as in optim.cameras."""
    pose_covariance: Array
    """(6, 6) of (omega, dt); infinite where the points do not determine the pose."""
    intrinsics_covariance: Array
    """(8, 8); zero for what is fixed."""
    noise_px: float
    """Standard deviation of the observations as their residuals show it."""

    @property
    def sigma_deg(self) -> float:
        """Standard deviation of the rotation, over all three axes."""
        return float(np.degrees(np.sqrt(np.trace(self.pose_covariance[:3, :3]))))

    @property
    def sigma_centre(self) -> float:
        """Standard deviation of the camera centre c = -R^T t, over all three axes: dc = -R^T ([t]x omega + dt)."""
        translation = self.cam_from_world[:, 3]
        by_pose = np.concatenate([skew(translation[None])[0], np.eye(3)], axis=1)
        return float(np.sqrt(np.trace(by_pose @ self.pose_covariance @ by_pose.T)))

    @property
    def sigma_intrinsics(self) -> Array:
        """(8,) standard deviations."""
        return np.sqrt(np.diag(self.intrinsics_covariance))


def reprojection_errors_px(xy: Array, points: Array, cam_from_world: Array, model: str, intrinsics: Array) -> Array:
    """(m,) distance of pixels from the projections of points; infinite for points behind the camera."""
    y = points @ cam_from_world[:, :3].T + cam_from_world[:, 3]
    front = y[:, 2] > MIN_DEPTH
    pixels = project_with_jacobians(np.where(front[:, None], y, 1.0), intrinsics, bool(fisheyes([model])[0]))[0]
    return np.where(front, np.linalg.norm(pixels - xy, axis=1), np.inf)


def refine_absolute_pose(
    xy: Array,
    points: Array,
    cam_from_world: Array,
    model: str,
    intrinsics: Array,
    prior: IntrinsicsPrior | None,
    *,
    loss_px: float,
    point_covariance: Array | None = None,
) -> RefinedPose:
    """Refine a pose on pixels (m, 2) of points (m, 3) with covariances (m, 3, 3) in square noise of key points; None:
    the points are exact.

    `prior` is that of this one camera, as of a bundle with one; None: the intrinsics are known and stay.
    """
    problem = _Problem(xy, points, model, prior, loss_px)
    problem.whiten(cam_from_world, intrinsics, point_covariance)
    pose: Array = cam_from_world.astype(np.float64)
    k: Array = intrinsics.astype(np.float64)
    at, damping = problem.linearized(pose, k), 1e-4
    matrix, gradient = problem.normal_equations(pose, k, at)
    for _ in range(_ITERATIONS):
        try:
            step = np.asarray(np.linalg.solve(matrix + damping * np.diag(np.diag(matrix)), -gradient), np.float64)
        except np.linalg.LinAlgError:
            break
        trial_pose, trial_k = problem.moved(pose, k, step)
        trial = problem.linearized(trial_pose, trial_k) if (trial_k[[FX, FY]] > 0.0).all() else None
        if trial is not None and trial.cost < at.cost:
            done = at.cost - trial.cost < _TOLERANCE * at.cost
            pose, k, at, damping = trial_pose, trial_k, trial, max(damping / 5.0, 1e-10)
            matrix, gradient = problem.normal_equations(pose, k, at)
            if done:
                break
        else:
            damping *= 8.0
            if damping > 1e8:
                break
    return _with_covariance(problem, pose, k, at.cost, matrix)


def _with_covariance(problem: _Problem, pose: Array, k: Array, cost: float, matrix: Array) -> RefinedPose:
    unknowns = len(matrix)
    noise_px = float(np.sqrt(2.0 * cost / max(2 * len(problem.xy) - unknowns, 1)))
    try:
        covariance = np.asarray(np.linalg.inv(matrix), np.float64) * noise_px**2
    except np.linalg.LinAlgError:
        covariance = np.diag(np.full(unknowns, np.inf))
    basis = problem.basis
    of_intrinsics = basis @ covariance[6:, 6:] @ basis.T if basis.shape[1] else np.zeros((8, 8))
    return RefinedPose(pose, k, covariance[:6, :6], of_intrinsics, noise_px)


@dataclass(frozen=True, eq=False)
class _Linearized:
    """The residuals of a pose and its intrinsics, and their derivatives: one projection gives both, and most steps are
    taken."""

    cost: float
    error: Array
    """(m, 2) in units of each observation's error."""
    by_y: Array
    """(m, 2, 3) by the point in the camera's frame."""
    by_k: Array
    """(m, 2, 8)."""


class _Problem:
    """Cost and normal equations of one photo."""

    def __init__(self, xy: Array, points: Array, model: str, prior: IntrinsicsPrior | None, loss_px: float) -> None:
        self.xy, self.points, self.prior, self.loss_px = xy, points, prior, loss_px
        self.fisheye = bool(fisheyes([model])[0])
        free = prior is not None
        unknowns = free_parameters([model], rotations=True, focal=free, principal=free, distortion=free)
        self.basis = unknowns.intrinsics_basis(1)[0]
        self.whitening = np.broadcast_to(np.eye(2), (len(xy), 2, 2))

    def whiten(self, pose: Array, k: Array, point_covariance: Array | None) -> None:
        """Divide residuals by the standard deviations that the points give them, as seen from a pose near the final
        one."""
        if point_covariance is not None:
            _, by_y, _ = self._errors(pose, k)
            by_point = by_y @ pose[:, :3]
            spread = np.eye(2) + by_point @ point_covariance @ by_point.transpose(0, 2, 1)
            self.whitening = np.linalg.inv(np.linalg.cholesky(spread))

    def linearized(self, pose: Array, k: Array) -> _Linearized:
        error, by_y, by_k = self._errors(pose, k)
        cost = 0.5 * self.loss_px**2 * float(CAUCHY.rho(self._squared(error), np).sum())
        if self.prior is not None:
            off = (k - self.prior.mean[0]) / self.prior.sigma[0]
            cost += 0.5 * self.prior.noise_px**2 * float(off @ off)
        return _Linearized(cost, error, by_y, by_k)

    def normal_equations(self, pose: Array, k: Array, at: _Linearized) -> tuple[Array, Array]:
        """The matrix and gradient of reweighted least squares."""
        turned = self.points @ pose[:, :3].T
        jacobian = np.concatenate([-at.by_y @ skew(turned), at.by_y, at.by_k @ self.basis], axis=2)
        weight = CAUCHY.weight_and_curvature(self._squared(at.error), np)[0]
        rows = jacobian.reshape(-1, jacobian.shape[2])
        weighted = (weight[:, None, None] * jacobian).reshape(rows.shape)
        matrix, gradient = weighted.T @ rows, weighted.T @ at.error.ravel()
        if self.prior is not None:
            stiffness = (self.prior.noise_px / self.prior.sigma[0]) ** 2
            matrix[6:, 6:] += (self.basis.T * stiffness) @ self.basis
            gradient[6:] += self.basis.T @ (stiffness * (k - self.prior.mean[0]))
        return matrix, gradient

    def moved(self, pose: Array, k: Array, step: Array) -> tuple[Array, Array]:
        """Pose and intrinsics after a step."""
        rotation = exp_so3(step[None, :3])[0] @ pose[:, :3]
        return np.concatenate([rotation, (pose[:, 3] + step[3:6])[:, None]], axis=1), k + self.basis @ step[6:]

    def _squared(self, error: Array) -> Array:
        return np.asarray(np.einsum("mi,mi->m", error, error) / self.loss_px**2)

    def _errors(self, pose: Array, k: Array) -> tuple[Array, Array, Array]:
        y = self.points @ pose[:, :3].T + pose[:, 3]
        y[:, 2] = np.maximum(y[:, 2], MIN_DEPTH)
        pixels, by_y, by_k = project_with_jacobians(y, k, self.fisheye)
        error = np.einsum("mij,mj->mi", self.whitening, pixels - self.xy)
        return error, self.whitening @ by_y, self.whitening @ by_k
