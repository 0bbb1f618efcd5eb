"""Which verified pairs are evidence about rotations, and by which of their poses."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from flat_worlds import INTRINSICS, MODELS, PHOTOS, Wall

from unposed.optim.bundle.intrinsics import Intrinsics, intrinsics_with_priors
from unposed.optim.doppelgangers.hypothesis import joined_otherwise, left_out_pairs
from unposed.optim.doppelgangers.options import DoppelgangerOptions
from unposed.optim.doppelgangers.relative_rotations import RotationEvidence, searched_relative_rotations
from unposed.optim.doppelgangers.search import SearchResult
from unposed.optim.rotations import rotation_angle_deg
from unposed.optim.view_graph import ViewGraph

OPTIONS = DoppelgangerOptions()


def evidence(
    graph: ViewGraph, intrinsics: Intrinsics, *, planar: bool, options: DoppelgangerOptions = OPTIONS
) -> tuple[RotationEvidence, SearchResult]:
    found, result = searched_relative_rotations(
        graph,
        intrinsics,
        ["given"] * len(intrinsics.values),
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
    found, result = evidence(graph, world.initial_intrinsics(), planar=False)
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

    assert joined_otherwise(result.best, found.divided.pairs).all()
    lonely = graph.select((graph.pairs != graph.pairs[edge, 0]).all(axis=1) | (np.arange(len(graph)) == edge))
    found, result = evidence(lonely, world.initial_intrinsics(), planar=False)
    assert np.array_equal(found.divided.pairs, pair)
    assert not joined_otherwise(result.best, found.divided.pairs).any()
