"""Arrowhead systems against numpy's dense solver."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.bundle import arrowhead
from unposed.optim.bundle.arrowhead import (
    ArrowheadSystem,
    SolvePlan,
    dense_upper_triangle,
    plan_solve,
    solve_arrowhead,
)


def made_up(photos: int, size: int, border: int, seed: int = 0) -> tuple[SolvePlan, ArrowheadSystem, np.ndarray]:
    """A chain of photos, each coupled to the next two, in shuffled order; and the same as a dense matrix."""
    rng = np.random.default_rng(seed)
    name = rng.permutation(photos)
    edges = [sorted((name[i], name[i + step])) for step in (1, 2) for i in range(photos - step)]
    row, column = np.array(sorted(edges)).T
    system = ArrowheadSystem(
        diagonal=np.tile(20.0 * np.eye(size), (photos, 1, 1)),
        off_diagonal=rng.standard_normal((len(row), size, size)),
        border=rng.standard_normal((photos * size, border)),
        corner=10.0 * photos * np.eye(border),
    )
    n = photos * size
    dense = np.zeros((n + border, n + border))
    for i in range(photos):
        dense[i * size : (i + 1) * size, i * size : (i + 1) * size] = system.diagonal[i]
    for i, j, block in zip(row, column, system.off_diagonal, strict=True):
        dense[i * size : (i + 1) * size, j * size : (j + 1) * size] = block
        dense[j * size : (j + 1) * size, i * size : (i + 1) * size] = block.T
    dense[:n, n:], dense[n:, :n], dense[n:, n:] = system.border, system.border.T, system.corner
    return plan_solve(row, column, photos, size, border), system, dense


@pytest.mark.parametrize("method", ["dense", "banded", "conjugate gradients"])
@pytest.mark.parametrize("border", [0, 4])
def test_every_method_solves_the_system(monkeypatch: pytest.MonkeyPatch, method: Any, border: int) -> None:
    monkeypatch.setattr(arrowhead, "CG_TOLERANCE", 1e-13)
    monkeypatch.setattr(arrowhead, "TILE_UNKNOWNS", 17)  # tiles of five photos, the last of two
    plan, system, dense = made_up(12, 3, border)
    right = np.random.default_rng(1).standard_normal(len(dense))
    found = solve_arrowhead(replace(plan, method=method), system, right)
    assert found is not None
    np.testing.assert_allclose(found, np.linalg.solve(dense, right), rtol=1e-9, atol=1e-10)


def test_the_dense_matrix_is_the_upper_triangle() -> None:
    plan, system, dense = made_up(6, 2, 3)
    np.testing.assert_array_equal(np.triu(dense_upper_triangle(plan, system)), np.triu(dense))


@pytest.mark.parametrize("method", ["dense", "banded"])
def test_a_matrix_that_is_not_positive_definite_has_no_solution(method: Any) -> None:
    plan, system, _ = made_up(6, 2, 0)
    system.diagonal[3] *= -1.0
    assert solve_arrowhead(replace(plan, method=method), system, np.ones(12)) is None


def test_long_chains_are_banded_and_huge_systems_iterative() -> None:
    chain = np.arange(499)
    plan = plan_solve(chain, chain + 1, 500, 6, 0)
    assert plan.method == "banded" and plan.reach == 1
    row, column = np.triu_indices(20, 1)
    assert plan_solve(row, column, 20, 6, 8).method == "dense"
    row, column = np.triu_indices(300, 1)
    assert plan_solve(row, column, 300, 6, 8).method == "banded", "in tiles, on all threads, though the band is full"
    row, column = np.triu_indices(1000, 1)
    assert plan_solve(row, column, 1000, 6, 8).method == "conjugate gradients"
