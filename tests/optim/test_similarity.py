"""Similarities against closed forms."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from unposed.optim.rotations import nearest_rotation
from unposed.optim.similarity import Similarity, direction_angle_deg, fit_similarity, flatness

SEEDS = st.integers(0, 2**32 - 1)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    return nearest_rotation(rng.standard_normal((3, 3)))


def test_direction_angles() -> None:
    a = np.array([[1.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3], [0, 0, 0]])
    b = np.array([[5.0, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, -1], [0, 0, 1]])
    assert direction_angle_deg(a, b) == pytest.approx([0, 45, 90, 180, 180])
    assert direction_angle_deg([1, 0, 0], [1, 1e-9, 0]) == pytest.approx(np.degrees(1e-9))


@given(SEEDS)
def test_exact_similarities_are_recovered(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = Similarity(float(rng.uniform(0.01, 100)), random_rotation(rng), rng.standard_normal(3) * 50)
    points = rng.standard_normal((8, 3))
    fitted = fit_similarity(points, true(points), rng.uniform(0.1, 3, 8))
    assert fitted.scale == pytest.approx(true.scale, rel=1e-9)
    assert fitted.rotation == pytest.approx(true.rotation, abs=1e-9)
    assert fitted.translation == pytest.approx(true.translation, rel=1e-9, abs=1e-8)


def test_a_mirrored_cloud_still_gives_a_rotation() -> None:
    rng = np.random.default_rng(5)
    points = rng.standard_normal((20, 3))
    fitted = fit_similarity(points, points * [1, 1, -1])
    assert np.linalg.det(fitted.rotation) == pytest.approx(1.0)


def test_the_fit_is_a_minimum() -> None:
    """Noisy points: no similarity nearby does better, whatever the weights."""
    rng = np.random.default_rng(2)
    source, target = rng.standard_normal((2, 12, 3))
    weight = rng.uniform(0, 1, 12)

    def cost(s: Similarity) -> float:
        return float(weight @ ((s(source) - target) ** 2).sum(axis=1))

    best = fit_similarity(source, target, weight)
    for _ in range(200):
        step = rng.standard_normal(7) * 0.02
        nearby = nearest_rotation(best.rotation + np.cross(step[:3], best.rotation, axisb=0, axisc=0))
        assert cost(Similarity(best.scale + step[3], nearby, best.translation + step[4:])) >= cost(best) - 1e-12


def test_weights_count_like_repeated_points() -> None:
    rng = np.random.default_rng(3)
    source, target = rng.standard_normal((2, 4, 3))
    times = np.array([1, 3, 2, 1])
    weighted = fit_similarity(source, target, times)
    repeated = fit_similarity(np.repeat(source, times, axis=0), np.repeat(target, times, axis=0))
    assert weighted.scale == pytest.approx(repeated.scale)
    assert weighted.rotation == pytest.approx(repeated.rotation)
    assert weighted.translation == pytest.approx(repeated.translation)


def test_coinciding_points_have_scale_one() -> None:
    fitted = fit_similarity(np.ones((3, 3)), np.full((3, 3), 4.0))
    assert fitted.scale == 1.0
    assert fitted([1, 1, 1]) == pytest.approx([4, 4, 4])


def test_flatness() -> None:
    assert flatness(np.outer(np.arange(5.0), [1, 2, 3])) == pytest.approx(0.0, abs=1e-12)
    assert flatness([[1, 0, 0], [-1, 0, 0], [0, 0.5, 0], [0, -0.5, 0]]) == pytest.approx(0.5)
    assert flatness(np.zeros((3, 3))) == 0.0
