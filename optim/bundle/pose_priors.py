"""What is known of poses and depths from elsewhere: given poses, positions by satellite, a plumb line, depth maps.

Fixed poses do not move. The rest pulls softly: its errors are counted in units of their sigma, and each unit for
`noise_px` pixels; from three units on they hardly count, as a few positions by satellite are always far off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..rotations import nearest_rotation, skew
from ..similarity import Similarity, fit_similarity
from .losses import CAUCHY
from .normal_equations import State
from .observation_order import Sights
from .problem import Bundle
from .reprojection import Noise

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

DOUBTFUL = 3.0
"""Sigmas from which on an error hardly counts."""


@dataclass(frozen=True, eq=False)
class PosePriors:
    """Per photo; an infinite sigma knows nothing, and the value beside it is not looked at."""

    fixed: Bools
    """(photos,) poses that stay as they are in the bundle."""
    centre: Array
    centre_sigma: Array
    """(photos, 3) where cameras stand in the world."""
    rotation: Array
    """(photos, 3, 3) camera from world."""
    rotation_sigma_rad: Array
    """(photos,)."""
    down: Array
    """(photos, 3) where things fall to, as a direction in the coordinates of the camera."""
    down_sigma_rad: Array
    """(photos,)."""
    down_in_world: tuple[float, float, float] = (0.0, 1.0, 0.0)
    noise_px: float = 1.5


@dataclass(frozen=True, eq=False)
class DepthPriors:
    """Per observation: the depth that it is believed to have in front of its photo, in the units of the world."""

    depth: Array
    """(m,) not a number where unknown."""
    relative_sigma: Array
    """(m,)."""
    noise_px: float = 1.5

    def of(self, rows: NDArray[np.int64]) -> DepthPriors:
        """Those of some."""
        return replace(self, depth=self.depth[rows], relative_sigma=self.relative_sigma[rows])


def no_pose_priors(photos: int) -> PosePriors:
    """Nothing is known; use dataclasses.replace to say what is."""
    nothing = np.full(photos, np.inf)
    zeros = np.zeros((photos, 3))
    eye = np.tile(np.eye(3), (photos, 1, 1))
    return PosePriors(np.zeros(photos, bool), zeros, np.full((photos, 3), np.inf), eye, nothing, zeros, nothing)


def with_depths(noise: Noise, depths: DepthPriors, sights: Sights) -> Noise:
    """The noise of observations that are also wrong in depth."""
    depth, sigma = depths.depth[sights.order], depths.relative_sigma[sights.order]
    known = np.isfinite(depth) & (depth > 0.0) & np.isfinite(sigma)
    return replace(
        noise,
        log_depth=np.log(np.where(known, depth, 1.0)),
        depth_weight=np.where(known, depths.noise_px / np.where(known, sigma, 1.0), 0.0),
        depth_scale_px=depths.noise_px * DOUBTFUL,
    )


def anchor_cost(anchors: PosePriors, sights: Sights, state: State) -> float:
    """What the errors of the anchors cost."""
    scale = (anchors.noise_px * DOUBTFUL) ** 2
    return sum(
        float((0.5 * scale * CAUCHY.rho(_squares(error), np)).sum()) for error, _ in _errors(anchors, sights, state)
    )


def anchor_terms(anchors: PosePriors, sights: Sights, state: State, pose: int) -> tuple[Array, Array]:
    """Their normal matrices (c, pose, pose) and gradients (c, pose); fixed poses are left to the caller."""
    c = len(sights.photos)
    matrix, gradient = np.zeros((c, pose, pose)), np.zeros((c, pose))
    for error, by_pose in _errors(anchors, sights, state):
        weight = anchors.noise_px**2 * CAUCHY.slope(_squares(error), np)[0]
        jacobian = by_pose[:, :, -pose:]
        matrix += np.einsum("c,cij,cik->cjk", weight, jacobian, jacobian)
        gradient += np.einsum("c,cij,ci->cj", weight, jacobian, error)
    return matrix, gradient


def _squares(error: Array) -> Array:
    return np.asarray(np.einsum("ci,ci->c", error, error) / DOUBTFUL**2)


def _errors(anchors: PosePriors, sights: Sights, state: State) -> Iterator[tuple[Array, Array]]:
    """Errors (c, 3) in sigmas, and their derivatives (c, 3, 6) by turns and translations as the adjustment makes
    them: R' = exp(omega) R, t' = t + dt."""
    poses = state.poses.T.reshape(-1, 3, 4)
    rotation, translation = poses[:, :, :3], poses[:, :, 3]
    back = rotation.transpose(0, 2, 1)
    at = sights.photos
    if np.isfinite(anchors.centre_sigma[at]).any():
        sure = 1.0 / anchors.centre_sigma[at]
        centre = -np.einsum("cij,cj->ci", back, translation)
        off = np.where(sure > 0.0, centre - anchors.centre[at], 0.0) * sure
        by_pose = np.concatenate([-back @ skew(translation), -back], axis=2)
        yield off, by_pose * sure[:, :, None]
    if np.isfinite(anchors.rotation_sigma_rad[at]).any():
        sure = 1.0 / anchors.rotation_sigma_rad[at]
        between = rotation @ np.where(sure[:, None, None] > 0.0, anchors.rotation[at], rotation).transpose(0, 2, 1)
        # Twice the vector part of the quaternion: the turn itself to third order, and its derivative is simple.
        off, by_turn = _turn(between)
        nothing = np.zeros_like(by_turn)
        yield off * sure[:, None], np.concatenate([by_turn, nothing], axis=2) * sure[:, None, None]
    if np.isfinite(anchors.down_sigma_rad[at]).any():
        sure = 1.0 / anchors.down_sigma_rad[at]
        down = rotation @ np.array(anchors.down_in_world)
        off = np.where(sure[:, None] > 0.0, down - anchors.down[at], 0.0) * sure[:, None]
        by_pose = np.concatenate([-skew(down), np.zeros((len(down), 3, 3))], axis=2)
        yield off, by_pose * sure[:, None, None]


def _turn(between: Array) -> tuple[Array, Array]:
    """Twice the vector part of the quaternion of rotations (c, 3, 3), and its derivative by a turn from the left."""
    w = 0.5 * np.sqrt(np.maximum(1.0 + np.trace(between, axis1=1, axis2=2), 1e-12))
    anti = between - between.transpose(0, 2, 1)
    v = np.stack([anti[:, 2, 1], anti[:, 0, 2], anti[:, 1, 0]], axis=1) / (4.0 * w[:, None])
    # A turn omega from the left adds (w omega + omega x v) / 2 to v.
    return 2.0 * v, w[:, None, None] * np.eye(3) - skew(v)


def align_to_pose_priors(bundle: Bundle, anchors: PosePriors, poses: Array) -> Bundle | None:
    """The bundle moved, turned and scaled as a whole to where the anchors say that it is, with fixed poses (of
    `poses`, (photos, 3, 4)) in place; None where they do not say: two known positions at least, and where no
    orientations are known three that do not lie on a line."""
    fixed = anchors.fixed
    posed = np.isfinite(bundle.cam_from_world[:, 0, 0])
    target = np.where(fixed[:, None], _centres(poses), anchors.centre)
    known = posed & (fixed | np.isfinite(anchors.centre_sigma).all(axis=1))
    turned = posed & (fixed | np.isfinite(anchors.rotation_sigma_rad))
    source = _centres(bundle.cam_from_world)
    there = poses[:, :, :3] if fixed.any() else anchors.rotation
    there = np.where(fixed[:, None, None], there, anchors.rotation)
    similarity = _fit(source[known], target[known], bundle.cam_from_world[turned, :, :3], there[turned])
    if similarity is None:
        return None
    moved = bundle.cam_from_world.copy()
    moved[:, :, :3] = moved[:, :, :3] @ similarity.rotation.T
    moved[:, :, 3] = -np.einsum("cij,cj->ci", moved[:, :, :3], similarity(source))
    moved[fixed & posed] = poses[fixed & posed]
    return replace(bundle, cam_from_world=moved, points=similarity(bundle.points))


def _fit(source: Array, target: Array, from_world: Array, there: Array, rounds: int = 10) -> Similarity | None:
    """Robust against a minority of wrong positions and orientations: those further off than thrice the median have
    no say."""
    if len(source) < 2 or np.ptp(source, axis=0).max() == 0.0 or np.ptp(target, axis=0).max() == 0.0:
        return None
    spread = np.linalg.svd(target - target.mean(axis=0), compute_uv=False)
    if len(from_world) == 0 and (len(source) < 3 or spread[1] < 1e-6 * spread[0]):
        return None
    weight = np.ones(len(source))
    turns, sure = there.transpose(0, 2, 1) @ from_world, np.ones(len(from_world))
    fitted = None
    for _ in range(rounds):
        if len(from_world):
            rotation = nearest_rotation(np.einsum("c,cij->ij", sure, turns))
            sure = _say(np.linalg.norm(turns - rotation, axis=(1, 2)), 1e-9)
            middle, goal = (np.average(x, axis=0, weights=weight) for x in (source, target))
            turned = (source - middle) @ rotation.T
            scale = float((weight[:, None] * turned * (target - goal)).sum() / (weight[:, None] * turned**2).sum())
            if scale <= 0.0:
                return None
            fitted = Similarity(scale, rotation, goal - scale * rotation @ middle)
        else:
            fitted = fit_similarity(source, target, weight)
        off = np.linalg.norm(fitted(source) - target, axis=1)
        weight = _say(off, 1e-9 * float(spread[0]))
    return fitted


def _say(off: Array, least: float) -> Array:
    """Weights by how far off each is."""
    unit = 3.0 * max(float(np.median(off)), least)
    weight: Array = 1.0 / (1.0 + (off / unit) ** 2) ** 2
    return weight


def _centres(cam_from_world: Array) -> Array:
    centres: Array = -np.einsum("cji,cj->ci", cam_from_world[:, :, :3], cam_from_world[:, :, 3])
    return centres
