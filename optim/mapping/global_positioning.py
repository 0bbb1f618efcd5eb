"""Where the cameras stand and the points lie, once the rotations are known.

Every observation is a ray of known direction `v` (unit, world frame) from a camera centre C towards a point X. We
minimise sum rho(|v - d (X - C)|) over centres, points and one inverse depth d > 0 per observation. The residual
saturates at 1 for points behind the camera, and a distant point costs no more than a near one; that is what lets the
problem be solved from poor starts, where a reprojection error would not converge.

Levenberg-Marquardt with the inverse depths eliminated analytically, then the points, so that the system that is
solved has only 3 unknowns per camera. No step depends on thread timing: the same input gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ..bundle.arrowhead import ArrowheadSystem, SolvePlan, plan_solve, solve_arrowhead
from ..bundle.block_products import CovisiblePairs, pairs_within
from ..bundle.packed_cholesky import inverse_cholesky, multiply_lower, multiply_lower_transposed
from ..bundle.segment_sums import segment_matrix

Array = NDArray[np.float64]
Index = NDArray[np.int64]

UPPER = (0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)
"""Rows and columns of the six numbers that make up a symmetric matrix of three rows."""

DIAGONAL = [0, 3, 5]
FULL = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])
"""Which of the six stand on the diagonal, and where."""


@dataclass(frozen=True, eq=False)
class GlobalPositions:
    centres: Array
    """(c, 3) world."""
    points: Array
    """(p, 3) world."""
    cost: float
    """Mean robust cost per observation, 0 for perfect rays and at most about huber - huber**2 / 2."""


def solve_global_positions(
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
) -> GlobalPositions:
    """The first of a few random starts that ends at a good cost, else the best of them.

    `rays` (m, 3); `camera` and `point` (m,) say who looks at what.
    """
    rng = np.random.default_rng(seed)
    best: GlobalPositions | None = None
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


@dataclass(frozen=True, eq=False)
class _Problem:
    """What stays the same from step to step."""

    rays: Array
    """(3, m)."""
    camera: Index
    point: Index
    huber: float
    by_camera: csr_matrix
    by_point: csr_matrix
    """For sums over the observations of each."""
    pairs: CovisiblePairs
    """Cameras that see the same point."""
    plan: SolvePlan


@dataclass(frozen=True, eq=False)
class _State:
    """Components come first: rows as long as the problem keep the arithmetic fast."""

    centres: Array
    """(3, c)."""
    points: Array
    """(3, p)."""
    inverse_depth: Array
    """(m,)."""


def _descend(
    rays: Array, camera: Index, point: Index, centres: Array, points: Array, huber: float, max_iterations: int
) -> GlobalPositions:
    pairs = pairs_within(point, camera)
    other = pairs.row != pairs.column  # not so where a camera sees a point twice
    problem = _Problem(
        np.ascontiguousarray(rays.T),
        camera,
        point,
        huber,
        segment_matrix(camera, len(centres)),
        segment_matrix(point, len(points)),
        pairs,
        plan_solve(pairs.row[other], pairs.column[other], len(centres), 3, 0),
    )
    state = _State(np.ascontiguousarray(centres.T), np.ascontiguousarray(points.T), np.ones(len(rays)))
    damping = 1e-3
    residual, weight, cost = _evaluate(problem, state)
    for _ in range(max_iterations):
        trial = _stepped(problem, state, residual, weight, damping)
        if trial is not None:
            trial_residual, trial_weight, trial_cost = _evaluate(problem, trial)
        if trial is not None and trial_cost < cost:
            gain = (cost - trial_cost) / cost
            state, residual, weight, cost = trial, trial_residual, trial_weight, trial_cost
            damping = max(damping / 3.0, 1e-9)
            if gain < 1e-4:
                break
        else:
            damping *= 4.0
            if damping > 1e6:
                break
    return GlobalPositions(state.centres.T, state.points.T, float(cost))


def _evaluate(problem: _Problem, state: _State) -> tuple[Array, Array, float]:
    """(3, m) residuals, their weights, and the mean robust cost."""
    huber = problem.huber
    residual = problem.rays - state.inverse_depth * _offsets(problem, state)
    size = np.sqrt(_dot(residual, residual))
    far = size > huber
    weight = np.where(far, huber / np.maximum(size, 1e-12), 1.0)
    cost = np.where(far, huber * (size - 0.5 * huber), 0.5 * size**2).mean()
    return residual, weight, float(cost)


def _stepped(problem: _Problem, state: _State, residual: Array, weight: Array, damping: float) -> _State | None:
    """The state after one damped step, or None where the system cannot be solved."""
    camera, point = problem.camera, problem.point
    offset = _offsets(problem, state)
    # Inverse depth: one scalar per observation, eliminated in closed form. Damping is relative (Marquardt): the
    # depths of near and far points differ by orders of magnitude.
    pull = weight * state.inverse_depth
    h_depth = weight * _dot(offset, offset) * (1.0 + damping) + 1e-12
    g_depth = -weight * _dot(offset, residual)
    block = -(pull**2 / h_depth) * np.stack([offset[i] * offset[j] for i, j in UPPER])
    block[DIAGONAL] += pull * state.inverse_depth
    gradient = -pull * (residual + offset * (g_depth / h_depth))

    # Between a point and a camera stands -block; `seen` has it in the coordinates in which points are uncorrelated.
    root = inverse_cholesky(_damped(_sums(problem.by_point, block), damping))
    seen = multiply_lower(root.take(point, axis=1)[:, None], block[FULL])
    point_pull = multiply_lower(root, _sums(problem.by_point, gradient))
    taken = np.stack([_dot(seen[:, i], seen[:, j]) for i, j in UPPER])
    through = _dot(seen, point_pull.take(point, axis=1)[:, None])
    cameras = _damped(_sums(problem.by_camera, block), damping) - _sums(problem.by_camera, taken)
    right = _sums(problem.by_camera, gradient - through)

    rows = np.ascontiguousarray(seen.transpose(2, 0, 1))
    products = problem.pairs.sum_products(rows, rows)
    twice = problem.pairs.row == problem.pairs.column
    diagonal = cameras[FULL].transpose(2, 0, 1)
    np.subtract.at(diagonal, problem.pairs.row[twice], products[twice] + products[twice].transpose(0, 2, 1))
    size = right.size
    arrow = ArrowheadSystem(diagonal, -products[~twice], np.zeros((size, 0)), np.zeros((0, 0)))
    solution = solve_arrowhead(problem.plan, arrow, right.T.ravel())
    if solution is None:
        return None
    d_centres = solution.reshape(-1, 3).T
    carried = d_centres.take(camera, axis=1)
    back = _sums(problem.by_point, _dot(seen.transpose(1, 0, 2), carried[:, None])) - point_pull
    d_points = multiply_lower_transposed(root, back)
    moved = d_points.take(point, axis=1) - carried
    d_depth = -(g_depth + pull * _dot(offset, moved)) / h_depth
    return _State(state.centres + d_centres, state.points + d_points, np.maximum(state.inverse_depth + d_depth, 1e-6))


def _offsets(problem: _Problem, state: _State) -> Array:
    return state.points.take(problem.point, axis=1) - state.centres.take(problem.camera, axis=1)


def _dot(a: Array, b: Array) -> Array:
    """Sums of products over the first of the axes, which is three long."""
    product: Array = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return product


def _sums(selected: csr_matrix, values: Array) -> Array:
    """(k, n) sums of values (k, m)."""
    return np.ascontiguousarray((selected @ np.ascontiguousarray(values.T)).T)


def _damped(triangles: Array, damping: float) -> Array:
    """Upper triangles (6, n) with more on their diagonal, and invertible where nothing is seen."""
    out = triangles.copy()
    out[DIAGONAL] += damping * triangles[DIAGONAL].mean(axis=0) + 1e-12
    return out
