"""The two poses that explain a plane, and the choice between them by triangles."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from worlds import look_at_origin

from unposed.optim.cameras import project
from unposed.optim.mapping.global_mapper import map_component
from unposed.optim.mapping.planar_ambiguity import PlanarAmbiguityOptions, resolve_planar_ambiguity
from unposed.optim.mapping.plane_poses import plane_poses
from unposed.optim.mapping.relative_poses import RelativePoses
from unposed.optim.rotations import exp_so3, rotation_angle_deg
from unposed.optim.view_graph import Keypoints, ViewGraph, build_view_graph

MODELS = ("SIMPLE_RADIAL",)
INTRINSICS = np.array([[1500.0, 1500.0, 800.0, 600.0, 0.05, 0.0, 0.0, 0.0]])
PHOTOS, POINTS = 8, 80


class Wall:
    """Photos from many sides of a wall, all of whose points lie in one plane; every pair is matched."""

    def __init__(self, noise_px: float, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        turn = np.radians(np.linspace(-45.0, 45.0, PHOTOS))
        centres = 5.0 * np.column_stack([np.sin(turn), rng.uniform(-1.5, 1.5, PHOTOS), -np.cos(turn)])
        self.poses = np.array([look_at_origin(centre, rng.normal(0.0, 5.0)) for centre in centres])
        points = np.column_stack([rng.uniform(-1.0, 1.0, (POINTS, 2)), np.zeros(POINTS)])
        xy = []
        for pose in self.poses:
            pixel = project(points @ pose[:, :3].T + pose[:, 3], np.repeat(INTRINSICS, POINTS, axis=0))
            xy.append(pixel + noise_px * rng.standard_normal(pixel.shape))
        pairs = np.array(list(combinations(range(PHOTOS), 2)))
        rows = [(POINTS * pairs[:, side, None] + np.arange(POINTS)).ravel() for side in (0, 1)]
        keypoints = Keypoints(np.concatenate(xy), POINTS * np.arange(PHOTOS + 1), np.full((PHOTOS, 2), (1600, 1200)))
        self.graph: ViewGraph = build_view_graph(keypoints, pairs, np.full(len(pairs), POINTS), *rows)
        a, b = pairs.T
        rotation = self.poses[b, :, :3] @ self.poses[a, :, :3].transpose(0, 2, 1)
        baseline = self.poses[b, :, 3] - np.einsum("eij,ej->ei", rotation, self.poses[a, :, 3])
        unit = baseline / np.linalg.norm(baseline, axis=1, keepdims=True)
        self.true = np.concatenate([rotation, unit[:, :, None]], axis=2)

    def both(self, edge: int) -> list[tuple[np.ndarray, float]]:
        """The poses of an edge, the one nearer to the truth first."""
        found = plane_poses(
            self.graph,
            MODELS,
            INTRINSICS,
            np.zeros(PHOTOS, int),
            edge,
            keypoint_error_px=1.0,
            max_error=4.0,
            min_inliers=10,
        )
        return sorted(found, key=lambda each: float(rotation_angle_deg(each[0][:, :3] @ self.true[edge, :, :3].T)))

    def resolved(self, b_from_a: np.ndarray, **options: Any) -> np.ndarray:
        """Errors of the rotations after the choice."""
        everyone = np.arange(len(self.graph))
        found = resolve_planar_ambiguity(
            self.graph,
            RelativePoses(everyone, b_from_a, np.full(len(everyone), float(POINTS))),
            MODELS,
            INTRINSICS,
            np.zeros(PHOTOS, int),
            keypoint_error_px=1.0,
            options=PlanarAmbiguityOptions(**options),
        )
        return np.asarray(rotation_angle_deg(found.b_from_a[:, :, :3] @ self.true[:, :, :3].transpose(0, 2, 1)))


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
