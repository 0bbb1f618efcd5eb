"""Global positioning: positions of cameras and points, rotations given.

Every observation is a ray of known direction `v` (unit, world frame) from a camera centre C to a point X. We minimise

    sum rho(|v - d (X - C)|)    over centres, points and one inverse depth d > 0 per observation.

The residual is at most 1 for points behind the camera, and a distant point costs no more than a near one: so the
problem can be solved from rough starts, even random ones, from which a reprojection error would not converge. It is
solved from the linear solution of `initial_positions`, where there is one, since random starts of long walks unfold
slowly or not at all.

Levenberg-Marquardt with the inverse depths eliminated analytically and the points by a Schur complement, which leaves
3 unknowns per camera. After each step the inverse depths are set to their optimum (variable projection), without which
most steps are rejected. No step depends on thread timing: the same input gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ..arrays import Array, Index
from ..bundle.arrowhead import ArrowheadSystem, SolvePlan, plan_solve, solve_arrowhead
from ..bundle.block_products import CovisiblePairs, pairs_within
from ..bundle.packed_cholesky import inverse_cholesky, multiply_lower, multiply_lower_transposed
from ..bundle.segment_sums import row_sums
from ..option_ranges import Count, Positive, Within

MIN_INVERSE_DEPTH = 1e-6
"""Keeps inverse depths positive, where the median is about 1."""

MIN_KNOWN = 0.5
"""Least share of the cameras with an initial position for a start to be worth a descent."""

UPPER = (0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)
"""Rows and columns of the six numbers that make up a symmetric 3 x 3 matrix."""

DIAGONAL = [0, 3, 5]
FULL = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])
"""Which of the six are on the diagonal, and the place of each in the full matrix."""


@dataclass(frozen=True)
class GlobalPositioningOptions:
    """Robust loss and restarts of global positioning."""

    huber: Positive = 0.1
    """Residual at which the Huber loss becomes linear, without unit: about the sine of the angle between ray and point
    direction, here 6 degrees, since averaged rotations are off by a degree or two."""
    starts: Count = 3
    """Random starts, at most, where the linear solution does not lead to a good one."""
    good_cost: Annotated[float, Within("[0, inf)")] = 2e-3
    """Mean cost per observation below which no other start is made: correct solutions end well below."""
    compared_cameras: Annotated[int, Within("[0, inf)")] = 100
    """Up to so many cameras, a random start is made and the better solution taken, however good the linear one is:
    either may end in a worse minimum where rotations are off, at a cost that shows it in comparison only. Random starts
    of more cameras take long and unfold badly."""
    same_cost_ratio: Annotated[float, Within("[1, inf)")] = 1.01
    """No other start is made either once two have ended within this ratio of the least cost: it is the minimum that
    most starts lead to."""
    max_iterations: Count = 100
    """Levenberg-Marquardt steps per start."""
    tolerance: Positive = 1e-4
    """Relative decrease of the cost in one step at which a descent ends."""


@dataclass(frozen=True, eq=False)
class GlobalPositions:
    """A solution, determined up to scale and translation."""

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
    start: tuple[Array, Array] | None = None,
    options: GlobalPositioningOptions | None = None,
    seed: int = 0,
) -> GlobalPositions:
    """Solve for positions, from `start` and then from random ones, until the best solution has a good cost.

    `rays` (m, 3) of the observations, whose cameras and points are `camera` and `point` (m,). `start` are centres and
    points (NaN where unknown), as of estimate_initial_positions.
    """
    options = options or GlobalPositioningOptions()
    rng = np.random.default_rng(seed)
    problem = _problem(rays, camera, point, cameras, options.huber)
    best: GlobalPositions | None = None
    costs: list[float] = []
    for number in range(options.starts + 1):
        if number == 0:
            state = None if start is None else _start_state(problem, *start, rng)
            if state is None:
                continue
        else:
            centres, there = rng.uniform(-1.0, 1.0, (cameras, 3)), rng.uniform(-1.0, 1.0, (points, 3))
            state = _State(np.ascontiguousarray(centres.T), np.ascontiguousarray(there.T), np.ones(len(rays)))
        found = _descend(problem, state, options)
        if best is None or found.cost < best.cost:
            best = found
        costs.append(found.cost)
        compared = number > 0 or cameras > options.compared_cameras
        again = sum(cost <= options.same_cost_ratio * best.cost for cost in costs) > 1
        if again or (compared and best.cost < options.good_cost):
            break
    assert best is not None  # a start is made at least once
    return best


@dataclass(frozen=True, eq=False)
class _Problem:
    """Observations and the structure of the normal equations, constant over all steps."""

    rays: Array
    """(3, m)."""
    camera: Index
    point: Index
    huber: float
    pairs: CovisiblePairs
    """Cameras that see the same point."""
    plan: SolvePlan


@dataclass(frozen=True, eq=False)
class _State:
    """The unknowns, components first: rows as long as the problem keep the arithmetic fast."""

    centres: Array
    """(3, c)."""
    points: Array
    """(3, p)."""
    inverse_depth: Array
    """(m,)."""


def _problem(rays: Array, camera: Index, point: Index, cameras: int, huber: float) -> _Problem:
    pairs = pairs_within(point, camera)
    other = pairs.row != pairs.column  # not so where a camera sees a point twice
    return _Problem(
        np.ascontiguousarray(rays.T),
        camera,
        point,
        huber,
        pairs,
        plan_solve(pairs.row[other], pairs.column[other], cameras, 3, 0),
    )


def _start_state(problem: _Problem, centres: Array, points: Array, rng: np.random.Generator) -> _State | None:
    """Centres and points scaled to a usual depth of 1; unknown ones begin anywhere. None where few are known."""
    known = np.isfinite(centres[:, 0])
    depth = np.linalg.norm(points[problem.point] - centres[problem.camera], axis=1)
    if known.sum() < MIN_KNOWN * len(known) or not np.isfinite(depth).any():
        return None
    scale, middle = 1.0 / max(float(np.nanmedian(depth)), 1e-12), np.median(centres[known], axis=0)
    spread = np.abs(scale * (centres[known] - middle)).max()
    centres, points = (
        np.where(np.isfinite(each), scale * (each - middle), rng.uniform(-spread, spread, each.shape))
        for each in (centres, points)
    )
    state = _State(np.ascontiguousarray(centres.T), np.ascontiguousarray(points.T), np.ones(len(problem.camera)))
    return _projected(problem, state)


def _descend(problem: _Problem, state: _State, options: GlobalPositioningOptions) -> GlobalPositions:
    damping = 1e-3
    residual, weight, cost = _evaluate(problem, state)
    for _ in range(options.max_iterations):
        trial = _stepped(problem, state, residual, weight, damping)
        if trial is not None:
            trial_residual, trial_weight, trial_cost = _evaluate(problem, trial)
        if trial is not None and trial_cost < cost:
            gain = (cost - trial_cost) / cost
            state, residual, weight, cost = trial, trial_residual, trial_weight, trial_cost
            damping = max(damping / 3.0, 1e-9)
            if gain < options.tolerance:
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
    """Take one damped Gauss-Newton step; None where the system cannot be solved."""
    camera, point = problem.camera, problem.point
    cameras, points = state.centres.shape[1], state.points.shape[1]
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
    root = inverse_cholesky(_damped(row_sums(point, points, block), damping))
    seen = multiply_lower(root.take(point, axis=1)[:, None], block[FULL])
    point_pull = multiply_lower(root, row_sums(point, points, gradient))
    taken = np.stack([_dot(seen[:, i], seen[:, j]) for i, j in UPPER])
    through = _dot(seen, point_pull.take(point, axis=1)[:, None])
    blocks = _damped(row_sums(camera, cameras, block), damping) - row_sums(camera, cameras, taken)
    right = row_sums(camera, cameras, gradient - through)

    rows = np.ascontiguousarray(seen.transpose(2, 0, 1))
    products = problem.pairs.sum_products(rows, rows)
    twice = problem.pairs.row == problem.pairs.column
    diagonal = blocks[FULL].transpose(2, 0, 1)
    np.subtract.at(diagonal, problem.pairs.row[twice], products[twice] + products[twice].transpose(0, 2, 1))
    size = right.size
    arrow = ArrowheadSystem(diagonal, -products[~twice], np.zeros((size, 0)), np.zeros((0, 0)))
    solution = solve_arrowhead(problem.plan, arrow, right.T.ravel())
    if solution is None:
        return None
    d_centres = solution.reshape(-1, 3).T
    carried = d_centres.take(camera, axis=1)
    back = row_sums(point, points, _dot(seen.transpose(1, 0, 2), carried[:, None])) - point_pull
    d_points = multiply_lower_transposed(root, back)
    moved = d_points.take(point, axis=1) - carried
    d_depth = -(g_depth + pull * _dot(offset, moved)) / h_depth
    depth = np.maximum(state.inverse_depth + d_depth, MIN_INVERSE_DEPTH)
    return _projected(problem, _State(state.centres + d_centres, state.points + d_points, depth))


def _projected(problem: _Problem, state: _State) -> _State:
    """The state with the best inverse depth of every point in front of its camera.

    Those behind keep theirs: the best one would be 0, and such a point would feel no pull to the front.
    """
    offset = _offsets(problem, state)
    along = _dot(problem.rays, offset)
    best = along / np.maximum(_dot(offset, offset), 1e-24)
    depth = np.where(along > 0.0, np.maximum(best, MIN_INVERSE_DEPTH), state.inverse_depth)
    return _State(state.centres, state.points, depth)


def _offsets(problem: _Problem, state: _State) -> Array:
    return state.points.take(problem.point, axis=1) - state.centres.take(problem.camera, axis=1)


def _dot(a: Array, b: Array) -> Array:
    """Dot products over the first axis, of length three."""
    product: Array = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return product


def _damped(triangles: Array, damping: float) -> Array:
    """Upper triangles (6, n) with damped diagonals, invertible also for cameras without observations."""
    out = triangles.copy()
    out[DIAGONAL] += damping * triangles[DIAGONAL].mean(axis=0) + 1e-12
    return out
