"""Solution of the reduced camera system, a bordered (arrowhead) block system

    [ A    B ] [ x ]   [ a ]
    [ B^T  C ] [ y ] = [ b ]

with a block-sparse A of all photos, coupled where they share points, a narrow dense border B of the shared cameras, and
their block C. Three methods, the cheapest by count of operations: dense Cholesky; banded Cholesky in tiles, photos in
reverse Cuthill-McKee order so that covisible ones are near each other; and preconditioned conjugate gradients where
both would take seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.sparse import bsr_matrix, coo_matrix
from scipy.sparse.csgraph import reverse_cuthill_mckee

from ..arrays import Array, Index
from .tiled_cholesky import tiled_cholesky

MAX_FACTORIZATION_COST = 5e9
"""Multiplications that a factorization may take, about a quarter of a second; beyond it conjugate gradients take over.
1,000 photos all around one object end at the same cost by either, to eleven digits."""

MAX_DENSE_UNKNOWNS = 1200
"""Up to so many unknowns a dense factorization takes half the time of one in tiles. Beyond it takes as long on one
thread, but only tiles use several."""

TILE_UNKNOWNS = 144
"""Sides of the tiles, about: 3,600 unknowns with a band of 540 take 58 to 65 ms by tiles of 72 to 144, and 75 and 83 by
those of 48 and 192."""

CG_TOLERANCE = 1e-3
"""Relative residual, in the norm of the preconditioner, at which conjugate gradients stop: a step of
Levenberg-Marquardt is damped and repeated anyway."""

CG_MAX_ITERATIONS = 200


@dataclass(frozen=True, eq=False)
class SolvePlan:
    """How all systems of one sparsity structure are solved."""

    method: Literal["dense", "banded", "conjugate gradients"]
    row: Index
    column: Index
    """(g,) places of the blocks of A above the diagonal that are not zero."""
    position: Index
    """(c,) position of each photo in the order of the banded factorization."""
    reach: int
    """Photos below the diagonal within the band, in that order."""


@dataclass(frozen=True, eq=False)
class ArrowheadSystem:
    """The symmetric positive definite matrix of the system."""

    diagonal: Array
    """(c, d, d) diagonal blocks of A."""
    off_diagonal: Array
    """(g, d, d) blocks of A above the diagonal, at the places of the plan."""
    border: Array
    """(c d, b) B."""
    corner: Array
    """(b, b) C."""


def plan_solve(row: Index, column: Index, photos: int, size: int, border: int) -> SolvePlan:
    """Choose a method for `photos` blocks of `size` unknowns, coupled at (row, column), with a border of width
    `border`."""
    n = photos * size
    graph = coo_matrix((np.ones(len(row), np.int8), (row, column)), shape=(photos, photos)).tocsr()
    order = reverse_cuthill_mckee((graph + graph.T).tocsr(), symmetric_mode=True)
    position = np.empty(photos, np.int64)
    position[order] = np.arange(photos)
    reach = int(np.abs(position[row] - position[column]).max(initial=0))
    bandwidth = size * (reach + 1) - 1
    dense = (n + border) ** 3 / 6.0
    # The columns of the border are solved for one by one, at the speed of memory: hence the factor.
    banded = 0.5 * n * (bandwidth + 30.0) ** 2 + 8.0 * border * n * bandwidth
    method: Literal["dense", "banded", "conjugate gradients"] = "banded"
    if min(dense, banded) > MAX_FACTORIZATION_COST:
        method = "conjugate gradients"
    elif dense <= banded and n + border <= MAX_DENSE_UNKNOWNS:
        method = "dense"
    return SolvePlan(method, row, column, position, reach)


def solve_arrowhead(plan: SolvePlan, system: ArrowheadSystem, right: Array) -> Array | None:
    """Solve for [x, y] with the right side [a, b]; None where the matrix is not positive definite."""
    solvers = {"dense": _solve_dense, "banded": _solve_banded, "conjugate gradients": _solve_conjugate_gradients}
    try:
        solution = solvers[plan.method](plan, system, right)
    except LinAlgError:
        return None
    return solution if np.isfinite(solution).all() else None


def dense_upper_triangle(plan: SolvePlan, system: ArrowheadSystem) -> Array:
    """The whole matrix without its blocks below the diagonal."""
    c, d, _ = system.diagonal.shape
    n, whole = c * d, c * d + len(system.corner)
    out = np.zeros((whole, whole))
    photos = out.reshape(c, d, c, d) if n == whole else np.zeros((c, d, c, d))
    photos[np.arange(c), :, np.arange(c)] = system.diagonal
    photos[plan.row, :, plan.column] += system.off_diagonal
    if n < whole:
        out[:n, :n] = photos.reshape(n, n)
        out[:n, n:] = system.border
        out[n:, n:] = system.corner
    return out


def _solve_dense(plan: SolvePlan, system: ArrowheadSystem, right: Array) -> Array:
    # The transpose of the upper triangle is in LAPACK's column-major order: no copy is made.
    factor = cho_factor(dense_upper_triangle(plan, system).T, lower=True, overwrite_a=True, check_finite=False)
    return np.asarray(cho_solve(factor, right, check_finite=False))


def _solve_banded(plan: SolvePlan, system: ArrowheadSystem, right: Array) -> Array:
    c, d, _ = system.diagonal.shape
    n = c * d
    tiles = _tiles(plan, system)
    at = (d * plan.position[:, None] + np.arange(d)).ravel()
    sides = np.zeros((len(tiles) * tiles.shape[2], 1 + system.border.shape[1]))
    sides[at, 0], sides[at, 1:] = right[:n], system.border
    solved = tiled_cholesky(tiles).solve(sides)[at]
    # y from the Schur complement C - B^T A^-1 B, then x.
    complement = system.corner - system.border.T @ solved[:, 1:]
    y = cho_solve(cho_factor(complement), right[n:] - system.border.T @ solved[:, 0]) if len(complement) else right[n:]
    return np.concatenate([solved[:, 0] - solved[:, 1:] @ y, y])


def _tiles(plan: SolvePlan, system: ArrowheadSystem) -> Array:
    """A as `tiled_cholesky` takes it, photos in the order of the plan; ones on the diagonal fill up the last tile."""
    c, d, _ = system.diagonal.shape
    side = max(1, TILE_UNKNOWNS // d)
    count = -(-c // side)
    width = min(count, -(-plan.reach // side) + 1)
    out = np.zeros((count, width, side, d, side, d))
    row, column = plan.position[plan.row], plan.position[plan.column]
    above = (row < column)[:, None, None]
    blocks = np.where(above, system.off_diagonal.transpose(0, 2, 1), system.off_diagonal)
    row, column = np.maximum(row, column), np.minimum(row, column)
    out[row // side, row // side - column // side, row % side, :, column % side, :] = blocks
    here, place = np.divmod(plan.position, side)
    out[here, 0, place, :, place, :] = system.diagonal  # the last: blocks of a photo with itself are zero above
    empty = np.arange(c, count * side) % side
    out[-1, 0, empty, :, empty, :] = np.eye(d)
    return out.reshape(count, width, side * d, side * d)


def _solve_conjugate_gradients(plan: SolvePlan, system: ArrowheadSystem, right: Array) -> Array:
    """Preconditioned by the diagonal blocks of A and by C."""
    c, d, _ = system.diagonal.shape
    n = c * d
    row = np.concatenate([np.arange(c), plan.row, plan.column])
    column = np.concatenate([np.arange(c), plan.column, plan.row])
    blocks = np.concatenate([system.diagonal, system.off_diagonal, system.off_diagonal.transpose(0, 2, 1)])
    order = np.lexsort((column, row))
    starts = np.searchsorted(row[order], np.arange(c + 1))
    matrix = bsr_matrix((blocks[order], column[order], starts), shape=(n, n))
    inverse = np.linalg.inv(system.diagonal)
    corner = cho_factor(system.corner) if len(system.corner) else None

    def times(x: Array) -> Array:
        return np.concatenate([matrix @ x[:n] + system.border @ x[n:], system.border.T @ x[:n] + system.corner @ x[n:]])

    def preconditioned(x: Array) -> Array:
        photos = np.einsum("cij,cj->ci", inverse, x[:n].reshape(c, d)).ravel()
        return np.concatenate([photos, x[n:] if corner is None else cho_solve(corner, x[n:])])

    x, residual = np.zeros_like(right), right.copy()
    z = preconditioned(residual)
    direction, energy = z, float(residual @ z)
    target = CG_TOLERANCE**2 * energy
    for _ in range(CG_MAX_ITERATIONS):
        product = times(direction)
        curvature = float(direction @ product)
        if energy <= target or curvature <= 0.0:
            break
        x = x + energy / curvature * direction
        residual = residual - energy / curvature * product
        z = preconditioned(residual)
        before, energy = energy, float(residual @ z)
        direction = z + energy / before * direction
    return x
