"""Centres and points from rays of known direction: exact where the rays are, and what noise and lies cost."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import unposed.optim.mapping.global_positioning as positioning
from unposed.optim.mapping.global_positioning import GlobalPositioningOptions, GlobalPositions, solve_global_positions
from unposed.optim.similarity import fit_similarity


class Rays:
    """Cameras that each see a part of the points around the origin."""

    def __init__(self, shape: str, seed: int = 0, noise_deg: float = 0.0, wrong: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        turn = np.linspace(0.0, 2.0 * np.pi, 16, endpoint=False)
        self.centres = {
            "ring": np.column_stack([6 * np.cos(turn), rng.uniform(-0.3, 0.3, 16), 6 * np.sin(turn)]),
            "line": np.column_stack([np.linspace(-5, 5, 16), np.zeros(16), np.full(16, -6.0)]),
            "grid": np.column_stack([np.repeat(np.arange(4.0), 4), np.tile(np.arange(4.0), 4), np.full(16, -5.0)]),
        }[shape]
        self.points = rng.uniform(-2, 2, (150, 3))
        seen = rng.random((150, 16)) < 0.4
        seen[seen.sum(axis=1) < 3, :3] = True
        self.point, self.camera = np.nonzero(seen)
        rays = self.points[self.point] - self.centres[self.camera]
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        rays += np.radians(noise_deg) * rng.standard_normal(rays.shape)
        lies = rng.random(len(rays)) < wrong
        rays[lies] = rng.standard_normal((lies.sum(), 3))
        self.rays = rays / np.linalg.norm(rays, axis=1, keepdims=True)

    def solve(self, seed: int = 0, **options: Any) -> GlobalPositions:
        settings = GlobalPositioningOptions(**options)
        return solve_global_positions(self.rays, self.camera, self.point, 16, 150, options=settings, seed=seed)

    def error(self, found: GlobalPositions) -> float:
        """Largest error of a centre after the best similarity, by the extent of the cameras."""
        fitted = fit_similarity(found.centres, self.centres)(found.centres)
        return float(np.linalg.norm(fitted - self.centres, axis=1).max() / np.ptp(self.centres, axis=0).max())


@pytest.mark.parametrize("shape", ["ring", "line", "grid"])
@pytest.mark.parametrize("seed", range(3))
def test_perfect_rays_give_perfect_centres(shape: str, seed: int) -> None:
    world = Rays(shape, seed)
    found = world.solve(seed=seed)
    assert world.error(found) < 1e-6
    assert found.cost < 1e-12
    joined = np.concatenate([found.centres, found.points])
    target = np.concatenate([world.centres, world.points])
    np.testing.assert_allclose(fit_similarity(joined, target)(joined), target, atol=1e-4)


@pytest.mark.parametrize("shape", ["ring", "line", "grid"])
def test_noisy_rays(shape: str) -> None:
    world = Rays(shape, noise_deg=0.2)
    assert world.error(world.solve()) < 0.01


@pytest.mark.parametrize(("shape", "usual", "tight"), [("ring", 0.03, 0.01), ("line", 0.1, 0.01), ("grid", 0.25, 0.05)])
def test_noisy_rays_and_every_tenth_a_lie(shape: str, usual: float, tight: float) -> None:
    """Good enough for an adjustment to start from; a loss closer to the noise hears the lies less."""
    world = Rays(shape, noise_deg=0.2, wrong=0.1)
    assert world.error(world.solve()) < usual
    assert world.error(world.solve(huber=0.02, starts=4)) < tight


def test_a_bad_ray_costs_no_more_than_promised() -> None:
    """Two cameras that look away from each other and from all they share: no depth explains any of it."""
    rays = np.array([[0.0, 0, 1], [0, 0, -1]] * 20)
    few = GlobalPositioningOptions(max_iterations=3)
    found = solve_global_positions(rays, np.tile([0, 1], 20), np.repeat(np.arange(20), 2), 2, 20, options=few)
    assert 0.0 <= found.cost <= 0.1 - 0.5 * 0.1**2 + 1e-12


def test_the_same_input_gives_the_same_bits() -> None:
    world = Rays("ring", noise_deg=0.2, wrong=0.1)
    first, second = world.solve(seed=4), world.solve(seed=4)
    assert first.centres.tobytes() == second.centres.tobytes()
    assert first.points.tobytes() == second.points.tobytes()
    assert first.centres.tobytes() != world.solve(seed=5).centres.tobytes()


def test_observations_come_in_any_order() -> None:
    world = Rays("ring")
    order = np.random.default_rng(0).permutation(len(world.rays))
    world.rays, world.camera, world.point = world.rays[order], world.camera[order], world.point[order]
    assert world.error(world.solve()) < 1e-6


def test_a_step_that_cannot_be_solved_is_taken_more_carefully(monkeypatch: pytest.MonkeyPatch) -> None:
    solve, calls = positioning.solve_arrowhead, []

    def moody(*args: Any) -> Any:
        calls.append(1)
        return None if len(calls) % 3 == 1 else solve(*args)

    monkeypatch.setattr(positioning, "solve_arrowhead", moody)
    world = Rays("ring")
    assert world.error(world.solve()) < 1e-6


def test_points_that_a_camera_sees_twice() -> None:
    world = Rays("ring")
    again = np.arange(0, len(world.rays), 7)
    world.rays = np.concatenate([world.rays, world.rays[again]])
    world.camera = np.concatenate([world.camera, world.camera[again]])
    world.point = np.concatenate([world.point, world.point[again]])
    assert world.error(world.solve()) < 1e-6


@pytest.mark.parametrize("change", [{"huber": 0.02}, {"max_iterations": 3}, {"tolerance": 0.1}])
def test_every_option_changes_the_solution(change: dict[str, Any]) -> None:
    world = Rays("ring", noise_deg=0.2, wrong=0.05)
    changed, default = world.solve(**change), world.solve()
    assert changed.centres.tobytes() != default.centres.tobytes()


def test_one_start_is_made_where_one_is_allowed() -> None:
    world = Rays("grid", noise_deg=0.2, wrong=0.1)
    costs = [world.solve(starts=starts, good_cost=0.0, same_cost_ratio=1.0).cost for starts in (1, 6)]
    assert costs[1] < costs[0]
    assert world.solve(starts=6, good_cost=1.0).cost == costs[0]


def test_a_solution_that_is_found_twice_is_not_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs 3, 2, 2.01: the least has been found twice, and the fourth start is not made."""
    made: list[float] = []

    def descended(problem: Any, state: Any, options: GlobalPositioningOptions) -> GlobalPositions:
        made.append([3.0, 2.0, 2.01, 1.0][len(made)])
        return GlobalPositions(np.zeros((16, 3)), np.zeros((150, 3)), made[-1])

    monkeypatch.setattr(positioning, "_descend", descended)
    assert Rays("ring").solve(starts=4).cost == 2.0
    assert len(made) == 3
    made.clear()
    assert Rays("ring").solve(starts=4, same_cost_ratio=1.001).cost == 1.0


def test_few_cameras_are_compared_with_a_random_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A descent that stays where it started ends in a worse solution, which a lax bound of the cost accepts."""
    world = Rays("ring", noise_deg=0.5)
    wrong = world.centres[::-1] @ np.diag([1.0, -1.0, 2.0]), -world.points
    descend, descents = positioning._descend, []

    def stuck_at_first(problem: Any, state: Any, options: GlobalPositioningOptions) -> GlobalPositions:
        descents.append(state)
        return descend(problem, state, replace(options, max_iterations=1) if len(descents) == 1 else options)

    monkeypatch.setattr(positioning, "_descend", stuck_at_first)

    def solve(compared_cameras: int) -> GlobalPositions:
        descents.clear()
        options = GlobalPositioningOptions(compared_cameras=compared_cameras, good_cost=1.0)
        return solve_global_positions(world.rays, world.camera, world.point, 16, 150, start=wrong, options=options)

    alone = solve(15)
    assert len(descents) == 1
    compared = solve(16)
    assert len(descents) == 2
    assert compared.cost < 0.5 * alone.cost
    assert world.error(compared) < 0.05 < world.error(alone)
