"""Two-view relations against points projected by hand."""

import numpy as np
import pytest

from unposed.optim.pair.epipolar import ray_angles, sampson_errors
from unposed.optim.rotations import nearest_rotation, skew


def scene(rng, focal=900.0, points=200):
    """Points seen by two photos, from the principal point, and the pose that did it."""
    turn = nearest_rotation(np.eye(3) + 0.2 * skew(rng.normal(size=(1, 3)))[0])
    move = rng.normal(size=3)
    pose = np.column_stack([turn, move / np.linalg.norm(move)])
    in_a = np.column_stack([rng.uniform(-2, 2, (points, 2)), rng.uniform(4, 9, points)])
    in_b = in_a @ turn.T + pose[:, 3]
    return in_a, in_b, focal * in_a[:, :2] / in_a[:, 2:], focal * in_b[:, :2] / in_b[:, 2:], pose


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def fundamental(pose, focal):
    """With x_b^T F x_a = 0."""
    calibration = np.diag([1.0, 1.0, focal])
    return calibration @ skew(pose[None, :, 3])[0] @ pose[:, :3] @ calibration


def test_true_matches_have_no_error(rng):
    _, _, a, b, pose = scene(rng)
    np.testing.assert_allclose(sampson_errors(fundamental(pose, 900.0), a, b), 0.0, atol=1e-9)


def test_sampson_error_is_the_distance_to_the_nearest_true_match(rng):
    _, _, a, b, pose = scene(rng)
    matrix = fundamental(pose, 900.0)
    lines = np.column_stack([a, np.ones(len(a))]) @ matrix.T
    normal = lines[:, :2] / np.linalg.norm(lines[:, :2], axis=1, keepdims=True)
    # Off its line in b by 1 pixel, a match is at most that far from a true one, and less as both points may move.
    moved = np.abs(sampson_errors(matrix, a, b + normal))
    assert (moved < 1.0 + 1e-3).all()
    assert (moved > 0.3).all()
    np.testing.assert_allclose(np.abs(sampson_errors(matrix, a, b + 0.5 * normal)), moved / 2.0, rtol=0.02)


def test_ray_angles_are_triangulation_angles(rng):
    in_a, _, a, b, pose = scene(rng)
    centre_b = -pose[:, :3].T @ pose[:, 3]
    to_a, to_b = -in_a, centre_b - in_a
    cosine = np.sum(to_a * to_b, axis=1) / np.linalg.norm(to_a, axis=1) / np.linalg.norm(to_b, axis=1)
    np.testing.assert_allclose(ray_angles(a, b, pose[:, :3], 900.0, 900.0), np.arccos(cosine), atol=1e-7)


def test_small_angles_survive():
    a, b = np.array([[0.0, 3.0]]), np.array([[1e-8, 3.0]])
    assert ray_angles(a, b, np.eye(3), 4.0, 4.0)[0] == pytest.approx(1e-8 / 5.0, rel=1e-6)
