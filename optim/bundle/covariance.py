"""How well an adjusted bundle knows its cameras."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from .adjust import OnProcessor
from .arrowhead import upper
from .normal_equations import State
from .objective import objective, state_of
from .pose_priors import DepthPriors, PosePriors
from .problem import Bundle, BundleOptions, IntrinsicsPrior
from .schur import reduced, structure

Array = NDArray[np.float64]

GAUGE_SHARE = 1e-8
"""Directions of the gauge whose stiffness is a smaller share of the mean one are not held by anything."""


@dataclass(frozen=True, eq=False)
class Covariance:
    """Not a number for photos and cameras that see nothing; zero for what does not move."""

    poses: Array
    """(photos, 6, 6) of turns in radians and shifts, both of the world into the camera and from the left:
    R' = exp(turn) R, t' = t + shift."""
    intrinsics: Array
    """(cameras, 8, 8)."""
    noise_px: float
    """Scatter of the errors that the bundle itself shows; the covariances have it in them."""
    free_gauge: int
    """Directions in which the whole may move without any cost: 7 where nothing tells frame and scale. Covariances
    are then those after the best fit of all photos: their weighted mean turn, shift and growth is zero."""
    condition: float
    """Largest over smallest stiffness beside the gauge, each unknown in units in which its own is one. From 1e12 on
    something is not determined by the photos."""


def covariance(
    bundle: Bundle,
    options: BundleOptions,
    prior: IntrinsicsPrior | None = None,
    sigma: Array | None = None,
    anchors: PosePriors | None = None,
    depths: DepthPriors | None = None,
) -> Covariance:
    """Of a bundle at its minimum; arguments as of adjustment.adjust. The matrix of all cameras is factorised densely:
    some thousand photos at most."""
    task = objective(bundle, options, prior, sigma, anchors, depths)
    sights, state = task.sights, state_of(bundle, task.sights)
    parts = structure(sights, task.free.pose, task.free.lens)
    engine = OnProcessor(task, parts)
    system = engine.linearised(state)
    matrix = upper(parts.plan, reduced(parts, system, 0.0).arrow)
    matrix = np.triu(matrix) + np.triu(matrix, 1).T

    c, d = system.photo_gradient.shape
    k, q = system.camera_gradient.shape
    photo_at = d * np.arange(c)[:, None]
    lens_at = (photo_at + np.arange(task.free.pose, d)) if not k else c * d + np.arange(k * q).reshape(k, q)
    still = np.zeros(len(matrix), bool)
    if anchors is not None:
        still[(photo_at + np.arange(task.free.pose))[anchors.fixed[sights.photos]]] = True
    inverse, free_gauge, condition = _inverse(matrix, _gauge(state, d, task.free.pose, len(matrix)), still)

    freedom = 2 * len(bundle.xy) - 3 * len(bundle.points) - (len(matrix) - int(still.sum())) + free_gauge
    noise_px = float(np.sqrt(2.0 * engine.cost(state) / max(freedom, 1)))
    poses = np.full((len(bundle.cam_from_world), 6, 6), np.nan)
    poses[sights.photos] = 0.0
    pose_at = photo_at + np.arange(task.free.pose)
    poses[sights.photos, -task.free.pose :, -task.free.pose :] = _blocks(inverse, pose_at) * noise_px**2
    intrinsics = np.full((len(bundle.models), 8, 8), np.nan)
    lens = _blocks(inverse, lens_at) * noise_px**2
    intrinsics[sights.cameras] = np.einsum("kiq,kqr,kjr->kij", task.spread, lens, task.spread)
    return Covariance(poses, intrinsics, noise_px, free_gauge, condition)


def _blocks(matrix: Array, at: NDArray[np.int64]) -> Array:
    """(n, s, s) parts of a matrix, of rows and columns `at` (n, s)."""
    out: Array = matrix[at[:, :, None], at[:, None, :]]
    return out


def _gauge(state: State, size: int, pose: int, unknowns: int) -> Array:
    """(unknowns, 7) what turning, shifting and growing the world does to the photos; in units of its own extent."""
    poses = state.poses.T.reshape(-1, 3, 4)
    rotation, translation = poses[:, :, :3], poses[:, :, 3]
    centres = -np.einsum("cji,cj->ci", rotation, translation)
    extent = float(np.linalg.norm(centres - centres.mean(axis=0), axis=1).max()) or 1.0
    per_photo = np.zeros((len(poses), 6, 7))
    per_photo[:, :3, :3] = -rotation
    per_photo[:, 3:, 3:6] = -rotation * extent
    per_photo[:, 3:, 6] = translation
    out = np.zeros((unknowns, 7))
    at = size * np.arange(len(poses))[:, None] + np.arange(pose)
    out[at] = per_photo[:, -pose:]
    # Three unknowns per pose cannot follow a turn.
    return out if pose == 6 else out[:, 3:]


def _inverse(matrix: Array, gauge: Array, still: NDArray[np.bool_]) -> tuple[Array, int, float]:
    """The inverse beside the gauge, how many directions of it are free, and the condition of the rest."""
    moving = np.flatnonzero(~still)
    kept = matrix[np.ix_(moving, moving)]
    scale = 1.0 / np.sqrt(np.diag(kept))
    scaled = kept * scale * scale[:, None]
    # A fixed photo takes part in no motion of the whole.
    basis, _ = np.linalg.qr(gauge[moving] / scale[:, None])
    stiffness, direction = np.linalg.eigh(basis.T @ scaled @ basis)
    free = stiffness < GAUGE_SHARE
    basis = basis @ direction[:, free]
    inverse = cho_solve(cho_factor(scaled + basis @ basis.T), np.eye(len(scaled))) - basis @ basis.T
    values = np.linalg.eigvalsh(inverse)[int(free.sum()) :]
    inverse *= scale * scale[:, None]
    # From that gauge to the one in which the motions of the whole are taken out in natural units.
    motion = gauge[moving] @ np.linalg.lstsq(gauge[moving], basis * scale[:, None], rcond=None)[0]
    if free.any():
        inverse = inverse - motion @ np.linalg.solve(motion.T @ motion, motion.T @ inverse)
        inverse = inverse - (inverse @ motion) @ np.linalg.solve(motion.T @ motion, motion.T)
    out = np.zeros_like(matrix)
    out[np.ix_(moving, moving)] = inverse
    return out, int(free.sum()), float(values[-1] / max(values[0], 1e-300))
