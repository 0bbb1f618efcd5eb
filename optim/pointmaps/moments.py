"""Least squares on similarities and focal lengths, where each pair of photos acts through one matrix of moments."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import splu

from ..bundle.segment_sums import segment_matrix
from ..rotations import exp_so3
from .graph_average import Placed

Array = NDArray[np.float64]
Index = NDArray[np.int64]

SIZE = 8
"""Unknowns of a photo: turn, shift, logarithms of scale and focal length."""

STEPS = 4
"""Of Gauss-Newton, at most: weights are renewed long before these converge."""


@dataclass(frozen=True, eq=False)
class MatchedPoints:
    """Matches of all pairs, padded to one number per pair by matches of weight zero."""

    pairs: Index
    """(e, 2)."""
    p: Array
    q: Array
    """(e, k, 3) points in the frames of the first and the second photo, under the first focal lengths."""
    weight: Array
    """(e, k)."""

    def select(self, rows: Index, number: Index) -> MatchedPoints:
        """The pairs `rows`, their photos by other numbers."""
        return MatchedPoints(number[self.pairs[rows]], self.p[rows], self.q[rows], self.weight[rows])


def moments_of(matched: MatchedPoints, weights: Array) -> Array:
    """(e, 24, 24) per pair: sum over matches of W kron v v^T, v = (p, 1, -q, -1)."""
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
class System:
    """A cost that is quadratic in all M and t, but for what is known of the focal lengths."""

    moments: Array
    lean: Array
    pairs: Index
    camera_of_photo: Index
    focal_sigma: Array
    held: NDArray[np.bool_]
    """(photos,) who stays, and keeps its size: one in every connected component, which fixes the world."""

    @property
    def focal_weight(self) -> Array:
        return 1.0 / np.maximum(self.focal_sigma, 1e-6) ** 2

    def cost(self, placed: Placed, log_growth: Array, moved: Array) -> float:
        """Half of the sum of squares; `moved` (photos, 8) are all steps so far."""
        flat = _flat(self.pairs, placed, log_growth)
        growth = _of_camera(log_growth, self.camera_of_photo, len(self.focal_sigma))
        squares = np.einsum("ei,eij,ej->", flat, self.moments, flat) + self.focal_weight @ growth**2
        return float(0.5 * squares + (self.lean * moved[self.pairs]).sum())


def descend(system: System, placed: Placed, log_growth: Array) -> tuple[Placed, Array]:
    """A few steps of Gauss-Newton for fixed weights, each accepted only if the cost falls."""
    n, prior = len(placed), system.focal_weight
    columns = _columns(system.held, system.camera_of_photo, len(prior))
    of_prior = np.concatenate([np.zeros(columns.shape[1] - len(prior)), prior])
    moved = np.zeros((n, SIZE))
    cost = system.cost(placed, log_growth, moved)
    damping = 1e-6
    for _ in range(STEPS):
        hessian, gradient = _normal_equations(system, placed, log_growth)
        hessian = (columns.T @ hessian @ columns).tocsc()
        slope = columns.T @ gradient
        slope[-len(prior) :] += prior * _of_camera(log_growth, system.camera_of_photo, len(prior))
        diagonal = hessian.diagonal()
        extra = of_prior + damping * diagonal + 1e-12 * diagonal.max()
        if not diagonal.any():  # no match is trusted: nothing pulls
            break
        step = (columns @ splu(hessian + _diagonal(extra)).solve(-slope)).reshape(n, SIZE)
        step *= min(1.0, 1.0 / max(float(np.abs(step[:, [0, 1, 2, 6, 7]]).max()), 1e-300))
        trial, growth = _moved(placed, log_growth, step)
        new = system.cost(trial, growth, moved + step)
        if not new < cost:
            damping *= 100.0
            continue
        done = cost - new < 1e-4 * abs(cost)
        placed, log_growth, cost, moved = trial, growth, new, moved + step
        if done:
            break
    return placed, log_growth


def _columns(held: NDArray[np.bool_], camera_of_photo: Index, cameras: int) -> csr_matrix:
    """(8 n, free): which of all unknowns are free; focal lengths belong to cameras."""
    unknown = np.arange(len(held) * SIZE).reshape(-1, SIZE)
    own = unknown[~held, : SIZE - 1].ravel()
    row = np.concatenate([own, unknown[:, -1]])
    column = np.concatenate([np.arange(len(own)), len(own) + camera_of_photo])
    return csr_matrix((np.ones(len(row)), (row, column)), shape=(unknown.size, len(own) + cameras))


def _of_camera(log_growth: Array, camera_of_photo: Index, cameras: int) -> Array:
    out = np.zeros(cameras)
    out[camera_of_photo] = log_growth
    return out


def maps_of(placed: Placed, log_growth: Array) -> Array:
    """(photos, 3, 3) the matrices M."""
    out: Array = placed.scale[:, None, None] * placed.rotation
    out[:, :, :2] *= np.exp(-log_growth)[:, None, None]
    return out


def _flat(pairs: Index, placed: Placed, log_growth: Array) -> Array:
    """(e, 24) rows of (M_a, t_a, M_b, t_b), one after the other."""
    both = np.concatenate([maps_of(placed, log_growth), placed.translation[:, :, None]], axis=2)
    return np.concatenate([both[pairs[:, 0]], both[pairs[:, 1]]], axis=2).reshape(len(pairs), 24)


def _normal_equations(system: System, placed: Placed, log_growth: Array) -> tuple[csr_matrix, Array]:
    pairs = system.pairs
    n, e = len(placed), len(pairs)
    own = _derivatives(placed, log_growth)
    jacobian = np.zeros((e, 2, SIZE, 3, 2, 4))
    jacobian[:, 0, :, :, 0] = own[pairs[:, 0]]
    jacobian[:, 1, :, :, 1] = own[pairs[:, 1]]
    rows = jacobian.reshape(e, 2 * SIZE, 24)
    weighted = rows @ system.moments
    blocks = (weighted @ rows.transpose(0, 2, 1)).reshape(e, 2, SIZE, 2, SIZE).transpose(0, 1, 3, 2, 4)
    forces = np.einsum("eki,ei->ek", weighted, _flat(pairs, placed, log_growth)).reshape(e, 2, SIZE) + system.lean
    photo = pairs.ravel()
    gradient = np.asarray(segment_matrix(photo, n) @ forces.reshape(2 * e, SIZE)).ravel()
    inside = np.arange(SIZE)
    row = (SIZE * pairs)[:, :, None, None, None] + inside[:, None]
    column = (SIZE * pairs)[:, None, :, None, None] + inside
    row, column = np.broadcast_arrays(row, column)
    hessian = csr_matrix((blocks.ravel(), (row.ravel(), column.ravel())), shape=(n * SIZE, n * SIZE))
    return hessian, gradient


def _derivatives(placed: Placed, log_growth: Array) -> Array:
    """(photos, 8, 3, 4) of (M, t) by turn (the camera stays where it is), shift, log scale and log focal length."""
    n = len(placed)
    maps = maps_of(placed, log_growth)
    out = np.zeros((n, SIZE, 3, 4))
    for axis, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
        out[:, axis, i, :3], out[:, axis, j, :3] = -maps[:, j], maps[:, i]
        out[:, 3 + axis, axis, 3] = 1.0
    out[:, 6, :, :3] = maps
    out[:, 7, :, :2] = -maps[:, :, :2]
    return out


def _moved(placed: Placed, log_growth: Array, step: Array) -> tuple[Placed, Array]:
    moved = replace(
        placed,
        scale=placed.scale * np.exp(step[:, 6]),
        rotation=exp_so3(step[:, :3]) @ placed.rotation,
        translation=placed.translation + step[:, 3:6],
    )
    return moved, log_growth + step[:, 7]


def _diagonal(values: Array) -> csr_matrix:
    n = len(values)
    return csr_matrix((values, (np.arange(n), np.arange(n))), shape=(n, n))
