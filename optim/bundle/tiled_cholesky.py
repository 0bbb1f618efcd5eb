"""Cholesky factorization of a symmetric positive definite band matrix in square tiles, on the threads that are lent.

With tiles A_ij of one size, column after column of them,

    L_kk L_kk^T = A_kk,    L_ik = A_ik L_kk^-T,    A_ij -= L_ik L_jk^T    for all j <= i below k

in which the products of a column are independent of each other. LAPACK's factorization of band matrices goes through
narrower columns on one thread. Sums have one order for any number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from ..arrays import Array
from ..parallel import chunk_map


@dataclass(frozen=True, eq=False)
class TiledCholesky:
    """The factor L."""

    tiles: Array
    """(n, w, s, s) tile [i, i - j] is L_ij; those on the diagonal are not read."""
    inverse: Array
    """(n, s, s) L_kk^-1."""

    def solve(self, sides: Array) -> Array:
        """(n s, r) solution for the right sides (n s, r)."""
        n, w, s, _ = self.tiles.shape
        x = sides.reshape(n, s, -1).copy()
        for k in range(n):
            x[k] = self.inverse[k] @ x[k]
            for i in range(k + 1, min(k + w, n)):
                x[i] -= self.tiles[i, i - k] @ x[k]
        for k in reversed(range(n)):
            for i in range(k + 1, min(k + w, n)):
                x[k] -= self.tiles[i, i - k].T @ x[i]
            x[k] = self.inverse[k].T @ x[k]
        return x.reshape(sides.shape)


def tiled_cholesky(tiles: Array) -> TiledCholesky:
    """Factorize a matrix in place, of which tile [i, i - j] of `tiles` (n, w, s, s) is A_ij, and zero where i < j.

    Raises LinAlgError where it is not positive definite. Tiles of zeros stay what they are, and take no time.
    """
    n, w, s, _ = tiles.shape
    inverse = np.empty((n, s, s))
    for k in range(n):
        inverse[k] = solve_triangular(np.linalg.cholesky(tiles[k, 0]), np.eye(s), lower=True, check_finite=False)
        below = [i for i in range(k + 1, min(k + w, n)) if tiles[i, i - k].any()]

        def finish(i: int, k: int = k) -> None:
            tiles[i, i - k] = tiles[i, i - k] @ inverse[k].T

        def update(pair: tuple[int, int], k: int = k) -> None:
            i, j = pair
            tiles[i, i - j] -= tiles[i, i - k] @ tiles[j, j - k].T

        chunk_map(finish, below)
        chunk_map(update, [(i, j) for i in below for j in below if j <= i])
    return TiledCholesky(tiles, inverse)
