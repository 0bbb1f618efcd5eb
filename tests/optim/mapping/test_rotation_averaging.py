"""Rotation averaging on rings of cameras whose rotations are known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from unposed.optim.mapping.rotation_averaging import average_rotations
from unposed.optim.rotations import nearest_rotation, rotation_angle_deg, rotation_residuals_deg


def ring(noise_deg: float, outliers: float, seed: int, photos: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True rotations of cameras around an object, the pairs of up to five steps apart, and what these measure."""
    rng = np.random.default_rng(seed)
    truth = Rotation.from_euler("yx", np.column_stack([np.arange(photos) * 18.0, rng.uniform(-20, 20, photos)]), True)
    pairs = np.array([(a, b) for a in range(photos) for b in range(a + 1, photos) if min(b - a, photos + a - b) <= 5])
    noise = Rotation.from_rotvec(np.radians(noise_deg) * rng.standard_normal((len(pairs), 3)))
    measured = noise * truth[pairs[:, 1]] * truth[pairs[:, 0]].inv()
    wrong = rng.permutation(len(pairs))[: round(outliers * len(pairs))]
    matrices = measured.as_matrix()
    matrices[wrong] = Rotation.random(len(wrong), random_state=seed).as_matrix()
    return truth.as_matrix(), pairs, matrices


def errors_deg(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """After the one rotation that a world frame leaves open."""
    turn = nearest_rotation(np.einsum("nji,njk->ik", found, truth))
    return rotation_angle_deg(found @ turn @ truth.transpose(0, 2, 1))


@pytest.mark.parametrize(
    ("noise_deg", "outliers", "bound_deg"), [(0.0, 0.0, 1e-4), (0.5, 0.0, 0.6), (0.0, 0.2, 1e-2), (0.5, 0.2, 0.8)]
)
@pytest.mark.parametrize("seed", range(2))
def test_averaging_a_ring(noise_deg: float, outliers: float, bound_deg: float, seed: int) -> None:
    truth, pairs, b_from_a = ring(noise_deg, outliers, seed)
    found = average_rotations(len(truth), pairs, b_from_a, np.full(len(pairs), 100.0))
    assert errors_deg(found, truth).max() < bound_deg
    residuals = rotation_residuals_deg(pairs, b_from_a, found)
    assert (residuals > 5.0).mean() == pytest.approx(outliers, abs=0.02)  # which is how wrong pairs are found out


def test_pairs_with_many_matches_count_for_more() -> None:
    """One pair of three disagrees with the other two: the light one has to give way."""
    truth = np.stack([np.eye(3)] * 3)
    pairs = np.array([[0, 1], [1, 2], [0, 2]])
    b_from_a = np.stack([np.eye(3), np.eye(3), Rotation.from_euler("y", 3.0, True).as_matrix()])
    light, heavy = (average_rotations(3, pairs, b_from_a, np.array([500.0, 500.0, w])) for w in (10.0, 500.0))
    assert errors_deg(light, truth).max() < 0.3 < errors_deg(heavy, truth).max()


def test_photos_without_a_pair_have_no_rotation() -> None:
    truth, pairs, b_from_a = ring(0.0, 0.0, 0)
    found = average_rotations(len(truth) + 2, pairs + 1, b_from_a, np.full(len(pairs), 100.0))
    assert np.isnan(found[[0, -1]]).all()
    assert errors_deg(found[1:-1], truth).max() < 1e-4
    assert np.isnan(rotation_residuals_deg(np.array([[0, 1]]), np.eye(3)[None], found)).all()


def test_the_same_input_gives_the_same_bits() -> None:
    truth, pairs, b_from_a = ring(0.5, 0.2, 0)
    first, second = (
        average_rotations(len(truth), pairs, b_from_a, np.full(len(pairs), 50.0)).tobytes() for _ in range(2)
    )
    assert first == second
