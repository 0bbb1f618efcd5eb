"""The two poses that explain a plane, and the choice between them by triangles."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import numpy as np
import poselib
import pytest
from flat_worlds import POINTS, Wall

from unposed.optim.mapping.global_mapper import map_component
from unposed.optim.mapping.plane_poses import plane_poses
from unposed.optim.rotations import exp_so3, rotation_angle_deg


@pytest.mark.parametrize(("noise_px", "bound"), [(0.0, 1e-3), (0.5, 2.5)])
def test_a_plane_has_the_true_pose_and_another_that_fits_as_well(noise_px: float, bound: float) -> None:
    wall = Wall(noise_px)
    apart = []
    for edge in range(len(wall.graph)):
        (pose, cost), (other, other_cost) = wall.both(edge)
        assert np.abs(pose - wall.true[edge])[:, :3].max() < np.radians(bound)
        assert pose[:, 3] @ wall.true[edge, :, 3] > 0.9  # forwards, not backwards
        assert abs(cost - other_cost) < 0.1
        apart.append(float(rotation_angle_deg(pose[:, :3] @ other[:, :3].T)))
    assert np.median(apart) > 15.0


def test_points_on_no_plane_have_no_pose_of_one(collection: Callable[..., Any]) -> None:
    world = collection(photos=4)
    intrinsics = world.initial_intrinsics()
    fixed = intrinsics.models, intrinsics.values, intrinsics.camera_of_photo
    assert plane_poses(world.graph, *fixed, 0, keypoint_error_px=0.5, max_error=2.0, min_inliers=60) == []


@pytest.mark.parametrize("noise_px", [0.0, 0.5])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.4])
def test_pairs_with_the_other_pose_get_the_true_one(noise_px: float, share: float) -> None:
    """Also where these are so many that whole photos hang on wrong ones."""
    wall = Wall(noise_px)
    wrong = np.random.default_rng(1).random(len(wall.graph)) < share
    start = np.array([wall.both(edge)[int(bad)][0] for edge, bad in enumerate(wrong)])
    before = rotation_angle_deg(start[:, :, :3] @ wall.true[:, :, :3].transpose(0, 2, 1))
    after = wall.resolved(start)
    assert after.max() < 2.0
    assert before.max() < 2.0 or share > 0.0
    assert np.array_equal(wall.resolved(start, rounds=0), before)


def test_an_opposite_baseline_is_not_refined_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A homography gives two poses with either sign of the baseline: two of four are refined, and none is lost."""
    refined = poselib.refine_relative_pose
    starts: list[Any] = []

    def counted(first: Any, second: Any, start: Any, *args: Any) -> Any:
        starts.append(start)
        return refined(first, second, start, *args)

    monkeypatch.setattr(poselib, "refine_relative_pose", counted)
    assert len(Wall(0.5).both(0)) == len(starts) == 2


def test_planes_that_are_known_are_not_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, planes = Wall(0.5), dict[int, Any]()
    start = np.array([wall.both(edge)[edge % 2][0] for edge in range(len(wall.graph))])
    first = wall.resolved(start, planes=planes)
    assert planes
    monkeypatch.setattr("unposed.optim.mapping.planar_ambiguity.plane_poses", Mock(side_effect=AssertionError))
    assert np.array_equal(wall.resolved(start, planes=planes), first)


def test_a_pair_without_a_triangle_keeps_its_pose() -> None:
    wall = Wall(0.0)
    wall.graph = wall.graph.select(np.isin(np.arange(len(wall.graph)), [0, 7, 13]))  # 0-1, 1-2, 2-3
    wall.true = wall.true[[0, 7, 13]]
    other = np.array([wall.both(edge)[1][0] for edge in range(3)])
    assert wall.resolved(other).min() > 1.0


def test_a_pair_of_another_place_is_not_turned_until_it_fits() -> None:
    """A pose that no plane of its matches explains stays: to be left out as inconsistent."""
    wall = Wall(0.3)
    start = wall.true.copy()
    start[3, :, :3] = exp_so3(np.array([[0.0, 0.0, np.radians(90.0)]]))[0] @ start[3, :, :3]
    xy = wall.graph.keypoints.xy.copy()
    xy[POINTS * wall.graph.pairs[3, 1] : POINTS * (wall.graph.pairs[3, 1] + 1)] = np.random.default_rng(0).uniform(
        0, 1200, (POINTS, 2)
    )
    wall.graph = replace(wall.graph, keypoints=replace(wall.graph.keypoints, xy=xy))
    assert wall.resolved(start)[3] > 80.0


def test_matches_that_contradict_the_pose_of_their_pair_join_no_tracks(collection: Callable[..., Any]) -> None:
    """Wrong matches that lead to one decoy in many photos make long tracks; long tracks are taken first."""
    world = collection(photos=8, noise_px=0.5, wrong=0.25, decoys=30)
    model = map_component(world.graph, None, world.initial_intrinsics(), keypoint_error_px=1.0)
    assert model is not None
    decoy = np.concatenate([point < 0 for point in world.point_of])
    assert np.mean(decoy[model.bundle.row]) < 0.02
    rotation = model.bundle.cam_from_world[:, :, :3]
    between = rotation[1:] @ rotation[:-1].transpose(0, 2, 1)
    true = world.cam_from_world[1:, :, :3] @ world.cam_from_world[:-1, :, :3].transpose(0, 2, 1)
    assert rotation_angle_deg(between @ true.transpose(0, 2, 1)).max() < 1.0
