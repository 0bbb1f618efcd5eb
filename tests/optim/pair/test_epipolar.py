"""Two-view relations against points projected by hand."""

import numpy as np
import pytest

from unposed.optim.pair.epipolar import (
    cross_matrix,
    focal_deviation,
    fundamental_from_pose,
    ray_angles,
    sampson_errors,
)
from unposed.optim.similarity import nearest_rotation


def scene(rng, focal=900.0, points=200):
    """Points seen by two photos, from the principal point, and the pose that did it."""
    turn = nearest_rotation(np.eye(3) + 0.2 * cross_matrix(rng.normal(size=3)))
    move = rng.normal(size=3)
    pose = np.column_stack([turn, move / np.linalg.norm(move)])
    in_a = np.column_stack([rng.uniform(-2, 2, (points, 2)), rng.uniform(4, 9, points)])
    in_b = in_a @ turn.T + pose[:, 3]
    return in_a, in_b, focal * in_a[:, :2] / in_a[:, 2:], focal * in_b[:, :2] / in_b[:, 2:], pose


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_cross_matrix():
    a, b = np.array([1.0, 2.0, 3.0]), np.array([-2.0, 0.5, 1.0])
    np.testing.assert_allclose(cross_matrix(a) @ b, np.cross(a, b))


def test_true_matches_have_no_error(rng):
    _, _, a, b, pose = scene(rng)
    np.testing.assert_allclose(sampson_errors(fundamental_from_pose(pose, 900.0, 900.0), a, b), 0.0, atol=1e-9)


def test_sampson_error_is_the_distance_to_the_nearest_true_match(rng):
    _, _, a, b, pose = scene(rng)
    matrix = fundamental_from_pose(pose, 900.0, 900.0)
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


def test_focal_deviation_predicts_the_scatter_of_estimates(rng):
    """Refit pose and focal many times under fresh noise: their spread is what the formula says."""
    from scipy.optimize import least_squares

    _, _, a, b, pose = scene(rng, points=100)
    sideways = np.linalg.svd(pose[:, 3][None])[2][1:]

    def pose_of(step):
        turn = nearest_rotation(np.eye(3) + cross_matrix(step[:3])) @ pose[:, :3]
        return np.column_stack([turn, pose[:, 3] + step[3:5] @ sideways])

    logs, predicted = [], []
    for _ in range(30):
        noisy_a, noisy_b = a + rng.normal(0, 0.3, a.shape), b + rng.normal(0, 0.3, b.shape)

        def errors(step, noisy_a=noisy_a, noisy_b=noisy_b):
            focal = 900.0 * np.exp(step[5])
            return sampson_errors(fundamental_from_pose(pose_of(step), focal, focal), noisy_a, noisy_b)

        best = least_squares(errors, np.zeros(6)).x
        fitted = pose_of(best)
        fitted[:, 3] /= np.linalg.norm(fitted[:, 3])
        logs.append(best[5])
        predicted.append(focal_deviation(noisy_a, noisy_b, fitted, 900.0 * np.exp(best[5])))
    assert np.median(predicted) == pytest.approx(np.std(logs), rel=0.4)


def test_parallel_view_does_not_tell_the_focal(rng):
    """Sideways motion without turning: any focal length explains the matches."""
    in_a = np.column_stack([rng.uniform(-2, 2, (100, 2)), rng.uniform(4, 9, 100)])
    pose = np.column_stack([np.eye(3), [1.0, 0.0, 0.0]])
    in_b = in_a + pose[:, 3]
    a, b = (900.0 * p[:, :2] / p[:, 2:] + rng.normal(0, 0.3, (100, 2)) for p in (in_a, in_b))
    assert focal_deviation(a, b, pose, 900.0) > 0.5


def test_too_few_matches_do_not_tell_the_focal(rng):
    _, _, a, b, pose = scene(rng, points=6)
    assert focal_deviation(a, b, pose, 900.0) == np.inf
