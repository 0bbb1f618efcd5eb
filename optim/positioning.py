"""Where the cameras stand and the points lie, once the rotations are known.

Every observation is a ray of known direction `v` (unit, world frame) from a camera centre C towards a point X. We
minimise sum rho(|v - d (X - C)|) over centres, points and one inverse depth d > 0 per observation. The residual
saturates at 1 for points behind the camera, and a distant point costs no more than a near one; that is what lets the
problem be solved from poor starts, where a reprojection error would not converge.

Levenberg-Marquardt with the inverse depths eliminated analytically, then the points, so that the system that is
factorised has only 3 unknowns per camera. No step depends on thread timing: the same input gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.sparse.linalg import splu

from .blocks import add_block_diagonal, block_diagonal, selection, sparse, sums

Array = NDArray[np.float64]
Index = NDArray[np.int64]

DENSE_LIMIT = 300
"""Cameras up to which a dense Cholesky beats the sparse factorisation."""


@dataclass(frozen=True, eq=False)
class Positions:
    centres: Array
    """(c, 3) world."""
    points: Array
    """(p, 3) world."""
    cost: float
    """Mean robust cost per observation, 0 for perfect rays and at most about huber - huber**2 / 2."""


def position(
    rays: Array,
    camera: Index,
    point: Index,
    cameras: int,
    points: int,
    *,
    seed: int = 0,
    huber: float = 0.1,
    starts: int = 3,
    good_cost: float = 2e-3,
    max_iterations: int = 100,
) -> Positions:
    """The first of a few random starts that ends at a good cost, else the best of them.

    `rays` (m, 3); `camera` and `point` (m,) say who looks at what.
    """
    rng = np.random.default_rng(seed)
    best: Positions | None = None
    for _ in range(starts):
        found = _descend(
            rays,
            camera,
            point,
            rng.uniform(-1.0, 1.0, (cameras, 3)),
            rng.uniform(-1.0, 1.0, (points, 3)),
            huber,
            max_iterations,
        )
        if best is None or found.cost < best.cost:
            best = found
        if best.cost < good_cost:
            break
    assert best is not None
    return best


def _descend(
    rays: Array, camera: Index, point: Index, centres: Array, points: Array, huber: float, max_iterations: int
) -> Positions:
    # Observations sorted by point: per-point sums become reduceat, several times faster than add.at.
    order = np.argsort(point, kind="stable")
    rays, camera, point = rays[order], camera[order], point[order]
    inverse_depth = np.ones(len(rays))
    damping = 1e-3
    state = (centres, points, inverse_depth)
    residual, weight, cost = _evaluate(rays, camera, point, *state, huber)
    for _ in range(max_iterations):
        try:
            step = _solve_step(camera, point, *state, residual, weight, damping)
        except (LinAlgError, RuntimeError):  # not positive; exactly singular
            damping *= 4.0
            continue
        trial = (state[0] + step[0], state[1] + step[1], np.maximum(state[2] + step[2], 1e-6))
        new_residual, new_weight, new_cost = _evaluate(rays, camera, point, *trial, huber)
        if new_cost < cost:
            gain = (cost - new_cost) / cost
            state, residual, weight, cost = trial, new_residual, new_weight, new_cost
            damping = max(damping / 3.0, 1e-9)
            if gain < 1e-4:
                break
        else:
            damping *= 4.0
            if damping > 1e6:
                break
    return Positions(state[0], state[1], float(cost))


def _evaluate(
    rays: Array, camera: Index, point: Index, centres: Array, points: Array, inverse_depth: Array, huber: float
) -> tuple[Array, Array, float]:
    residual = rays - inverse_depth[:, None] * (points[point] - centres[camera])
    size = np.linalg.norm(residual, axis=1)
    weight = np.where(size > huber, huber / np.maximum(size, 1e-12), 1.0)
    cost = np.where(size > huber, huber * (size - 0.5 * huber), 0.5 * size**2).mean()
    return residual, weight, float(cost)


def _solve_step(
    camera: Index,
    point: Index,
    centres: Array,
    points: Array,
    inverse_depth: Array,
    residual: Array,
    weight: Array,
    damping: float,
) -> tuple[Array, Array, Array]:
    c, p = len(centres), len(points)
    offset = points[point] - centres[camera]
    wd = weight * inverse_depth
    # Inverse depth: one scalar per observation, eliminated in closed form. Damping is relative (Marquardt): the
    # depths of near and far points differ by orders of magnitude.
    h_dd = weight * np.einsum("mi,mi->m", offset, offset) * (1.0 + damping) + 1e-12
    g_d = -weight * np.einsum("mi,mi->m", offset, residual)
    block = (wd * inverse_depth)[:, None, None] * np.eye(3)
    block -= (wd**2 / h_dd)[:, None, None] * offset[:, :, None] * offset[:, None, :]
    gradient = -wd[:, None] * (residual + offset * (g_d / h_dd)[:, None])

    starts = np.flatnonzero(np.diff(point, prepend=-1))
    h_points = np.add.reduceat(block, starts, axis=0)
    g_points = np.add.reduceat(gradient, starts, axis=0)
    scale = np.trace(h_points, axis1=1, axis2=2)[:, None, None] / 3.0
    h_points = h_points + (damping * scale + 1e-12) * np.eye(3)
    inverse_points = np.linalg.inv(h_points)

    by_camera = selection(camera, c)
    h_cameras = sums(by_camera, block)
    g_cameras = -sums(by_camera, gradient)
    scale = np.trace(h_cameras, axis1=1, axis2=2)[:, None, None] / 3.0
    h_cameras = h_cameras + (damping * scale + 1e-12) * np.eye(3)

    # Cross blocks are -block; rows are points here because observations are sorted by point.
    bounds = np.append(starts, len(camera))
    cross = sparse(-block, camera, bounds, c)
    weighted = sparse(inverse_points[point] @ -block, camera, bounds, c)
    reduced = -(cross.T @ weighted)
    rhs = -(g_cameras.ravel() - cross.T @ np.einsum("pij,pj->pi", inverse_points, g_points).ravel())
    if c <= DENSE_LIMIT:
        dense = reduced.toarray()
        add_block_diagonal(dense, h_cameras)
        d_centres = cho_solve(cho_factor(dense, check_finite=False), rhs, check_finite=False)
    else:
        d_centres = splu((reduced + block_diagonal(h_cameras)).tocsc()).solve(rhs)
    d_centres = d_centres.reshape(c, 3)
    back = g_points + (cross @ d_centres.ravel()).reshape(p, 3)
    d_points = -np.einsum("pij,pj->pi", inverse_points, back)
    moved = d_points[point] - d_centres[camera]
    d_depth = -(g_d + wd * np.einsum("mi,mi->m", offset, moved)) / h_dd
    return d_centres, d_points, d_depth
