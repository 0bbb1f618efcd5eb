"""Cholesky factorization in tiles against numpy's of the whole matrix."""

from __future__ import annotations

import numpy as np
import pytest

from unposed.optim.bundle.tiled_cholesky import tiled_cholesky
from unposed.optim.parallel import lent_threads


def band_matrix(n: int, width: int, side: int, empty: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Tiles (n, width, side, side) of a positive definite matrix, and the matrix; of every second tile below the
    diagonal nothing is there where some shall be empty."""
    rng = np.random.default_rng(n)
    tiles = np.zeros((n, width, side, side))
    whole = np.zeros((n, side, n, side))
    for i in range(n):
        for j in range(max(0, i - width + 1), i + 1):
            if empty and (i + j) % 2:
                continue
            block = rng.standard_normal((side, side))
            block = block + block.T + 8 * width * side * np.eye(side) if i == j else block
            tiles[i, i - j] = whole[i, :, j] = block
            whole[j, :, i] = block.T
    return tiles, whole.reshape(n * side, n * side)


@pytest.mark.parametrize(
    ("n", "width", "empty"), [(1, 1, False), (7, 1, False), (7, 3, False), (7, 7, False), (9, 4, True)]
)
def test_the_factor_and_its_solution(n: int, width: int, empty: bool) -> None:
    tiles, whole = band_matrix(n, width, 5, empty)
    sides = np.random.default_rng(1).standard_normal((n * 5, 3))
    factor = tiled_cholesky(tiles)
    np.testing.assert_allclose(factor.solve(sides), np.linalg.solve(whole, sides), rtol=1e-10, atol=1e-12)
    lower = np.linalg.cholesky(whole).reshape(n, 5, n, 5)
    for i in range(n):
        np.testing.assert_allclose(factor.inverse[i], np.linalg.inv(lower[i, :, i]), rtol=1e-9, atol=1e-12)
        for j in range(max(0, i - width + 1), i):
            np.testing.assert_allclose(factor.tiles[i, i - j], lower[i, :, j], rtol=1e-9, atol=1e-12)


def test_the_same_bytes_with_any_number_of_threads() -> None:
    found = []
    for threads in (1, 2, 7):
        with lent_threads(threads):
            factor = tiled_cholesky(band_matrix(8, 5, 6)[0])
        found.append(factor.tiles.tobytes() + factor.inverse.tobytes())
    assert found[0] == found[1] == found[2]


def test_a_matrix_that_is_not_positive_definite_is_refused() -> None:
    tiles, _ = band_matrix(4, 2, 3)
    tiles[2, 0] *= -1.0
    with pytest.raises(np.linalg.LinAlgError):
        tiled_cholesky(tiles)
