"""Poses carried from an initial model to a refined one."""

import numpy as np
import pytest

from unposed.optim.mapping.carried_poses import carried_poses
from unposed.optim.poses import camera_centres
from unposed.optim.rotations import exp_so3


def poses_on_a_line(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    rotation = exp_so3(0.3 * rng.standard_normal((count, 3)))
    centre = np.arange(count)[:, None] * [1.0, 0.5, 0.0]
    return np.concatenate([rotation, -np.einsum("nij,nj->ni", rotation, centre)[..., None]], axis=2)


def moved(poses: np.ndarray, scale: float, turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
    rotation = poses[:, :, :3] @ turn.T
    centre = scale * camera_centres(poses) @ turn.T + shift
    return np.concatenate([rotation, -np.einsum("nij,nj->ni", rotation, centre)[..., None]], axis=2)


def test_a_similarity_carries_exactly_though_all_cameras_are_on_a_line() -> None:
    before = poses_on_a_line(9)
    after = moved(before, 2.5, exp_so3(np.array([[0.4, -0.2, 1.0]]))[0], np.array([3.0, -1.0, 2.0]))
    known = after.copy()
    known[[2, 8]] = np.nan
    found = carried_poses(before, known, neighbours=4)
    np.testing.assert_allclose(found[[2, 8]], after[[2, 8]], atol=1e-12)
    assert np.isnan(found[[0, 1, 3, 4, 5, 6, 7]]).all()


def test_a_bent_model_carries_a_photo_with_its_surroundings() -> None:
    before = poses_on_a_line(20)
    bend = exp_so3(np.radians(2.0) * np.arange(20)[:, None] * [0.0, 0.0, 1.0])
    after = before.copy()
    after[:, :, :3] = before[:, :, :3] @ bend.transpose(0, 2, 1)
    known = after.copy()
    known[10] = np.nan
    apart = [np.linalg.norm(carried_poses(before, known, near)[10, :, :3] - after[10, :, :3]) for near in (2, 4, 19)]
    assert apart[0] < 1e-6 < apart[2]


@pytest.mark.parametrize("kept", [0, 1])
def test_fewer_than_two_photos_carry_nothing(kept: int) -> None:
    before = poses_on_a_line(3)
    after = np.full_like(before, np.nan)
    after[:kept] = before[:kept]
    assert np.isnan(carried_poses(before, after, neighbours=8)).all()


def test_photos_at_one_place_give_no_scale() -> None:
    before = np.tile(np.eye(3, 4), (4, 1, 1))
    after = before.copy()
    after[3] = np.nan
    assert np.isnan(carried_poses(before, after, neighbours=8)).all()
