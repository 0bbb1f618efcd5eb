"""Priors of poses and depths: known poses, GPS positions, gravity directions, depth maps.

Fixed poses do not move. All other priors are soft: a residual counts in units of its sigma, each unit as `noise_px`
pixels, under a Cauchy loss, since a few GPS positions are always far off. A camera with pose [R | t] has the residuals

    centre      (-R^T t - centre) / sigma
    rotation    log(R R_prior^T) / sigma
    gravity     (R down_in_world - down) / sigma
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Mask
from ..poses import camera_centres
from ..rotations import nearest_rotation, skew
from ..similarity import Similarity, fit_similarity
from .losses import CAUCHY
from .normal_equations import BundleState
from .observation_order import ObservationOrder
from .problem import Bundle
from .reprojection import ObservationNoise

ALIGNMENT_ROUNDS = 10
"""Rounds of reweighting when a bundle is aligned: the weights have converged well before."""

ALIGNMENT_SCALE = 3.0
"""Scale of the weights of this alignment, in medians of the errors: three times the median holds nearly all errors of a
Gaussian, so that only outliers lose their weight."""


@dataclass(frozen=True, eq=False)
class PosePriors:
    """Priors of the poses of all photos. An infinite sigma means no prior, and the value beside it is ignored."""

    fixed: Mask
    """(photos,) poses that stay as they are in the bundle."""
    centre: Array
    """(photos, 3) camera centres in the world."""
    centre_sigma: Array
    """(photos, 3) per axis, in units of the world."""
    rotation: Array
    """(photos, 3, 3) camera from world."""
    rotation_sigma_rad: Array
    """(photos,)."""
    down: Array
    """(photos, 3) unit direction of gravity in camera coordinates."""
    down_sigma_rad: Array
    """(photos,)."""
    down_in_world: tuple[float, float, float] = (0.0, 1.0, 0.0)
    noise_px: float = 1.5
    """Reprojection error that an error of one sigma weighs as much as."""
    loss_sigmas: float = 3.0
    """Scale of the Cauchy loss: errors beyond so many sigmas have little influence."""


@dataclass(frozen=True, eq=False)
class DepthPriors:
    """Priors of the depth of observations, in units of the world: residual log(z / depth) / relative_sigma."""

    depth: Array
    """(m,) NaN where unknown."""
    relative_sigma: Array
    """(m,)."""
    noise_px: float = 1.5
    """Reprojection error that an error of one sigma weighs as much as."""
    loss_sigmas: float = 3.0
    """Scale of the Cauchy loss: errors beyond so many sigmas have little influence."""

    def of(self, rows: NDArray[np.int64]) -> DepthPriors:
        """The priors of some of the observations."""
        return replace(self, depth=self.depth[rows], relative_sigma=self.relative_sigma[rows])


def no_pose_priors(photos: int) -> PosePriors:
    """Priors without any effect; dataclasses.replace adds what is known."""
    infinite = np.full(photos, np.inf)
    zeros = np.zeros((photos, 3))
    eye = np.tile(np.eye(3), (photos, 1, 1))
    return PosePriors(np.zeros(photos, bool), zeros, np.full((photos, 3), np.inf), eye, infinite, zeros, infinite)


def noise_with_depth_priors(noise: ObservationNoise, depths: DepthPriors, order: ObservationOrder) -> ObservationNoise:
    """The noise of observations that have a depth residual as well."""
    depth, sigma = depths.depth[order.observations], depths.relative_sigma[order.observations]
    known = np.isfinite(depth) & (depth > 0.0) & np.isfinite(sigma)
    return replace(
        noise,
        log_depth=np.log(np.where(known, depth, 1.0)),
        depth_weight=np.where(known, depths.noise_px / np.where(known, sigma, 1.0), 0.0),
        depth_scale_px=depths.noise_px * depths.loss_sigmas,
    )


def pose_prior_cost(priors: PosePriors, order: ObservationOrder, state: BundleState) -> float:
    """The robust cost of all residuals of the pose priors."""
    scale = (priors.noise_px * priors.loss_sigmas) ** 2
    return sum(
        float((0.5 * scale * CAUCHY.rho(_squared(error, priors), np)).sum())
        for error, _ in _residuals(priors, order, state)
    )


def pose_prior_terms(
    priors: PosePriors, order: ObservationOrder, state: BundleState, pose_size: int
) -> tuple[Array, Array]:
    """Blocks J^T w J (c, pose, pose) and gradients J^T w r (c, pose); fixed poses are left to the caller."""
    c = len(order.photos)
    blocks, gradient = np.zeros((c, pose_size, pose_size)), np.zeros((c, pose_size))
    for error, by_pose in _residuals(priors, order, state):
        weight = priors.noise_px**2 * CAUCHY.weight_and_curvature(_squared(error, priors), np)[0]
        jacobian = by_pose[:, :, -pose_size:]
        blocks += np.einsum("c,cij,cik->cjk", weight, jacobian, jacobian)
        gradient += np.einsum("c,cij,ci->cj", weight, jacobian, error)
    return blocks, gradient


def _squared(error: Array, priors: PosePriors) -> Array:
    return np.asarray(np.einsum("ci,ci->c", error, error) / priors.loss_sigmas**2)


def _residuals(priors: PosePriors, order: ObservationOrder, state: BundleState) -> Iterator[tuple[Array, Array]]:
    """Residuals (c, 3) in sigmas, and their Jacobians (c, 3, 6) by the retraction R' = exp(omega) R, t' = t + dt."""
    poses = state.poses.T.reshape(-1, 3, 4)
    rotation, translation = poses[:, :, :3], poses[:, :, 3]
    world_from_cam = rotation.transpose(0, 2, 1)
    at = order.photos
    if np.isfinite(priors.centre_sigma[at]).any():
        weight = 1.0 / priors.centre_sigma[at]
        centre = -np.einsum("cij,cj->ci", world_from_cam, translation)
        error = np.where(weight > 0.0, centre - priors.centre[at], 0.0) * weight
        by_pose = np.concatenate([-world_from_cam @ skew(translation), -world_from_cam], axis=2)
        yield error, by_pose * weight[:, :, None]
    if np.isfinite(priors.rotation_sigma_rad[at]).any():
        weight = 1.0 / priors.rotation_sigma_rad[at]
        prior = np.where(weight[:, None, None] > 0.0, priors.rotation[at], rotation)
        error, by_turn = _small_rotation_vector(rotation @ prior.transpose(0, 2, 1))
        zero = np.zeros_like(by_turn)
        yield error * weight[:, None], np.concatenate([by_turn, zero], axis=2) * weight[:, None, None]
    if np.isfinite(priors.down_sigma_rad[at]).any():
        weight = 1.0 / priors.down_sigma_rad[at]
        down = rotation @ np.array(priors.down_in_world)
        error = np.where(weight[:, None] > 0.0, down - priors.down[at], 0.0) * weight[:, None]
        by_pose = np.concatenate([-skew(down), np.zeros((len(down), 3, 3))], axis=2)
        yield error, by_pose * weight[:, None, None]


def _small_rotation_vector(rotation: Array) -> tuple[Array, Array]:
    """Twice the vector part v of the quaternion (w, v) of rotations (c, 3, 3), and its derivative by a rotation from
    the left. It equals the rotation vector to third order, and its derivative is simple."""
    w = 0.5 * np.sqrt(np.maximum(1.0 + np.trace(rotation, axis1=1, axis2=2), 1e-12))
    antisymmetric = rotation - rotation.transpose(0, 2, 1)
    v = np.stack([antisymmetric[:, 2, 1], antisymmetric[:, 0, 2], antisymmetric[:, 1, 0]], axis=1) / (4.0 * w[:, None])
    # A rotation exp(omega) from the left adds (w omega + omega x v) / 2 to v.
    return 2.0 * v, w[:, None, None] * np.eye(3) - skew(v)


def align_to_pose_priors(bundle: Bundle, priors: PosePriors, fixed_poses: Array) -> Bundle | None:
    """Align a bundle to the frame of its pose priors by a robust similarity, and set fixed poses to `fixed_poses`
    (photos, 3, 4). Its rigs grow with it.

    None where the priors determine no similarity: it takes two known positions, and where no orientation is known three
    that are not on a line.
    """
    fixed = priors.fixed
    posed = np.isfinite(bundle.cam_from_world[:, 0, 0])
    target = np.where(fixed[:, None], camera_centres(fixed_poses), priors.centre)
    has_centre = posed & (fixed | np.isfinite(priors.centre_sigma).all(axis=1))
    has_rotation = posed & (fixed | np.isfinite(priors.rotation_sigma_rad))
    if (posed & fixed).sum() >= 2:  # rough ones would leave these beside their matches, and they do not move
        has_centre, has_rotation = posed & fixed, posed & fixed
    source = camera_centres(bundle.cam_from_world)
    cam_from_target = fixed_poses[:, :, :3] if fixed.any() else priors.rotation
    cam_from_target = np.where(fixed[:, None, None], cam_from_target, priors.rotation)
    similarity = _robust_similarity(
        source[has_centre],
        target[has_centre],
        bundle.cam_from_world[has_rotation, :, :3],
        cam_from_target[has_rotation],
    )
    if similarity is None:
        return None
    moved = bundle.cam_from_world.copy()
    moved[:, :, :3] = moved[:, :, :3] @ similarity.rotation.T
    moved[:, :, 3] = -np.einsum("cij,cj->ci", moved[:, :, :3], similarity(source))
    moved[fixed & posed] = fixed_poses[fixed & posed]
    rigs = None if bundle.rigs is None else bundle.rigs.scaled(similarity.scale)
    return replace(bundle, cam_from_world=moved, points=similarity(bundle.points), rigs=rigs)


def _robust_similarity(
    source: Array, target: Array, cam_from_source: Array, cam_from_target: Array
) -> Similarity | None:
    """The similarity from source to target centres (n, 3) and orientations (o, 3, 3), by reweighted least squares: a
    minority of wrong ones has no influence."""
    if len(source) < 2 or np.ptp(source, axis=0).max() == 0.0 or np.ptp(target, axis=0).max() == 0.0:
        return None
    extents = np.linalg.svd(target - target.mean(axis=0), compute_uv=False)
    if len(cam_from_source) == 0 and (len(source) < 3 or extents[1] < 1e-6 * extents[0]):
        return None
    weight = np.ones(len(source))
    turns, turn_weight = cam_from_target.transpose(0, 2, 1) @ cam_from_source, np.ones(len(cam_from_source))
    fitted = None
    for _ in range(ALIGNMENT_ROUNDS):
        if len(cam_from_source):
            rotation = nearest_rotation(np.einsum("c,cij->ij", turn_weight, turns))
            turn_weight = _robust_weight(np.linalg.norm(turns - rotation, axis=(1, 2)), 1e-9)
            source_mean, target_mean = (np.average(x, axis=0, weights=weight) for x in (source, target))
            turned = (source - source_mean) @ rotation.T
            scale = float((weight[:, None] * turned * (target - target_mean)).sum())
            scale /= float((weight[:, None] * turned**2).sum())
            if scale <= 0.0:
                return None
            fitted = Similarity(scale, rotation, target_mean - scale * rotation @ source_mean)
        else:
            fitted = fit_similarity(source, target, weight)
        error = np.linalg.norm(fitted(source) - target, axis=1)
        weight = _robust_weight(error, 1e-9 * float(extents[0]))
    return fitted


def _robust_weight(error: Array, least_median: float) -> Array:
    """Geman-McClure weights (1 + (error / scale)^2)^-2."""
    scale = ALIGNMENT_SCALE * max(float(np.median(error)), least_median)
    weight: Array = 1.0 / (1.0 + (error / scale) ** 2) ** 2
    return weight
