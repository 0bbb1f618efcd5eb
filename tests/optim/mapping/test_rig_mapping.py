"""Global mapping and refinement of photos that rigs fix to each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rig_worlds import FRAMES, SENSORS, four_sided_rig, rig_bundle, rig_view_graph

from unposed.optim.bundle.intrinsics import Intrinsics, intrinsics_with_priors
from unposed.optim.bundle.problem import Bundle
from unposed.optim.evaluation import evaluate_poses
from unposed.optim.mapping.absolute_pose import register_photos
from unposed.optim.mapping.global_mapper import map_component
from unposed.optim.mapping.refinement import RefineOptions, refine
from unposed.optim.mapping.rig_sensors import fitted_to_rigs, with_found_sensors
from unposed.optim.mapping.rotation_averaging import average_rotations
from unposed.optim.partition.cluster_graph import cluster_graph
from unposed.optim.rigs import frame_poses
from unposed.optim.rotations import exp_so3, rotation_angle_deg


def known_intrinsics(bundle: Bundle) -> Intrinsics:
    size = np.array([[1000.0, 1000.0]])
    params = [[500.0, 500.0, 500.0]]
    return intrinsics_with_priors(["SIMPLE_PINHOLE"], params, size, ["given"], bundle.camera_of_photo, 1.0)


def apart(bundle: Bundle) -> float:
    """How far photos of one frame are from where the rig has them."""
    tied = bundle.rigs
    assert tied is not None
    frames = frame_poses(tied, bundle.cam_from_world)
    first = np.array([np.flatnonzero(tied.frame_of_photo == f)[0] for f in tied.frame_of_photo])
    return float(np.nanmax(np.abs(frames - frames[first])))


def test_views_that_match_only_views_of_one_side_make_one_model() -> None:
    """Each side of the rig sees a part of the points that no other one sees: without the rig these are four models."""
    truth = rig_bundle(four_sided_rig(central=True), noise_px=0.3)
    rigs = truth.rigs
    assert rigs is not None
    graph = rig_view_graph(truth)
    side = rigs.sensor_of_photo[graph.pairs]
    graph = graph.select((side[:, 0] == side[:, 1]) | (side < 0).any(axis=1))
    tied = graph.tied_by(rigs)
    assert tied.largest_component().all() and not graph.among(rigs.sensor_of_photo >= 0).largest_component().all()
    model = map_component(tied, None, known_intrinsics(truth), keypoint_error_px=1.0)
    assert model is not None and model.posed.all()
    assert apart(model.bundle) < 1e-10
    result = refine(
        tied, model.bundle, known_intrinsics(truth).prior, np.zeros(0, np.int64), RefineOptions(), keypoint_error_px=1.0
    )
    errors = evaluate_poses(result.bundle.cam_from_world, truth.cam_from_world)
    assert errors.auc[1] is not None and errors.auc[1] > 0.9
    assert apart(result.bundle) < 1e-10


def test_rotations_of_a_frame_are_averaged_together() -> None:
    truth = rig_bundle(four_sided_rig(central=False))
    graph = rig_view_graph(truth)
    a, b = graph.pairs.T
    exact = truth.cam_from_world[b, :, :3] @ truth.cam_from_world[a, :, :3].transpose(0, 2, 1)
    photos, weight = len(truth.cam_from_world), graph.match_count.astype(np.float64)
    found = average_rotations(photos, graph.pairs, exact, weight, rigs=truth.rigs)
    turn = found.transpose(0, 2, 1) @ truth.cam_from_world[:, :, :3]
    assert rotation_angle_deg(turn @ turn[0].T).max() < 1e-4
    blind = (graph.pairs != 2).all(axis=1)  # photo 2 has no edge: its frame tells how it is turned
    found = average_rotations(photos, graph.pairs[blind], exact[blind], weight[blind], rigs=truth.rigs)
    turn = found.transpose(0, 2, 1) @ truth.cam_from_world[:, :, :3]
    assert rotation_angle_deg(turn @ turn[0].T).max() < 1e-4


def test_edges_within_a_frame_of_one_centre_are_left_out() -> None:
    truth = rig_bundle(four_sided_rig(central=True))
    rigs = truth.rigs
    assert rigs is not None
    graph = rig_view_graph(replace(truth, rigs=None), min_matches=1)
    within = rigs.frame_of_photo[graph.pairs[:, 0]] == rigs.frame_of_photo[graph.pairs[:, 1]]
    assert len(graph.tied_by(rigs)) == np.count_nonzero(~within)
    assert graph.tied_by(None) is graph


def test_a_frame_is_registered_as_a_whole() -> None:
    truth = rig_bundle(four_sided_rig(central=True))
    graph = rig_view_graph(truth)
    some = truth.cam_from_world.copy()
    last = np.arange(SENSORS * (FRAMES - 1), SENSORS * FRAMES)
    some[last] = np.nan
    start = truth.photo < last[0]
    count = np.bincount(truth.point[start], minlength=len(truth.points))
    keep = start & (count[truth.point] >= 1)
    order = np.lexsort((truth.point, truth.photo))
    row = np.empty(len(order), np.int64)
    row[order] = np.arange(len(order))
    bundle = replace(
        truth,
        cam_from_world=some,
        xy=truth.xy[keep],
        photo=truth.photo[keep],
        point=truth.point[keep],
        row=row[keep],
    )
    found = register_photos(graph, bundle, last[:1], max_error_px=4.0)
    np.testing.assert_allclose(found.cam_from_world[last], truth.cam_from_world[last], atol=1e-4)


@pytest.mark.parametrize("photos", [np.arange(8), np.arange(2, 14)])
def test_clusters_have_their_part_of_the_rigs(photos: np.ndarray) -> None:
    truth = rig_bundle(four_sided_rig(central=True))
    cluster = cluster_graph(rig_view_graph(truth).tied_by(truth.rigs), known_intrinsics(truth), photos)
    rigs = cluster.graph.rigs
    assert rigs is not None and truth.rigs is not None
    np.testing.assert_array_equal(rigs.sensor_of_photo, truth.rigs.sensor_of_photo[photos])
    np.testing.assert_array_equal(rigs.frame_of_photo, truth.rigs.frame_of_photo[photos])


@pytest.mark.parametrize("alone", [False, True])
def test_a_rig_with_baselines_sets_the_scale_of_the_model(alone: bool) -> None:
    """Whether its sides see common points or, as of cameras that look away from each other, none."""
    truth = rig_bundle(four_sided_rig(central=False), noise_px=0.3)
    rigs = truth.rigs
    assert rigs is not None
    graph = rig_view_graph(truth)
    if alone:
        side = rigs.sensor_of_photo[graph.pairs]
        graph = graph.select(side[:, 0] == side[:, 1])
    model = map_component(graph.tied_by(rigs), None, known_intrinsics(truth), keypoint_error_px=1.0)
    assert model is not None and apart(model.bundle) < 1e-9
    errors = evaluate_poses(model.bundle.cam_from_world[:-1], truth.cam_from_world[:-1])
    assert errors.auc[5] is not None and errors.auc[5] > 0.9
    assert errors.scale == pytest.approx(1.0, abs=0.02)


def test_unknown_sensors_are_found_where_photos_agree() -> None:
    truth = rig_bundle(four_sided_rig(central=False))
    rigs = truth.rigs
    assert rigs is not None
    first = np.arange(SENSORS)[:, None, None] == 0
    unknown = replace(rigs, sensor_from_rig=np.where(first, rigs.sensor_from_rig, np.nan))
    assert not unknown.known[1] and unknown.known[0]
    found = with_found_sensors(unknown, truth.cam_from_world)
    np.testing.assert_allclose(found.sensor_from_rig, rigs.sensor_from_rig, atol=1e-9)
    assert found.refined.tolist() == [False, True, True, True]
    loose = truth.cam_from_world.copy()
    own = np.flatnonzero(rigs.sensor_of_photo == 2)
    loose[own, :, :3] = exp_so3(np.random.default_rng(0).normal(0.0, 0.3, (len(own), 3))) @ loose[own, :, :3]
    partly = with_found_sensors(unknown, loose)
    assert np.isnan(partly.sensor_from_rig[2]).all() and np.isfinite(partly.sensor_from_rig[[1, 3]]).all()
    few = truth.cam_from_world.copy()
    few[rigs.frame_of_photo >= 2] = np.nan
    assert np.isnan(with_found_sensors(unknown, few).sensor_from_rig[1:]).all()


def test_poses_are_fitted_to_rigs_by_the_photos_that_agree() -> None:
    truth = rig_bundle(four_sided_rig(central=False))
    rigs = truth.rigs
    assert rigs is not None
    poses = truth.cam_from_world.copy()
    poses[:, :, 3] /= 3.0
    poses[4, :, :3] = exp_so3(np.array([[0.4, 0.0, 0.0]])) @ poses[4, :, :3]  # the first photo of the second frame
    fitted, growth = fitted_to_rigs(rigs, poses)
    assert growth == pytest.approx(3.0)
    np.testing.assert_allclose(fitted, truth.cam_from_world, atol=1e-9)
