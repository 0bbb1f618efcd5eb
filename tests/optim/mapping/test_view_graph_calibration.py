"""Focal lengths from pairs of photos alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.mapping.view_graph_calibration import (
    ViewGraphCalibrationOptions,
    calibrate_focals,
    calibrate_neighbours,
    shared_focal,
)

Make = Callable[..., Any]
UNKNOWN = np.array([False])
WIDE, LONG = (1500.0, 800.0, 600.0, 0.0), (2900.0, 800.0, 600.0, 0.0)
SIDE = np.full(24, 1600.0)
FAINT_PRIOR = ViewGraphCalibrationOptions(other_lenses=1e6)


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.6])
def test_one_focal_from_true_fundamental_matrices(collection: Make, factor: float) -> None:
    world = collection(photos=6)
    intrinsics = world.initial_intrinsics(factor)
    found = calibrate_focals(world.graph, intrinsics.values, intrinsics.camera_of_photo, UNKNOWN)
    assert found[0] == pytest.approx(1500.0, rel=0.02)


def test_two_focals_one_of_them_known(collection: Make) -> None:
    sizes = ((1600, 1200), (1000, 800))
    world = collection(photos=8, lenses=((1500.0, 800.0, 600.0, 0.0), (900.0, 500.0, 400.0, 0.0)), sizes=sizes)
    truth = world.photo_intrinsics[world.first, 0]
    intrinsics = world.initial_intrinsics().with_focals(truth * [1.0, 1.3])
    found = calibrate_focals(world.graph, intrinsics.values, intrinsics.camera_of_photo, np.array([True, False]))
    assert found[0] == truth[0]
    assert found[1] == pytest.approx(truth[1], rel=0.03)


def test_without_evidence_the_start_remains(collection: Make) -> None:
    world = collection(photos=4)
    intrinsics = world.initial_intrinsics(1.4)
    known = calibrate_focals(world.graph, intrinsics.values, intrinsics.camera_of_photo, np.array([True]))
    silent = calibrate_focals(world.without_fundamental(), intrinsics.values, intrinsics.camera_of_photo, UNKNOWN)
    assert known[0] == silent[0] == pytest.approx(1.4 * 1500.0)


def test_what_pairs_suggest_is_weighed_by_their_matches(collection: Make) -> None:
    matches = collection(photos=5).graph
    suggested = np.full(len(matches), np.nan)
    suggested[:4] = [900.0, 1500.0, 1600.0, 5000.0]
    count = np.full(len(matches), 1)
    count[1] = 10
    matches = replace(matches, focal_px=suggested, match_start=np.cumsum(count) - count, match_stop=np.cumsum(count))
    focal, agreement = shared_focal(matches, np.zeros(5, np.int64), 0)
    assert focal == 1500.0
    assert agreement == pytest.approx(11 / 13)
    focal, agreement = shared_focal(matches, np.arange(5), 0)  # no pair lies within one camera
    assert np.isnan(focal)
    assert agreement == 0.0


@pytest.mark.parametrize("change", [{"max_matches": 20}, {"residual_sigma": 0.5}, {"log_focal_weight": 1.0}])
def test_every_option_changes_the_focal_length(collection: Make, change: dict[str, Any]) -> None:
    world = collection(photos=6, noise_px=0.5)
    fundamental = world.graph.fundamental * np.random.default_rng(0).uniform(0.98, 1.02, world.graph.fundamental.shape)
    graph = replace(world.graph, fundamental=fundamental)
    intrinsics = world.initial_intrinsics(1.3)
    default, changed = (
        calibrate_focals(graph, intrinsics.values, intrinsics.camera_of_photo, UNKNOWN, options)
        for options in (ViewGraphCalibrationOptions(), ViewGraphCalibrationOptions(**change))
    )
    assert changed[0] != default[0]


def test_agreement_is_an_option(collection: Make) -> None:
    graph = collection(photos=3).graph
    graph = replace(graph, focal_px=np.linspace(1400.0, 1600.0, len(graph)))
    strict = ViewGraphCalibrationOptions(agreement=1e-3)
    assert shared_focal(graph, np.zeros(3, np.int64), 0)[1] == 1.0
    assert shared_focal(graph, np.zeros(3, np.int64), 0, strict)[1] < 1.0


def ring_of_lenses(collection: Make, photos: int = 24, **world: Any) -> Any:
    """Long lenses of 2 to 8 sides, each of its own, so far away that the scene fills every photo alike."""
    focal = 1600.0 * np.exp(np.random.default_rng(3).uniform(np.log(2.0), np.log(8.0), photos))
    lenses = [(f, 800.0, 600.0, 0.0) for f in focal]
    return collection(photos=photos, sweep_deg=360.0, distance=14.0, lenses=lenses, grouped=False, **world)


def test_known_cameras_tell_the_focal_lengths_of_the_others_in_turn(collection: Make) -> None:
    """The known ones reach a third of the ring directly, and all of it through those that they reach."""
    world = ring_of_lenses(collection)
    truth = world.photo_intrinsics[:, 0]
    known = np.arange(24) < 6
    start = world.initial_intrinsics().with_focals(np.where(known, truth, 4.0 * 1600.0))
    found = calibrate_neighbours(world.graph, start.values, start.camera_of_photo, known, SIDE, (0.4, 15.0))
    np.testing.assert_array_equal(found[known], truth[known])
    error = np.abs(np.log(found / truth))[~known]
    assert np.median(error) < 0.02 and error.max() < 0.1
    options = ViewGraphCalibrationOptions(other_lenses=1e-60, lens_log_sigma=0.02)
    held = calibrate_neighbours(world.graph, start.values, start.camera_of_photo, known, SIDE, (0.4, 15.0), options)
    nearest = np.abs(np.log(held[:, None] / truth[known])).min(axis=1)
    assert nearest.max() < 0.1 < np.abs(np.log(truth[:, None] / truth[known])).min(axis=1).max()
    assert not np.isin(world.graph.pairs, np.flatnonzero(known)).any(axis=1).all()
    together = calibrate_focals(world.graph, world.initial_intrinsics().with_focals(np.full(24, 1920.0)).values,
                                start.camera_of_photo, np.zeros(24, bool))  # fmt: skip
    assert np.abs(np.log(together / truth)).max() > 0.2  # unknown cameras alone leave all of them too short


def test_of_two_lenses_none_is_held_to_the_other(collection: Make) -> None:
    """A zoom at its ends: of the known ones 11 are wide and 2 long."""
    lenses = [LONG if photo in (2, 4, 13, 15) else WIDE for photo in range(16)]
    world = collection(photos=16, sweep_deg=240.0, lenses=lenses, grouped=False)
    truth = world.photo_intrinsics[:, 0]
    known = np.arange(16) < 13
    start = world.initial_intrinsics().with_focals(np.where(known, truth, WIDE[0]))
    found = calibrate_neighbours(world.graph, start.values, start.camera_of_photo, known, SIDE[:16], (0.4, 15.0))
    np.testing.assert_allclose(found, truth, rtol=0.03)


def test_the_camera_with_most_matches_to_known_ones_is_next(collection: Make) -> None:
    """The last camera is joined to the known one by few, wrong matches; what its neighbour found counts more."""
    world = collection(photos=3, sweep_deg=40.0, grouped=False, lenses=[WIDE] * 3)
    graph, truth = world.graph, world.photo_intrinsics[:, 0]
    pairs = [tuple(pair) for pair in graph.pairs.tolist()]
    count = np.array([10 if pair == (0, 2) else 150 for pair in pairs])
    fundamental = graph.fundamental.copy()
    fundamental[pairs.index((0, 2))] = collection(photos=3, lenses=[WIDE, WIDE, LONG]).fundamental(0, 2)
    graph = replace(graph, fundamental=fundamental, match_start=np.cumsum(count) - count, match_stop=np.cumsum(count))
    start = world.initial_intrinsics(1.4).with_focals(np.where(np.arange(3) < 1, truth, 2.0 * truth))
    alone = graph.select(np.array([pair != (1, 2) for pair in pairs]))
    known = np.arange(3) < 1
    misled = calibrate_neighbours(alone, start.values, start.camera_of_photo, known, SIDE[:3], (0.4, 15.0), FAINT_PRIOR)
    assert misled[2] > 1.5 * truth[2]
    found = calibrate_neighbours(graph, start.values, start.camera_of_photo, known, SIDE[:3], (0.4, 15.0), FAINT_PRIOR)
    np.testing.assert_allclose(found, truth, rtol=0.02)


def test_cameras_without_photos_change_nothing(collection: Make) -> None:
    """Nothing was found of them: their usual focal lengths would be taken for lenses of the known cameras."""
    world = ring_of_lenses(collection, 12)
    truth = world.photo_intrinsics[:, 0]
    known = np.arange(12) < 3
    values = world.initial_intrinsics().with_focals(np.where(known, truth, 4.0 * 1600.0)).values
    strangers = np.tile([1920.0, 1920.0, 800.0, 600.0, 0.0, 0.0, 0.0, 0.0], (200, 1))
    options = ViewGraphCalibrationOptions(lens_log_sigma=0.3)  # so that what strangers say would be heard
    alone, among_strangers = (
        calibrate_neighbours(
            world.graph,
            np.concatenate([values, strangers[:count]]),
            world.camera_of_photo,
            np.append(known, np.ones(count, bool)),
            np.full(12 + count, 1600.0),
            (0.4, 15.0),
            options,
        )
        for count in (0, 200)
    )
    np.testing.assert_array_equal(among_strangers[:12], alone)


def test_cameras_without_edges_to_known_ones_keep_their_focal_length(collection: Make) -> None:
    world = collection(photos=4, grouped=False, lenses=[(1500.0, 800.0, 600.0, 0.0)] * 4)
    start = world.initial_intrinsics(1.4)
    nobody = calibrate_neighbours(
        world.graph, start.values, start.camera_of_photo, np.zeros(4, bool), SIDE[:4], (0.4, 15.0)
    )
    np.testing.assert_array_equal(nobody, start.values[:, 0])
    coarse = calibrate_neighbours(
        world.graph, start.with_focals(np.array([1500.0, 2000.0, 2000.0, 2000.0])).values, start.camera_of_photo,
        np.arange(4) == 0, SIDE[:4], (0.4, 15.0), ViewGraphCalibrationOptions(log_focal_step=1.0),
    )  # fmt: skip
    np.testing.assert_allclose(coarse[1:], 640.0 * np.exp(1.0))  # 1740: of the grid's steps the nearest in cost


def test_edges_without_matches_say_nothing(collection: Make) -> None:
    world = collection(photos=3, sweep_deg=40.0, grouped=False, lenses=[WIDE] * 3)
    graph = world.graph.select(np.array([pair != [1, 2] for pair in world.graph.pairs.tolist()]))
    count = np.array([0 if pair == [0, 2] else 150 for pair in graph.pairs.tolist()])
    graph = replace(graph, match_start=np.cumsum(count) - count, match_stop=np.cumsum(count))
    start = world.initial_intrinsics(1.4)
    known = np.arange(3) < 1
    found = calibrate_neighbours(graph, start.values, start.camera_of_photo, known, SIDE[:3], (0.4, 15.0))
    assert found[0] == start.values[0, 0] and found[2] == start.values[2, 0]
