"""The final adjustment of everything, and photos that join late."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.bundle.losses import CAUCHY, HUBER
from unposed.optim.bundle.problem import Bundle, errors_px
from unposed.optim.mapping.absolute_pose import AbsolutePoseOptions, register_photos
from unposed.optim.mapping.epipolar import epipolar_errors_px
from unposed.optim.mapping.global_mapper import map_component
from unposed.optim.mapping.refinement import RefinementResult, RefineOptions, dependable, refine
from unposed.optim.mapping.tracks import establish_tracks, spread_subset
from unposed.optim.mapping.triangulation import keep_observations
from unposed.optim.view_graph import ViewGraph

Make = Callable[..., Any]
NOBODY = np.zeros(0, np.int64)


def started(world: Any, without: tuple[int, ...] = ()) -> Bundle:
    """A coarse model, from which photos are taken away."""
    m = world.graph
    tracks = spread_subset(establish_tracks(world.graph.keypoints, m.row_a, m.row_b), len(world.graph.keypoints), 80)
    found = map_component(m, tracks, world.initial_intrinsics(), keypoint_error_px=1.0)
    assert found is not None
    poses = found.bundle.cam_from_world.copy()
    poses[list(without)] = np.nan
    return replace(keep_observations(found.bundle, ~np.isin(found.bundle.photo, without)), cam_from_world=poses)


def refined(
    world: Any, start: Bundle, candidates: Any = NOBODY, graph: ViewGraph | None = None, **options: Any
) -> RefinementResult:
    return refine(
        world.graph if graph is None else graph, start, world.initial_intrinsics().prior,
        np.asarray(candidates, np.int64), RefineOptions(**options), keypoint_error_px=1.0,
    )  # fmt: skip


def worst_deg(world: Any, found: RefinementResult) -> float:
    return float(np.nanmax(world.errors(found.bundle.cam_from_world).rotation_error_deg))


def test_perfect_matches_end_at_the_truth(collection: Make) -> None:
    world = collection(photos=8, points=300)
    found = refined(world, started(world))
    assert worst_deg(world, found) < 1e-4
    assert errors_px(found.bundle).max() < 1e-3
    assert found.bundle.intrinsics[0, 0] == pytest.approx(1500.0, rel=1e-4)


@pytest.mark.parametrize("wrong", [0.0, 0.05])
@pytest.mark.parametrize("seed", range(2))
def test_noise_and_wrong_matches(collection: Make, wrong: float, seed: int) -> None:
    world = collection(noise_px=0.5, wrong=wrong, points=600, seed=seed)
    found = refined(world, started(world))
    assert worst_deg(world, found) < 0.3
    assert np.nanmax(world.errors(found.bundle.cam_from_world).centre_error) < 0.02  # of a distance of 6
    assert found.bundle.intrinsics[0, 0] == pytest.approx(1500.0, rel=0.02)
    truly = np.concatenate(world.point_of)[found.bundle.row]
    assert (truly < 0).mean() < 0.005  # key points that show nothing
    assert errors_px(found.bundle).max() < 4.0


def test_every_round_has_its_adjustment(collection: Make) -> None:
    world = collection(photos=6, noise_px=0.3)
    assert len(refined(world, started(world), rounds=2).summaries) == 3


@pytest.mark.parametrize("photos", [8, 3])
def test_the_principal_point_of_a_large_group_is_found(collection: Make, photos: int) -> None:
    """10 px aside and 8 up from the middle. Cameras held level, upright and in between show it; three are too few."""
    lens = (1500.0, 810.0, 592.0, 0.0)
    world = collection(photos=photos, sweep_deg=70.0, points=1200, distance=4.0, roll_deg=40.0, lenses=(lens,),
                       noise_px=0.5, wrong=0.03)  # fmt: skip
    found = refined(world, started(world)).bundle.intrinsics[0, 2:4]
    if photos == 8:
        np.testing.assert_allclose(found, [810.0, 592.0], atol=2.0)
    else:
        np.testing.assert_allclose(found, [800.0, 600.0], atol=0.01)


def test_photos_left_over_do_not_count_for_the_group(collection: Make) -> None:
    """Eight photos share the camera, three of them have poses: too few for a principal point."""
    world = collection(photos=8, sweep_deg=70.0, points=800, lenses=((1500.0, 810.0, 592.0, 0.0),), noise_px=0.5)
    found = refined(world, started(world, without=(3, 4, 5, 6, 7)))
    np.testing.assert_allclose(found.bundle.intrinsics[0, 2:4], [800.0, 600.0], atol=0.01)


def test_a_photo_left_out_joins(collection: Make) -> None:
    world = collection(noise_px=0.5, wrong=0.05, points=600)
    start = started(world, without=(3, 9))
    found = refined(world, start, [3, 9])
    assert np.isfinite(found.bundle.cam_from_world).all()
    assert worst_deg(world, found) < 0.3
    assert np.isnan(refined(world, start, [3]).bundle.cam_from_world[9]).all()


def test_a_photo_with_garbage_matches_does_not_join(collection: Make) -> None:
    world = collection(noise_px=0.5, points=600)
    m, rng = world.graph, np.random.default_rng(0)
    edge = m.edge_of_match()
    row_a, row_b = m.row_a.copy(), m.row_b.copy()
    own = slice(world.graph.keypoints.start[3], world.graph.keypoints.start[4])
    for side, rows in ((0, row_a), (1, row_b)):
        mine = m.pairs[edge, side] == 3
        rows[mine] = rng.integers(own.start, own.stop, mine.sum())
    garbage = replace(m, row_a=row_a, row_b=row_b)
    start = started(world, without=(3,))
    joined = register_photos(garbage, start, np.array([3]), max_error_px=4.0)
    assert np.isnan(joined.cam_from_world[3]).all()
    found = refined(world, start, [3], garbage)
    assert np.isnan(found.bundle.cam_from_world[3]).all()
    assert np.isfinite(np.delete(found.bundle.cam_from_world, 3, axis=0)).all()


def test_a_photo_that_loses_its_observations_is_let_go(collection: Make) -> None:
    """A pose that disagrees with every match."""
    world = collection(noise_px=0.3)
    start = started(world)
    start.cam_from_world[4, :, 3] += [3.0, -2.0, 5.0]
    start.cam_from_world[4, :, :3] = start.cam_from_world[4, ::-1, :3]
    found = refined(world, start)
    assert np.isnan(found.bundle.cam_from_world[4]).all()
    assert 4 not in found.bundle.photo
    assert worst_deg(world, found) < 0.5


def test_resection_alone(collection: Make) -> None:
    """Noise-free points give the exact pose, and touch nothing else."""
    world = collection(points=600)
    full = world.bundle()
    poses = full.cam_from_world.copy()
    poses[[2, 5]] = np.nan
    rest = replace(keep_observations(full, ~np.isin(full.photo, [2, 5])), cam_from_world=poses)
    found = register_photos(world.graph, rest, np.array([2]), max_error_px=4.0)
    np.testing.assert_allclose(found.cam_from_world[2], world.cam_from_world[2], atol=1e-6)
    assert np.isnan(found.cam_from_world[5]).all()
    np.testing.assert_array_equal(found.xy, rest.xy)
    many = register_photos(
        world.graph, rest, np.array([2]), max_error_px=4.0, options=AbsolutePoseOptions(min_inliers=10**4)
    )
    assert np.isnan(many.cam_from_world[2]).all()


def test_matches_off_the_epipolar_line(collection: Make) -> None:
    """One end of each match moved by a few pixels: the distance is at most that, and the usual share of it."""
    world = collection(photos=4)
    truth = world.bundle()
    assert epipolar_errors_px(world.graph, truth).max() < 1e-6
    rng = np.random.default_rng(0)
    turn = rng.uniform(0.0, 2.0 * np.pi, len(world.graph.keypoints.xy))
    xy = world.graph.keypoints.xy + 3.0 * np.column_stack([np.cos(turn), np.sin(turn)])
    errors = epipolar_errors_px(replace(world.graph, keypoints=replace(world.graph.keypoints, xy=xy)), truth)
    assert errors.max() < 3.1 * np.sqrt(2.0)
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(3.0 / np.sqrt(2.0), rel=0.1)
    poses = truth.cam_from_world.copy()
    poses[1] = np.nan
    unposed = epipolar_errors_px(world.graph, replace(truth, cam_from_world=poses))
    edge = np.repeat(np.arange(len(world.graph)), world.graph.match_count)
    np.testing.assert_array_equal(np.isinf(unposed), (world.graph.pairs[edge] == 1).any(axis=1))


def test_key_points_without_matches_cost_hardly_any_memory(collection: Make) -> None:
    world = collection(photos=4)
    keypoints, more = world.graph.keypoints, 500_000
    start = keypoints.start.copy()
    start[-1] += more  # most key points of a photo match nothing
    xy = np.concatenate([keypoints.xy, np.zeros((more, 2))])
    graph = replace(world.graph, keypoints=replace(keypoints, xy=xy, start=start, sigma=None, rgb=None))
    expected = epipolar_errors_px(world.graph, world.bundle())
    tracemalloc.start()
    errors = epipolar_errors_px(graph, world.bundle())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(errors, expected)
    assert peak < 12 * more  # a ray for each would take 24 bytes


def test_the_same_input_gives_the_same_bits(collection: Make) -> None:
    world = collection(photos=6, noise_px=0.5, wrong=0.05)
    start = started(world, without=(2,))
    first, second = (refined(world, start, [2]).bundle for _ in range(2))
    assert first.cam_from_world.tobytes() == second.cam_from_world.tobytes()
    assert first.points.tobytes() == second.points.tobytes()


def test_the_loss_is_an_option(collection: Make) -> None:
    world = collection(photos=6, noise_px=0.5, wrong=0.1)
    start = started(world)
    usual, cauchy, huber = (refined(world, start, **loss).bundle for loss in ({}, {"loss": CAUCHY}, {"loss": HUBER}))
    assert usual.cam_from_world.tobytes() == cauchy.cam_from_world.tobytes()
    assert usual.points.tobytes() == cauchy.points.tobytes()
    assert usual.cam_from_world.tobytes() != huber.cam_from_world.tobytes()
    assert np.nanmax(world.errors(huber.cam_from_world).rotation_error_deg) < 0.5


def test_poses_that_nothing_supports_are_let_go(collection: Make) -> None:
    world = collection(photos=4)
    start = replace(world.bundle(), cam_from_world=world.cam_from_world[::-1, ::-1] * [[[1.0], [-1.0], [1.0]]])
    found = refined(world, start)
    assert np.isnan(found.bundle.cam_from_world).all()
    assert len(found.bundle.points) == len(found.bundle.xy) == 0


def test_points_of_two_photos_decide_only_where_there_are_too_few_others() -> None:
    row = np.arange(9)
    bundle = Bundle(
        models=("SIMPLE_PINHOLE",),
        intrinsics=np.ones((1, 8)),
        camera_of_photo=np.zeros(4, np.int64),
        cam_from_world=np.tile(np.eye(3, 4), (4, 1, 1)),
        points=np.zeros((4, 3)),
        xy=np.zeros((9, 2)),
        photo=np.array([0, 1, 2, 0, 1, 2, 3, 0, 2]),
        point=np.array([0, 0, 0, 1, 1, 2, 2, 3, 3]),
        row=row,
    )
    # Point 0 is seen three times. Photo 3 sees but one point, shared with photo 2: that one is needed.
    np.testing.assert_array_equal(dependable(bundle, 1), [1, 1, 1, 0, 0, 1, 1, 0, 0])
    np.testing.assert_array_equal(dependable(bundle, 2), np.ones(9))
    np.testing.assert_array_equal(dependable(bundle, 0), [1, 1, 1, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    "change",
    [
        {"subset_tracks": 30},
        {"dependable_points": 10**4},
        {"max_iterations": (40, 1)},
        {"tolerance": (1e-4, 0.5)},
        {"max_error": 2.0},
        {"min_angle_deg": 45.0},
    ],
)
def test_every_option_changes_the_result(collection: Make, change: dict[str, Any]) -> None:
    world = collection(noise_px=1.0, points=600)
    start = started(world)
    changed, default = refined(world, start, **change), refined(world, start)
    assert changed.bundle.points.tobytes() != default.bundle.points.tobytes()


def test_few_points_are_not_adjusted_and_many_photos_have_no_covariance(collection: Make) -> None:
    world = collection(photos=6, noise_px=0.5)
    start = started(world)
    assert refined(world, start, min_points=10**5).summaries == ()
    assert refined(world, start).covariance is not None
    assert refined(world, start, max_covariance_photos=5).covariance is None


@pytest.mark.parametrize("change", [{"min_inlier_ratio": 1.0}, {"max_iterations": 0, "min_inliers": 10**4}])
def test_photos_are_registered_as_options_allow(collection: Make, change: dict[str, Any]) -> None:
    world = collection(noise_px=0.5, wrong=0.1)
    start = started(world, without=(4,))
    strict = AbsolutePoseOptions(**change)
    registered, not_registered = (
        np.isfinite(refined(world, start, [4], **options).bundle.cam_from_world[4]).all()
        for options in ({}, {"absolute_pose": strict})
    )
    assert registered and not not_registered
