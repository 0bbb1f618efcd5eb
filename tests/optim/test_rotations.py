"""Rotations against scipy and closed forms."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.spatial.transform import Rotation

from unposed.optim.rotations import (
    exp_so3,
    nearest_rotation,
    orthonormalised,
    rotation_angle_deg,
    rotation_residuals_deg,
    skew,
)


@pytest.mark.parametrize("angle_rad", [0.0, 1e-300, 1e-12, 1e-6, 0.1, 2.0, np.pi - 1e-9, np.pi, 5.0])
def test_the_exponential_map_is_that_of_scipy(angle_rad: float) -> None:
    axes = np.random.default_rng(0).standard_normal((20, 3))
    omega = angle_rad * axes / np.linalg.norm(axes, axis=1, keepdims=True)
    np.testing.assert_allclose(exp_so3(omega), Rotation.from_rotvec(omega).as_matrix(), rtol=0, atol=2e-15)


@pytest.mark.parametrize("angle_deg", [0.0, 1e-10, 1e-5, 1.0, 90.0, 179.9, 180.0 - 1e-5, 180.0])
def test_residuals_keep_their_digits(angle_deg: float) -> None:
    base = Rotation.random(2, random_state=0)
    disturbance = Rotation.from_rotvec(np.radians(angle_deg) * np.array([0.6, 0.0, 0.8]))
    b_from_a = (disturbance * base[1] * base[0].inv()).as_matrix()
    found = rotation_residuals_deg(np.array([[0, 1]]), b_from_a[None], base.as_matrix())
    np.testing.assert_allclose(found, angle_deg, rtol=0, atol=1e-12 if angle_deg < 1 else 1e-6)


def test_the_matrix_of_a_cross_product() -> None:
    v, x = np.random.default_rng(1).standard_normal((2, 5, 3))
    np.testing.assert_allclose(np.einsum("nij,nj->ni", skew(v), x), np.cross(v, x), atol=1e-15)


def turn(axis: int, degrees: float) -> np.ndarray:
    """Rotation about a coordinate axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.roll([[1, 0, 0], [0, c, -s], [0, s, c]], axis, axis=(0, 1)).astype(float)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [0.0, 1e-9, 1e-3, 45.0, 90.0, 179.9999999, 180.0])
def test_rotation_angle_keeps_all_digits(axis: int, degrees: float) -> None:
    assert rotation_angle_deg(turn(axis, degrees)) == pytest.approx(degrees, rel=1e-9, abs=1e-14)


@given(st.integers(0, 2**32 - 1))
def test_nearest_rotation_is_a_rotation_and_keeps_rotations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rotation = nearest_rotation(rng.standard_normal((5, 3, 3)))
    assert rotation @ np.swapaxes(rotation, 1, 2) == pytest.approx(np.broadcast_to(np.eye(3), (5, 3, 3)), abs=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(np.ones(5))
    assert nearest_rotation(rotation) == pytest.approx(rotation, abs=1e-12)
    assert nearest_rotation(3.0 * rotation) == pytest.approx(rotation, abs=1e-12)


def test_orthonormalised_takes_rounding_errors_away() -> None:
    rotation = exp_so3(np.random.default_rng(0).normal(size=(1, 3)))[0]
    off = rotation + 1e-6 * np.random.default_rng(1).normal(size=(3, 3))
    found = orthonormalised(off)
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-10)
    np.testing.assert_allclose(found, nearest_rotation(off), atol=1e-10)
