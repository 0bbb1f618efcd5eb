"""Which verified pairs are evidence about rotations, and by which of their poses."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from flat_worlds import INTRINSICS, MODELS, PHOTOS, Wall
from worlds import look_at_origin

from unposed.optim.bundle.intrinsics import Intrinsics, intrinsics_with_priors
from unposed.optim.cameras import project
from unposed.optim.doppelgangers.hypothesis import left_out_pairs
from unposed.optim.doppelgangers.options import DoppelgangerOptions
from unposed.optim.doppelgangers.relative_rotations import RotationEvidence, searched_relative_rotations
from unposed.optim.doppelgangers.search import SearchResult
from unposed.optim.intrinsics_priors import FocalSource
from unposed.optim.mapping.spanning_forest import joined_otherwise
from unposed.optim.rotations import exp_so3, rotation_angle_deg
from unposed.optim.view_graph import Keypoints, ViewGraph, build_view_graph

OPTIONS = DoppelgangerOptions()


def evidence(
    graph: ViewGraph,
    intrinsics: Intrinsics,
    *,
    planar: bool,
    options: DoppelgangerOptions = OPTIONS,
    source: FocalSource = "given",
) -> tuple[RotationEvidence, SearchResult]:
    found, result = searched_relative_rotations(
        graph,
        intrinsics,
        [source] * len(intrinsics.values),
        planar=np.full(len(graph), planar),
        order=np.arange(graph.photo_count),
        keypoint_sigma_px=1.0,
        options=options,
    )
    assert result is not None
    return found, result


def test_wrong_poses_of_a_plane_are_no_doppelgangers() -> None:
    """Pairs with the other pose of their plane would be left out, though their matches are right."""
    wall = Wall(0.5)
    significant = replace(OPTIONS, min_cluster_matches=20.0)  # of 80 matches a pair, which count 0.3 each
    params = [[1500.0, 800.0, 600.0, 0.05]]
    sizes = np.array([[1600, 1200]])
    given = intrinsics_with_priors(MODELS, params, sizes, ["given"], np.zeros(PHOTOS, np.int64), 1.0)
    assert np.array_equal(given.values, INTRINSICS)
    off_deg, doubted = [], []
    for gain in (np.inf, OPTIONS.min_trial_gain):  # without the choice, and with it
        options = replace(significant, min_trial_gain=gain)
        found, result = evidence(wall.graph, given, planar=True, options=options)
        edges = found.edges
        off_deg.append(rotation_angle_deg(edges.b_from_a @ wall.true[:, :, :3].transpose(0, 2, 1)).max())
        doubted.append(int(left_out_pairs(edges, result.best, options).sum()))
    assert off_deg[0] > 20.0 and doubted[0] > 0
    assert off_deg[1] < 3.0 and doubted[1] == 0


def test_a_pair_of_which_a_pose_explains_half_the_matches_is_no_evidence(collection: Callable[..., Any]) -> None:
    """It can be spared where others join its photos, but not where it is the only one."""
    world = collection(photos=8, noise_px=0.5)
    graph, edge = world.graph, 0
    rows = graph.match_rows(edge)
    half = np.arange(rows.start, rows.stop)[::2]
    row_b = graph.row_b.copy()
    row_b[half] = np.roll(row_b[half], 1)
    graph = replace(graph, row_b=row_b)
    found, _ = evidence(graph, world.initial_intrinsics(), planar=False)
    pair = graph.pairs[edge : edge + 1]
    assert np.array_equal(found.divided.pairs, pair)
    assert len(found.edges.pairs) == len(graph) - 1
    assert not len(evidence(world.graph, world.initial_intrinsics(), planar=False)[0].divided.pairs)
    every, _ = evidence(
        graph,
        world.initial_intrinsics(),
        planar=False,
        options=replace(OPTIONS, min_pose_share=0.0),
    )
    assert len(every.edges.pairs) == len(graph)

    assert joined_otherwise(graph.photo_count, found.edges.pairs, found.divided.pairs).all()
    lonely = graph.select((graph.pairs != graph.pairs[edge, 0]).all(axis=1) | (np.arange(len(graph)) == edge))
    found, _ = evidence(lonely, world.initial_intrinsics(), planar=False)
    assert np.array_equal(found.divided.pairs, pair)
    assert not joined_otherwise(graph.photo_count, found.edges.pairs, found.divided.pairs).any()


DOUBLES = [[a, b] for a in (0, 1) for b in (8, 9)]


def world_with_doubles_in_its_corners() -> ViewGraph:
    """Ten photos of an object in the middle of each; the first two and the last two have a wide shell around it in
    common instead, which the last two show turned by 80 degrees."""
    rng, photos, points = np.random.default_rng(0), 10, 80
    poses = [
        look_at_origin(6.0 * np.array([np.sin(turn), rise, -np.cos(turn)]), rng.normal(0.0, 3.0))
        for turn, rise in zip(np.radians(np.linspace(-15.0, 15.0, photos)), rng.uniform(-0.2, 0.2, photos), strict=True)
    ]
    turned = exp_so3(np.radians([[0.0, 80.0, 0.0]]))[0]
    middle, shell = rng.uniform(-0.6, 0.6, (points, 3)), rng.standard_normal((points, 3))
    shell *= 3.0 / np.linalg.norm(shell, axis=1, keepdims=True)
    lens = np.repeat([[1500.0, 1500.0, 800.0, 600.0, 0.0, 0.0, 0.0, 0.0]], 2 * points, axis=0)
    xy = []
    for photo, pose in enumerate(poses):
        world = np.concatenate([middle, shell @ turned.T if photo >= 8 else shell])
        xy.append(project(world @ pose[:, :3].T + pose[:, 3], lens) + rng.normal(0.0, 0.3, (2 * points, 2)))
    start = 2 * points * np.arange(photos + 1)
    pairs = np.array(list(combinations(range(photos), 2)))
    is_double = np.array([pair in DOUBLES for pair in pairs.tolist()])
    first = start[pairs] + points * is_double[:, None]
    rows = [(first[:, side, None] + np.arange(points)).ravel() for side in (0, 1)]
    keypoints = Keypoints(np.concatenate(xy), start, np.full((photos, 2), (1600, 1200)))
    return build_view_graph(keypoints, pairs, np.full(len(pairs), points), *rows)


def test_trial_cameras_do_not_divide_the_pairs_that_contradict() -> None:
    """Distortion would divide just the doubles, whose matches lie in the corners, and all that is left would fit."""
    graph = world_with_doubles_in_its_corners()

    def cameras(k1: float) -> Intrinsics:
        params = [[1500.0, 800.0, 600.0, k1]]
        sizes = np.array([[1600, 1200]])
        return intrinsics_with_priors(MODELS, params, sizes, ["exif"], np.zeros(10, np.int64), 1.0)

    trial, _ = evidence(graph, cameras(min(OPTIONS.trial_distortions)), planar=False)
    assert trial.divided.pairs.tolist() == DOUBLES
    found, result = evidence(graph, cameras(0.0), planar=False, source="exif")
    assert found.initial[0].cost - trial.initial[0].cost > OPTIONS.min_trial_gain  # the trial would be taken
    assert len(found.edges.pairs) == len(graph)
    assert found.edges.pairs[left_out_pairs(found.edges, result.best, OPTIONS)].tolist() == DOUBLES
