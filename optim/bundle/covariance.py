"""Covariances of poses and intrinsics at the minimum of bundle adjustment, with the free gauge taken out.

The covariance is noise^2 S^-1, with S the undamped Schur complement. Where the gauge is free S is singular; its inverse
is then taken in the subspace in which the weighted mean motion of all photos is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from ..arrays import Array
from ..poses import camera_centres
from ..rigs import frame_poses
from .adjust import CpuProblem
from .arrowhead import dense_upper_triangle
from .objective import build_objective, bundle_state
from .pose_priors import DepthPriors, PosePriors
from .problem import Bundle, BundleOptions, IntrinsicsPrior
from .rig_steps import frame_system, rig_motion
from .schur import reduced_system, schur_structure

MIN_GAUGE_STIFFNESS = 1e-8
"""Of the scaled normal matrix, whose diagonal is 1: less stiff directions of the gauge are free."""


@dataclass(frozen=True, eq=False)
class Covariance:
    """NaN for photos and cameras without observations; zero for what is fixed."""

    poses: Array
    """(photos, 6, 6) of (omega, dt) with R' = exp(omega) R, t' = t + dt; radians and units of the world."""
    intrinsics: Array
    """(cameras, 8, 8)."""
    noise_px: float
    """Standard deviation of the observations as their residuals show it; the covariances are multiplied by its
    square."""
    free_gauge: int
    """Number of directions in which the whole bundle may move at no cost: 7 where no prior fixes frame and scale.
    Covariances are then those after the best fit of all photos: their weighted mean rotation, translation and growth is
    zero."""
    condition: float
    """Condition number of the scaled normal matrix apart from the gauge. From 1e12 on the photos leave something
    undetermined."""


def covariance(
    bundle: Bundle,
    options: BundleOptions,
    prior: IntrinsicsPrior | None = None,
    sigma: Array | None = None,
    pose_priors: PosePriors | None = None,
    depth_priors: DepthPriors | None = None,
) -> Covariance:
    """Covariance of a bundle at its minimum; arguments as of `adjust_bundle`. The matrix of all cameras is factorized
    densely: for some thousand photos at most."""
    objective = build_objective(bundle, options, prior, sigma, pose_priors, depth_priors)
    order, state = objective.order, bundle_state(bundle, objective.order)
    pose_size = objective.free.pose_size
    structure = schur_structure(order, pose_size, objective.free.intrinsics_size, bundle.rigs)
    problem = CpuProblem(objective, structure)
    equations = problem.linearize(state)
    reduced = reduced_system(structure, equations, 0.0)
    c, d = equations.photo_gradient.shape
    k, q = equations.camera_gradient.shape
    plan, system, own, at = structure.plan, reduced.matrix, state.poses.T.reshape(-1, 3, 4), np.arange(c)
    motion = None
    if structure.rigs is not None and state.sensors is not None and bundle.rigs is not None:
        motion = rig_motion(structure.rigs, state.poses, state.sensors, pose_size)
        system, _ = frame_system(structure.rigs, motion, plan, system, reduced.right)
        plan, at = structure.rigs.plan, structure.rigs.frame_of_photo
        own = frame_poses(bundle.rigs.of_photos(order.photos), own)[np.unique(at, return_index=True)[1]]
    matrix = dense_upper_triangle(plan, system)
    matrix = np.triu(matrix) + np.triu(matrix, 1).T

    first = d * np.arange(len(own))[:, None]
    pose_at = first + np.arange(pose_size)
    intrinsics_at = first + np.arange(pose_size, d)
    if not order.camera_per_photo:
        intrinsics_at = len(matrix) - k * q + np.arange(k * q).reshape(len(order.cameras), -1)
    fixed = np.zeros(len(matrix), bool)
    if pose_priors is not None:
        fixed[pose_at[at[pose_priors.fixed[order.photos]]]] = True
    gauge = _gauge(own, d, pose_size, len(matrix))
    if structure.rigs is not None and state.sensors is not None and len(structure.rigs.refined):
        grown = np.zeros((len(structure.rigs.refined), 6))  # the world cannot grow without the rigs
        grown[:, 3:] = state.sensors[structure.rigs.refined, :, 3]
        gauge[d * len(own) : d * len(own) + grown.size, 6] = grown.ravel()
    inverse, free_gauge, condition = _inverse(matrix, gauge, fixed)

    unknowns = 3 * len(bundle.points) + len(matrix) - int(fixed.sum()) - free_gauge
    noise_px = float(np.sqrt(2.0 * problem.cost(state) / max(2 * len(bundle.xy) - unknowns, 1)))
    poses = np.full((len(bundle.cam_from_world), 6, 6), np.nan)
    poses[order.photos] = 0.0
    of_poses = _blocks(inverse, pose_at)[at] * noise_px**2
    if motion is not None:  # of the sensors, the reference excepted, their own uncertainty is not counted
        of_poses = motion.by_frame @ of_poses @ motion.by_frame.transpose(0, 2, 1)
    poses[order.photos, -pose_size:, -pose_size:] = of_poses
    intrinsics = np.full((len(bundle.models), 8, 8), np.nan)
    of_unknowns = _blocks(inverse, intrinsics_at) * noise_px**2
    intrinsics[order.cameras] = np.einsum("kiq,kqr,kjr->kij", objective.basis, of_unknowns, objective.basis)
    return Covariance(poses, intrinsics, noise_px, free_gauge, condition)


def _blocks(matrix: Array, at: NDArray[np.int64]) -> Array:
    """(n, s, s) blocks of a matrix at rows and columns `at` (n, s)."""
    out: Array = matrix[at[:, :, None], at[:, None, :]]
    return out


def _gauge(poses: Array, size: int, pose_size: int, unknowns: int) -> Array:
    """(unknowns, 7) derivative of the poses by a rotation, translation and growth of the world, in units of the extent
    of the camera centres; (unknowns, 4) where poses have three unknowns, which cannot follow a rotation."""
    rotation, translation = poses[:, :, :3], poses[:, :, 3]
    centres = camera_centres(poses)
    extent = float(np.linalg.norm(centres - centres.mean(axis=0), axis=1).max()) or 1.0
    per_photo = np.zeros((len(poses), 6, 7))
    per_photo[:, :3, :3] = -rotation
    per_photo[:, 3:, 3:6] = -rotation * extent
    per_photo[:, 3:, 6] = translation
    out = np.zeros((unknowns, 7))
    at = size * np.arange(len(poses))[:, None] + np.arange(pose_size)
    out[at] = per_photo[:, -pose_size:]
    return out if pose_size == 6 else out[:, 3:]


def _inverse(matrix: Array, gauge: Array, fixed: NDArray[np.bool_]) -> tuple[Array, int, float]:
    """The inverse apart from the free gauge, its number of directions, and the condition number of the rest."""
    moving = np.flatnonzero(~fixed)
    kept = matrix[np.ix_(moving, moving)]
    scale = 1.0 / np.sqrt(np.diag(kept))
    scaled = kept * scale * scale[:, None]
    # Fixed photos do not follow the gauge, so that some of its directions cost something: these are not free.
    basis, _ = np.linalg.qr(gauge[moving] / scale[:, None])
    stiffness, direction = np.linalg.eigh(basis.T @ scaled @ basis)
    free = stiffness < MIN_GAUGE_STIFFNESS
    basis = basis @ direction[:, free]
    inverse = cho_solve(cho_factor(scaled + basis @ basis.T), np.eye(len(scaled))) - basis @ basis.T
    values = np.linalg.eigvalsh(inverse)[int(free.sum()) :]
    inverse *= scale * scale[:, None]
    # Project to the gauge in which the mean motion is zero in radians and units of the world, not in scaled unknowns.
    motion = gauge[moving] @ np.linalg.lstsq(gauge[moving], basis * scale[:, None], rcond=None)[0]
    if free.any():
        inverse = inverse - motion @ np.linalg.solve(motion.T @ motion, motion.T @ inverse)
        inverse = inverse - (inverse @ motion) @ np.linalg.solve(motion.T @ motion, motion.T)
    out = np.zeros_like(matrix)
    out[np.ix_(moving, moving)] = inverse
    return out, int(free.sum()), float(values[-1] / max(values[0], 1e-300))
