"""Other poses of planar pairs that alone join two parts of a collection."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from worlds import look_at_origin

from unposed.optim.bundle.problem import Bundle
from unposed.optim.cameras import project
from unposed.optim.mapping.global_mapper import map_component
from unposed.optim.mapping.pose_alternatives import PoseAlternativeOptions, propose_alternatives
from unposed.optim.rotations import exp_so3, rotation_angle_deg
from unposed.optim.view_graph import KINDS, Keypoints, ViewGraph, build_view_graph

INTRINSICS = np.array([[1500.0, 1500.0, 800.0, 600.0, 0.0, 0.0, 0.0, 0.0]])
PHOTOS, SIDE = 6, 3
"""Photos 0 to 2 see one cloud of points, 3 to 5 another one, and all of them a plane."""


@pytest.fixture
def parts() -> tuple[ViewGraph, Bundle]:
    """Two parts joined by pairs that see a plane only, and the true cameras."""
    rng = np.random.default_rng(1)
    turn = np.radians(np.linspace(-40.0, 40.0, PHOTOS))
    centres = 6.0 * np.column_stack([np.sin(turn), rng.uniform(-0.8, 0.8, PHOTOS), -np.cos(turn)])
    poses = np.array([look_at_origin(centre, 0.0) for centre in centres])
    plane = np.column_stack([rng.uniform(-0.8, 0.8, (40, 2)), np.zeros(40)])
    clouds = [rng.uniform(-0.8, 0.8, (90, 3)) for _ in range(2)]
    xy, start = [], [0]
    for photo, pose in enumerate(poses):
        points = np.concatenate([plane, clouds[photo >= SIDE]])
        pixel = project(points @ pose[:, :3].T + pose[:, 3], np.repeat(INTRINSICS, len(points), axis=0))
        xy.append(pixel + 0.3 * rng.standard_normal(pixel.shape))
        start.append(start[-1] + len(points))
    pairs = [(a, b) for a in range(PHOTOS) for b in range(a + 1, PHOTOS)]
    common = [130 if (a < SIDE) == (b < SIDE) else 40 for a, b in pairs]
    rows = [[np.arange(n) + start[pair[side]] for pair, n in zip(pairs, common, strict=True)] for side in (0, 1)]
    kind = [KINDS.index("general" if n == 130 else "planar") for n in common]
    size = np.full((PHOTOS, 2), (1600, 1200))
    graph = build_view_graph(
        Keypoints(np.concatenate(xy), np.array(start), size),
        np.array(pairs),
        np.array(common),
        *map(np.concatenate, rows),
        kind=np.array(kind),
    )
    none = np.zeros(0, np.int64)
    camera = np.zeros(PHOTOS, np.int64)
    truth = Bundle(("SIMPLE_RADIAL",), INTRINSICS, camera, poses, np.zeros((0, 3)), np.zeros((0, 2)), none, none, none)
    return graph, truth


def turned(truth: Bundle, deg: float) -> Bundle:
    """The truth with the second part turned."""
    poses = truth.cam_from_world.copy()
    poses[SIDE:, :, :3] = poses[SIDE:, :, :3] @ exp_so3(np.array([[0.0, np.radians(deg), 0.0]]))[0]
    return replace(truth, cam_from_world=poses)


def test_a_part_that_is_turned_gets_its_true_poses_proposed(parts: tuple[ViewGraph, Bundle]) -> None:
    graph, truth = parts
    (proposal,) = propose_alternatives(graph, turned(truth, 45.0), 1.0)
    assert proposal.photos == SIDE
    assert len(proposal.poses) >= 5
    for edge, pose in proposal.poses.items():
        a, b = graph.pairs[edge]
        true = truth.cam_from_world[b, :, :3] @ truth.cam_from_world[a, :, :3].T
        assert rotation_angle_deg(pose[:, :3] @ true.T) < 3.0


def test_nothing_is_proposed_where_certain_pairs_connect_all(parts: tuple[ViewGraph, Bundle]) -> None:
    graph, truth = parts
    certain = replace(graph, kind=np.zeros(len(graph), np.int8))
    options = PoseAlternativeOptions(certain_matches=30)
    assert propose_alternatives(certain, turned(truth, 45.0), 1.0, options) == []
    assert propose_alternatives(graph, turned(truth, 45.0), 1.0, PoseAlternativeOptions(min_part_share=0.6)) == []


def test_given_poses_replace_estimated_ones(collection: Callable[..., Any]) -> None:
    """A pair whose given pose is turned by 60 degrees is inconsistent with the averaged rotations, and it alone."""
    world = collection(photos=5, noise_px=0.3)
    a, b = world.graph.pairs[2]
    rotation = world.cam_from_world[b, :, :3] @ world.cam_from_world[a, :, :3].T
    baseline = world.cam_from_world[b, :, 3] - rotation @ world.cam_from_world[a, :, 3]
    wrong = exp_so3(np.array([[0.0, np.radians(60.0), 0.0]]))[0] @ rotation
    poses = {2: np.column_stack([wrong, baseline / np.linalg.norm(baseline)])}
    model = map_component(world.graph, None, world.initial_intrinsics(), keypoint_error_px=1.0, poses=poses)
    assert model is not None
    assert np.flatnonzero(model.edge_residual_deg > 40.0).tolist() == [2]
    assert 2 not in model.edges
