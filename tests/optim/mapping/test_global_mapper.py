"""Relative poses, and whole reconstructions from one intrinsics."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.mapping.global_mapper import CoarseModel, GlobalMapperOptions, map_component
from unposed.optim.mapping.global_positioning import GlobalPositioningOptions
from unposed.optim.mapping.initial_positions import InitialPositionOptions
from unposed.optim.mapping.relative_poses import RelativePoseOptions, estimate_relative_poses
from unposed.optim.mapping.tracks import establish_tracks, spread_subset
from unposed.optim.rotations import rotation_angle_deg
from unposed.optim.similarity import direction_angle_deg
from unposed.optim.view_graph import Keypoints, ViewGraph, largest_component

Make = Callable[..., Any]


def mapped(world: Any, factor: float = 1.0, graph: ViewGraph | None = None, **options: Any) -> CoarseModel | None:
    graph = world.graph if graph is None else graph
    tracks = spread_subset(establish_tracks(graph.keypoints, *graph.matches()), graph.photo_count, 80)
    return map_component(graph, tracks, world.initial_intrinsics(factor), keypoint_error_px=1.0, **options)


def worst_deg(world: Any, found: CoarseModel | None) -> float:
    assert found is not None
    return float(np.nanmax(world.errors(found.bundle.cam_from_world).rotation_error_deg))


@pytest.mark.parametrize(("noise_px", "wrong", "bound_deg"), [(0.0, 0.0, 1e-3), (0.5, 0.0, 2.0), (0.5, 0.1, 2.0)])
def test_relative_poses(collection: Make, noise_px: float, wrong: float, bound_deg: float) -> None:
    world = collection(photos=5, noise_px=noise_px, wrong=wrong)
    intrinsics = world.initial_intrinsics()
    found = estimate_relative_poses(
        world.graph, intrinsics.models, intrinsics.values, intrinsics.camera_of_photo, max_error_px=2.0
    )
    a, b = world.graph.pairs[found.edge].T
    truth = world.cam_from_world
    rotation = truth[b, :, :3] @ truth[a, :, :3].transpose(0, 2, 1)
    baseline = truth[b, :, 3] - np.einsum("eij,ej->ei", rotation, truth[a, :, 3])
    off = rotation_angle_deg(found.b_from_a[:, :, :3] @ rotation.transpose(0, 2, 1))
    assert len(found.edge) == len(world.graph)
    assert np.median(off) < bound_deg
    assert np.median(direction_angle_deg(found.b_from_a[:, :, 3], baseline)) < 2.0 * bound_deg
    np.testing.assert_allclose(np.linalg.norm(found.b_from_a[:, :, 3], axis=1), 1.0)
    share = found.weight / world.graph.match_count[found.edge]
    assert share.mean() == pytest.approx(1.0 - wrong, abs=0.05)


def test_pairs_with_few_or_senseless_matches_have_no_pose(collection: Make) -> None:
    world = collection(photos=4)
    intrinsics = world.initial_intrinsics()
    shuffled = world.graph.row_b.copy()
    first = world.graph.match_rows(0)
    last = world.graph.keypoints.start[world.graph.pairs[0, 1] + 1] - 1
    shuffled[first] = last - np.arange(first.stop) % 100
    senseless = replace(world.graph, row_b=shuffled)
    options = (intrinsics.models, intrinsics.values, intrinsics.camera_of_photo)
    found = estimate_relative_poses(senseless, *options, max_error_px=1.0)
    assert 0 not in found.edge
    assert len(found.edge) == len(world.graph) - 1
    none = estimate_relative_poses(
        world.graph, *options, max_error_px=1.0, options=RelativePoseOptions(min_inliers=10**6)
    )
    assert none.b_from_a.shape == (0, 3, 4)


def test_large_pairs_are_thinned_evenly(collection: Make) -> None:
    world = collection(photos=2, sweep_deg=10.0, points=2000)
    intrinsics = world.initial_intrinsics()
    found = estimate_relative_poses(
        world.graph,
        intrinsics.models,
        intrinsics.values,
        intrinsics.camera_of_photo,
        max_error_px=1.0,
        options=RelativePoseOptions(max_matches=50),
    )
    assert world.graph.match_count[0] > 400
    assert found.weight[0] == pytest.approx(world.graph.match_count[0])  # stands for all of them


@pytest.mark.parametrize(
    ("noise_px", "wrong", "bound_deg", "bound_cost"),
    [(0.0, 0.0, 1e-3, 1e-6), (0.5, 0.0, 0.5, 0.3), (0.5, 0.05, 0.5, 0.3)],
)
@pytest.mark.parametrize("sweep_deg", [60.0, 360.0])
def test_all_photos_find_their_place(
    collection: Make, sweep_deg: float, noise_px: float, wrong: float, bound_deg: float, bound_cost: float
) -> None:
    world = collection(photos=14, sweep_deg=sweep_deg, noise_px=noise_px, wrong=wrong)
    found = mapped(world)
    assert worst_deg(world, found) < bound_deg
    assert found is not None
    assert found.posed.all()
    assert found.cost < bound_cost
    assert found.focals[0] == pytest.approx(1500.0, rel=0.02)
    assert len(found.edges) > 0.9 * len(world.graph)


def test_the_cost_shows_wrong_intrinsics(collection: Make) -> None:
    """Photos of two lenses, taken for one camera."""
    world = collection(lenses=((1500.0, 800.0, 600.0, 0.0), (2400.0, 800.0, 600.0, 0.0)), noise_px=0.5)
    separate = collection(
        lenses=((1500.0, 800.0, 600.0, 0.0), (2400.0, 800.0, 600.0, 0.0)), noise_px=0.5, grouped=False
    )
    wrong, right = mapped(world), mapped(separate)
    assert right is not None
    assert wrong is None or wrong.cost > 2.0 * right.cost


def test_pairs_that_turn_the_wrong_way_are_put_aside(collection: Make) -> None:
    """A doppelganger: photo 0 matches the last photo perfectly, as if that stood where photo 1 is."""
    world = collection(photos=9, sweep_deg=150.0, noise_px=0.3)
    m, last = world.graph, 8
    assert not ((m.pairs[:, 0] == 0) & (m.pairs[:, 1] == last)).any()
    near = int(np.flatnonzero((m.pairs == [0, 1]).all(axis=1))[0])
    rows = m.match_rows(near)
    xy = world.graph.keypoints.xy[m.row_b[rows]]
    keypoints = Keypoints(
        np.concatenate([world.graph.keypoints.xy, xy]),
        np.append(world.graph.keypoints.start[:-1], world.graph.keypoints.start[-1] + len(xy)),
        world.graph.keypoints.size,
    )
    false = world.with_pairs([[0, last]], [m.row_a[rows]], [len(world.graph.keypoints.xy) + np.arange(len(xy))])
    false = replace(false, keypoints=keypoints)
    false.fundamental[-1] = m.fundamental[near]
    found = mapped(world, graph=false)
    assert worst_deg(world, found) < 1.0
    assert found is not None
    assert found.posed.all()
    assert len(m) not in found.edges
    assert found.edge_residual_deg[-1] > 30.0
    assert np.nanmedian(found.edge_residual_deg[:-1]) < 1.0
    own = map_component(false, None, world.initial_intrinsics(), keypoint_error_px=1.0)
    assert own is not None
    assert own.posed.all()
    assert not np.isin(own.bundle.row, len(keypoints.xy) - 1 - np.arange(len(xy))).any()  # seen by the false pair only
    assert own.cost < found.cost  # tracks that mix two things are lost


def test_the_larger_of_two_islands(collection: Make) -> None:
    world = collection(photos=10, sweep_deg=120.0)
    side = world.graph.pairs < 4
    found = mapped(world, graph=world.graph.select(side[:, 0] == side[:, 1]))
    assert found is not None
    np.testing.assert_array_equal(found.posed, np.arange(10) >= 4)
    assert found.cost < 0.6  # what belongs to the other island counts as lost
    assert found.cost > 0.2


def test_nothing_that_fits_is_no_model(collection: Make) -> None:
    world = collection(photos=4, wrong=1.0)
    assert mapped(world) is None
    assert mapped(world, graph=world.graph.select(np.zeros(len(world.graph), bool))) is None


def test_the_same_input_gives_the_same_bits(collection: Make) -> None:
    world = collection(noise_px=0.5, wrong=0.05)
    first, second = mapped(world), mapped(world)
    assert first is not None
    assert second is not None
    assert first.bundle.cam_from_world.tobytes() == second.bundle.cam_from_world.tobytes()
    assert first.cost == second.cost


def test_components_by_photos_then_by_weight() -> None:
    pairs = np.array([[0, 1], [2, 3], [3, 4], [5, 6], [6, 7]])
    larger = largest_component(9, pairs, np.array([1e6, 1.0, 1.0, 2.0, 2.0]))
    np.testing.assert_array_equal(np.flatnonzero(larger), [5, 6, 7])


@pytest.mark.parametrize(
    "change",
    [
        {"max_epipolar_error": 0.5},
        {"adjustment_max_errors": (40.0, 12.0, 1.0)},
        {"adjustment_loss_scales": (4.0, 2.0, 0.3)},
        {"adjustment_iterations": (8, 15, 1)},
        {"adjustment_tolerances": (1e-2, 1e-3, 0.5)},
        {"cost_max_error": 1.0},
        {"max_edge_deg": 1.0},
        {"relative_pose": RelativePoseOptions(max_matches=20)},
        {"global_positioning": GlobalPositioningOptions(huber=5e-4)},
        {"initial_positions": InitialPositionOptions(min_depths=10_000)},
    ],
)
def test_every_option_changes_the_model(collection: Make, change: dict[str, Any]) -> None:
    world = collection(noise_px=1.0, wrong=0.1)
    default, changed = mapped(world), mapped(world, options=GlobalMapperOptions(**change))
    assert default is not None and changed is not None
    changed_by, default_by = ((each.cost, len(each.edges), len(each.bundle.row)) for each in (changed, default))
    assert changed_by != default_by


@pytest.mark.parametrize("change", [{"min_points": 10**4}, {"min_photo_points": 10**4}])
def test_models_with_few_points_are_none(collection: Make, change: dict[str, int]) -> None:
    world = collection(photos=5)
    assert mapped(world) is not None
    assert mapped(world, options=GlobalMapperOptions(**change)) is None


def test_tracks_are_established_from_the_edges_that_options_allow(collection: Make) -> None:
    world = collection(noise_px=0.5, photos=6)
    observations = []
    for options in (GlobalMapperOptions(), GlobalMapperOptions(tracks_per_photo=30)):
        model = map_component(world.graph, None, world.initial_intrinsics(), keypoint_error_px=1.0, options=options)
        assert model is not None
        observations.append(len(model.bundle.row))
    assert observations[1] < observations[0]
    none = GlobalMapperOptions(max_track_edge_deg=1e-9)
    assert map_component(world.graph, None, world.initial_intrinsics(), keypoint_error_px=1.0, options=none) is None
