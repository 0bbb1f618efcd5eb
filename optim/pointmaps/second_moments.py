"""Gauss-Newton on similarities and focal lengths of photos, with one matrix of second moments per pair.

For fixed weights W the cost of a pair's matches p, q is quadratic in x = (M_a, t_a, M_b, t_b):

    sum r^T W r,  r = M_a p + t_a - (M_b q + t_b)   =   x^T S x,  S = sum W kron v v^T,  v = (p, 1, -q, -1),

so that a step costs the number of pairs, not of matches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import splu

from ..arrays import Array, Index
from ..bundle.segment_sums import segment_matrix
from ..rotations import exp_so3
from .similarity_averaging import PhotoSimilarities

UNKNOWNS = 8
"""Unknowns of a photo: rotation (3), translation (3), log scale, log focal length."""

_MAX_STEPS = 4  # the weights are renewed before more steps would pay
_INITIAL_DAMPING = 1e-6


@dataclass(frozen=True, eq=False)
class MatchedPoints:
    """Matched 3D points of e pairs, padded to k matches per pair by matches of weight zero."""

    pairs: Index
    """(e, 2) photos a, b."""
    p: Array
    q: Array
    """(e, k, 3) points in the camera frames of a and of b, under the initial focal lengths."""
    weight: Array
    """(e, k)."""

    def select(self, rows: Index, number: Index) -> MatchedPoints:
        """The pairs `rows`, with the photos renumbered: photo i becomes number[i]."""
        return MatchedPoints(number[self.pairs[rows]], self.p[rows], self.q[rows], self.weight[rows])


def pair_moments(matched: MatchedPoints, weights: Array) -> Array:
    """(e, 24, 24) second moments S of each pair, by weights W (e, k, 3, 3)."""
    e, k = matched.weight.shape
    v = np.empty((e, k, 8))
    v[..., :3], v[..., 3], v[..., 4:7], v[..., 7] = matched.p, 1.0, -matched.q, -1.0
    upper = np.triu_indices(3)
    products = (v[..., :, None] * v[..., None, :]).reshape(e, k, 64)
    sums = (weights[..., upper[0], upper[1]].transpose(0, 2, 1) @ products).reshape(e, 6, 8, 8)
    out = np.empty((e, 3, 8, 3, 8))
    for row, (i, j) in enumerate(zip(*upper, strict=True)):
        out[:, i, :, j] = out[:, j, :, i] = sums[:, row]
    return out.reshape(e, 24, 24)


@dataclass(frozen=True, eq=False)
class MomentSystem:
    """The cost of all pairs under fixed weights, with a prior on the focal lengths."""

    moments: Array
    """(e, 24, 24), see `pair_moments`."""
    bias_gradient: Array
    """(e, 2, 8) constant terms of the gradient of both photos that remove the bias of noisy depths."""
    pairs: Index
    """(e, 2)."""
    camera_of_photo: Index
    """(photos,)."""
    focal_sigma: Array
    """(cameras,) relative standard deviation of the initial focal lengths."""
    fixed: NDArray[np.bool_]
    """(photos,) whether a photo's pose and scale are constant: one photo of every connected component, which fixes the
    gauge."""

    @property
    def focal_weight(self) -> Array:
        """(cameras,) 1 / sigma^2."""
        return 1.0 / np.maximum(self.focal_sigma, 1e-6) ** 2

    def cost(self, poses: PhotoSimilarities, log_growth: Array, moved: Array) -> float:
        """Half of the sum of squares plus the bias term; `moved` (photos, 8) is the sum of all steps so far."""
        flat = _flat(self.pairs, poses, log_growth)
        growth = _per_camera(log_growth, self.camera_of_photo, len(self.focal_sigma))
        squares = np.einsum("ei,eij,ej->", flat, self.moments, flat) + self.focal_weight @ growth**2
        return float(0.5 * squares + (self.bias_gradient * moved[self.pairs]).sum())


def gauss_newton(system: MomentSystem, poses: PhotoSimilarities, log_growth: Array) -> tuple[PhotoSimilarities, Array]:
    """A few damped Gauss-Newton steps for fixed weights, each accepted only if it lowers the cost."""
    n, prior = len(poses), system.focal_weight
    columns = _free_columns(system.fixed, system.camera_of_photo, len(prior))
    prior_diagonal = np.concatenate([np.zeros(columns.shape[1] - len(prior)), prior])
    moved = np.zeros((n, UNKNOWNS))
    cost = system.cost(poses, log_growth, moved)
    damping = _INITIAL_DAMPING
    for _ in range(_MAX_STEPS):
        hessian, gradient = _normal_equations(system, poses, log_growth)
        hessian = (columns.T @ hessian @ columns).tocsc()
        slope = columns.T @ gradient
        slope[-len(prior) :] += prior * _per_camera(log_growth, system.camera_of_photo, len(prior))
        diagonal = hessian.diagonal()
        extra = prior_diagonal + damping * diagonal + 1e-12 * diagonal.max()
        if not diagonal.any():  # all weights are zero
            break
        step = (columns @ splu(hessian + _diagonal(extra)).solve(-slope)).reshape(n, UNKNOWNS)
        # No rotation, log scale or log focal length moves by more than one: farther the linearization means nothing.
        step *= min(1.0, 1.0 / max(float(np.abs(step[:, [0, 1, 2, 6, 7]]).max()), 1e-300))
        trial, growth = _moved(poses, log_growth, step)
        new = system.cost(trial, growth, moved + step)
        if not new < cost:
            damping *= 100.0
            continue
        done = cost - new < 1e-4 * abs(cost)
        poses, log_growth, cost, moved = trial, growth, new, moved + step
        if done:
            break
    return poses, log_growth


def _free_columns(fixed: NDArray[np.bool_], camera_of_photo: Index, cameras: int) -> csr_matrix:
    """(8 n, free) maps the free unknowns to those of all photos; photos of a camera share its focal length."""
    unknown = np.arange(len(fixed) * UNKNOWNS).reshape(-1, UNKNOWNS)
    own = unknown[~fixed, : UNKNOWNS - 1].ravel()
    row = np.concatenate([own, unknown[:, -1]])
    column = np.concatenate([np.arange(len(own)), len(own) + camera_of_photo])
    return csr_matrix((np.ones(len(row)), (row, column)), shape=(unknown.size, len(own) + cameras))


def _per_camera(log_growth: Array, camera_of_photo: Index, cameras: int) -> Array:
    """(cameras,) the value that all photos of a camera share."""
    out = np.zeros(cameras)
    out[camera_of_photo] = log_growth
    return out


def similarity_matrices(poses: PhotoSimilarities, log_growth: Array) -> Array:
    """(photos, 3, 3) matrices M = scale R diag(1/g, 1/g, 1), g the growth of the focal length."""
    out: Array = poses.scale[:, None, None] * poses.rotation
    out[:, :, :2] *= np.exp(-log_growth)[:, None, None]
    return out


def _flat(pairs: Index, poses: PhotoSimilarities, log_growth: Array) -> Array:
    """(e, 24) the vectors x: the three rows of (M_a, t_a, M_b, t_b)."""
    both = np.concatenate([similarity_matrices(poses, log_growth), poses.translation[:, :, None]], axis=2)
    return np.concatenate([both[pairs[:, 0]], both[pairs[:, 1]]], axis=2).reshape(len(pairs), 24)


def _normal_equations(system: MomentSystem, poses: PhotoSimilarities, log_growth: Array) -> tuple[csr_matrix, Array]:
    """Hessian (8 n, 8 n) and gradient (8 n,) over the unknowns of all photos, without the prior."""
    pairs = system.pairs
    n, e = len(poses), len(pairs)
    own = _derivatives(poses, log_growth)
    jacobian = np.zeros((e, 2, UNKNOWNS, 3, 2, 4))
    jacobian[:, 0, :, :, 0] = own[pairs[:, 0]]
    jacobian[:, 1, :, :, 1] = own[pairs[:, 1]]
    rows = jacobian.reshape(e, 2 * UNKNOWNS, 24)
    weighted = rows @ system.moments
    blocks = (weighted @ rows.transpose(0, 2, 1)).reshape(e, 2, UNKNOWNS, 2, UNKNOWNS).transpose(0, 1, 3, 2, 4)
    forces = (
        np.einsum("eki,ei->ek", weighted, _flat(pairs, poses, log_growth)).reshape(e, 2, UNKNOWNS)
        + system.bias_gradient
    )
    photo = pairs.ravel()
    gradient = np.asarray(segment_matrix(photo, n) @ forces.reshape(2 * e, UNKNOWNS)).ravel()
    offset = np.arange(UNKNOWNS)
    row = (UNKNOWNS * pairs)[:, :, None, None, None] + offset[:, None]
    column = (UNKNOWNS * pairs)[:, None, :, None, None] + offset
    row, column = np.broadcast_arrays(row, column)
    hessian = csr_matrix((blocks.ravel(), (row.ravel(), column.ravel())), shape=(n * UNKNOWNS, n * UNKNOWNS))
    return hessian, gradient


def _derivatives(poses: PhotoSimilarities, log_growth: Array) -> Array:
    """(photos, 8, 3, 4) derivatives of (M, t) by rotation about the camera centre, translation, log scale and log g."""
    n = len(poses)
    maps = similarity_matrices(poses, log_growth)
    out = np.zeros((n, UNKNOWNS, 3, 4))
    for axis, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
        out[:, axis, i, :3], out[:, axis, j, :3] = -maps[:, j], maps[:, i]
        out[:, 3 + axis, axis, 3] = 1.0
    out[:, 6, :, :3] = maps
    out[:, 7, :, :2] = -maps[:, :, :2]
    return out


def _moved(poses: PhotoSimilarities, log_growth: Array, step: Array) -> tuple[PhotoSimilarities, Array]:
    """The similarities and log growths after a step (photos, 8)."""
    moved = replace(
        poses,
        scale=poses.scale * np.exp(step[:, 6]),
        rotation=exp_so3(step[:, :3]) @ poses.rotation,
        translation=poses.translation + step[:, 3:6],
    )
    return moved, log_growth + step[:, 7]


def _diagonal(values: Array) -> csr_matrix:
    n = len(values)
    return csr_matrix((values, (np.arange(n), np.arange(n))), shape=(n, n))
