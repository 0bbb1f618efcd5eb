"""Symmetric positive systems of photos and cameras: an arrow whose shaft is sparse.

Photos only meet photos that see the same points; shared cameras meet everyone and come last, as a border. Three ways,
the cheapest by count of operations: a dense factorisation; a banded one, photos ordered so that those that meet are
near each other; and conjugate gradients where both would take seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cho_solve_banded, cholesky_banded
from scipy.sparse import bsr_matrix, coo_matrix
from scipy.sparse.csgraph import reverse_cuthill_mckee

Array = NDArray[np.float64]
Index = NDArray[np.int64]

AFFORDABLE = 2e10
"""Multiplications that a factorisation may take; half a second or so."""

PRECISION = 1e-3
"""Share of the right side that conjugate gradients may leave: steps are damped and repeated anyway."""


@dataclass(frozen=True, eq=False)
class Plan:
    """How systems of one structure are solved."""

    way: Literal["dense", "banded", "gradients"]
    row: Index
    column: Index
    """(g,) of the blocks above the diagonal; those on it are zero."""
    place: Index
    """(c,) where each photo stands in the order that the factorisation uses."""
    width: int
    """Entries below the diagonal within the band."""


@dataclass(frozen=True, eq=False)
class Arrow:
    """The system."""

    diagonal: Array
    """(c, d, d)."""
    off: Array
    """(g, d, d) blocks above the diagonal, in the order of the plan."""
    border: Array
    """(c d, b)."""
    corner: Array
    """(b, b)."""


def plan(row: Index, column: Index, photos: int, size: int, border: int) -> Plan:
    """For blocks of `size` unknowns of so many photos, and a border of so many more."""
    n = photos * size
    graph = coo_matrix((np.ones(len(row), np.int8), (row, column)), shape=(photos, photos)).tocsr()
    order = reverse_cuthill_mckee((graph + graph.T).tocsr(), symmetric_mode=True)
    place = np.empty(photos, np.int64)
    place[order] = np.arange(photos)
    reach = int(np.abs(place[row] - place[column]).max(initial=0))
    width = size * (reach + 1) - 1
    dense = (n + border) ** 3 / 6.0
    # Right sides are solved for one by one, at the speed of memory.
    banded = 0.5 * n * (width + 30.0) ** 2 + 8.0 * border * n * width
    way: Literal["dense", "banded", "gradients"] = "dense" if dense <= banded else "banded"
    if min(dense, banded) > AFFORDABLE:
        way = "gradients"
    return Plan(way, row, column, place, width)


def solve(plan: Plan, arrow: Arrow, right: Array) -> Array | None:
    """The solution, or None where the system is not positive."""
    ways = {"dense": _dense, "banded": _banded, "gradients": _gradients}
    try:
        solution = ways[plan.way](plan, arrow, right)
    except LinAlgError:
        return None
    return solution if np.isfinite(solution).all() else None


def upper(plan: Plan, arrow: Arrow) -> Array:
    """The matrix, blocks below the diagonal left out."""
    c, d, _ = arrow.diagonal.shape
    n, whole = c * d, c * d + len(arrow.corner)
    out = np.zeros((whole, whole))
    photos = out.reshape(c, d, c, d) if n == whole else np.zeros((c, d, c, d))
    photos[np.arange(c), :, np.arange(c)] = arrow.diagonal
    photos[plan.row, :, plan.column] += arrow.off
    if n < whole:
        out[:n, :n] = photos.reshape(n, n)
        out[:n, n:] = arrow.border
        out[n:, n:] = arrow.corner
    return out


def _dense(plan: Plan, arrow: Arrow, right: Array) -> Array:
    # The transpose of the upper triangle is in the order that LAPACK works in.
    factor = cho_factor(upper(plan, arrow).T, lower=True, overwrite_a=True, check_finite=False)
    return np.asarray(cho_solve(factor, right, check_finite=False))


def _banded(plan: Plan, arrow: Arrow, right: Array) -> Array:
    c, d, _ = arrow.diagonal.shape
    n = c * d
    band = np.zeros((plan.width + 1, n))
    each = np.arange(d)
    for blocks, row, column in (
        (arrow.diagonal, plan.place, plan.place),
        (arrow.off, plan.place[plan.row], plan.place[plan.column]),
    ):
        i = (d * row)[:, None, None] + each[:, None]
        j = (d * column)[:, None, None] + each
        band[np.abs(i - j), np.minimum(i, j)] += blocks
    factor = cholesky_banded(band, overwrite_ab=True, lower=True, check_finite=False)
    moved = (d * plan.place[:, None] + each).ravel()
    sides = np.empty((n, 1 + arrow.border.shape[1]))
    sides[moved, 0], sides[moved, 1:] = right[:n], arrow.border
    solved = cho_solve_banded((factor, True), sides, check_finite=False)[moved]
    through = arrow.corner - arrow.border.T @ solved[:, 1:]
    cameras = cho_solve(cho_factor(through), right[n:] - arrow.border.T @ solved[:, 0]) if len(through) else right[n:]
    return np.concatenate([solved[:, 0] - solved[:, 1:] @ cameras, cameras])


def _gradients(plan: Plan, arrow: Arrow, right: Array, most: int = 200) -> Array:
    """Conjugate gradients, preconditioned by the blocks of the photos and the corner."""
    c, d, _ = arrow.diagonal.shape
    n = c * d
    row = np.concatenate([np.arange(c), plan.row, plan.column])
    column = np.concatenate([np.arange(c), plan.column, plan.row])
    blocks = np.concatenate([arrow.diagonal, arrow.off, arrow.off.transpose(0, 2, 1)])
    order = np.lexsort((column, row))
    starts = np.searchsorted(row[order], np.arange(c + 1))
    matrix = bsr_matrix((blocks[order], column[order], starts), shape=(n, n))
    inverse = np.linalg.inv(arrow.diagonal)
    corner = cho_factor(arrow.corner) if len(arrow.corner) else None

    def times(x: Array) -> Array:
        return np.concatenate([matrix @ x[:n] + arrow.border @ x[n:], arrow.border.T @ x[:n] + arrow.corner @ x[n:]])

    def preconditioned(x: Array) -> Array:
        photos = np.einsum("cij,cj->ci", inverse, x[:n].reshape(c, d)).ravel()
        return np.concatenate([photos, x[n:] if corner is None else cho_solve(corner, x[n:])])

    x, residual = np.zeros_like(right), right.copy()
    z = preconditioned(residual)
    direction, energy = z, float(residual @ z)
    target = PRECISION**2 * energy
    for _ in range(most):
        moved = times(direction)
        curvature = float(direction @ moved)
        if energy <= target or curvature <= 0.0:
            break
        x = x + energy / curvature * direction
        residual = residual - energy / curvature * moved
        z = preconditioned(residual)
        before, energy = energy, float(residual @ z)
        direction = z + energy / before * direction
    return x
