"""Bundle adjustment of photos that rigs tie to each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rig_worlds import SENSORS, disturbed, four_sided_rig, rig_bundle

from unposed.optim.arrays import Array
from unposed.optim.bundle.adjust import CpuProblem, adjust_bundle
from unposed.optim.bundle.covariance import covariance
from unposed.optim.bundle.objective import build_objective, bundle_state
from unposed.optim.bundle.pose_priors import align_to_pose_priors, no_pose_priors
from unposed.optim.bundle.problem import Bundle, BundleOptions, errors_px
from unposed.optim.bundle.schur import schur_structure
from unposed.optim.rigs import Rigs, frame_poses, photo_poses, whole_frames
from unposed.optim.rotations import exp_so3, rotation_angle_deg

FREE = BundleOptions(focal=False, max_iterations=60, tolerance=1e-12)


def deviation(bundle: Bundle, tied: Rigs) -> float:
    """How far the photos of a frame are from what the rig says."""
    frames = frame_poses(tied, bundle.cam_from_world)
    first = np.array([np.flatnonzero(tied.frame_of_photo == f)[0] for f in tied.frame_of_photo])
    return float(np.abs(frames - frames[first]).max())


@pytest.mark.parametrize("central", [True, False])
def test_rigs_hold_and_the_truth_is_found(central: bool) -> None:
    tied = four_sided_rig(central=central)
    bundle, summary = adjust_bundle(disturbed(rig_bundle(tied)), FREE)
    assert summary.final_cost < 1e-12 * summary.initial_cost
    assert errors_px(bundle).max() < 1e-4
    assert deviation(bundle, tied) < 1e-11


@pytest.mark.parametrize("central", [True, False])
def test_frames_far_from_the_origin_turn_as_one(central: bool) -> None:
    """About the mean of what all their photos see: each about its own would tear them apart."""
    tied, far = four_sided_rig(central=central), np.array([300.0, 100.0, 0.0])
    start = disturbed(rig_bundle(tied))
    poses = start.cam_from_world.copy()
    poses[:, :, 3] -= poses[:, :, :3] @ far
    bundle, _ = adjust_bundle(replace(start, cam_from_world=poses, points=start.points + far), FREE)
    assert errors_px(bundle).max() < 1e-4
    assert deviation(bundle, tied) < 1e-9


def test_a_rig_with_baselines_gives_the_scale() -> None:
    truth = rig_bundle(four_sided_rig(central=False))
    rigs, start = truth.rigs, disturbed(truth)
    assert rigs is not None
    grown = photo_poses(rigs, frame_poses(rigs, start.cam_from_world) * [1.0, 1.0, 1.0, 1.3])
    found, _ = adjust_bundle(replace(start, cam_from_world=grown, points=1.3 * start.points), FREE)
    extent = [float(np.linalg.norm(np.ptp(b.cam_from_world[:, :, 3], axis=0))) for b in (found, truth)]
    frames = [frame_poses(rigs, b.cam_from_world) for b in (found, truth)]
    relative = [f[0, :, :3] @ f[SENSORS, :, :3].T for f in frames]
    assert rotation_angle_deg(relative[0] @ relative[1].T) < 1e-4
    gap = [float(np.linalg.norm(f[0, :, :3].T @ f[0, :, 3] - f[4, :, :3].T @ f[4, :, 3])) for f in frames]
    assert gap[0] == pytest.approx(gap[1], rel=1e-4) and extent[0] > 0.0


def test_sensors_that_are_refined_find_their_poses() -> None:
    truth = rig_bundle(four_sided_rig(central=False, refined=True))
    tied = truth.rigs
    assert tied is not None
    off = tied.sensor_from_rig.copy()
    off[1:, :, :3] = exp_so3(np.random.default_rng(3).normal(0.0, 0.01, (SENSORS - 1, 3))) @ off[1:, :, :3]
    wrong = replace(tied, sensor_from_rig=off)
    frames = frame_poses(tied, disturbed(truth).cam_from_world)
    found, _ = adjust_bundle(replace(disturbed(truth), rigs=wrong, cam_from_world=photo_poses(wrong, frames)), FREE)
    assert errors_px(found).max() < 1e-3
    assert found.rigs is not None
    assert deviation(found, found.rigs) < 1e-9
    true_turn = tied.sensor_from_rig[:, :, :3]
    turned = rotation_angle_deg(found.rigs.sensor_from_rig[:, :, :3] @ true_turn.transpose(0, 2, 1))
    assert turned.max() < 1e-4
    held, _ = adjust_bundle(replace(disturbed(truth), rigs=replace(wrong, refined=np.zeros(SENSORS, bool))), FREE)
    assert errors_px(held).max() > 1.0


@pytest.mark.parametrize("refined", [True, False])
def test_a_step_solves_the_normal_equations_of_frames_and_sensors(refined: bool) -> None:
    """Against differences of the residuals by every unknown, and one dense least-squares solution."""
    start = disturbed(rig_bundle(four_sided_rig(central=False, refined=refined)))
    options = replace(FREE, loss_px=1e6)
    objective = build_objective(start, options)
    free = objective.free
    structure = schur_structure(objective.order, free.pose_size, free.intrinsics_size, start.rigs)
    problem = CpuProblem(objective, structure)
    state = bundle_state(start, objective.order)
    moved = problem.step(state, problem.linearize(state), 1e-9)
    assert moved is not None
    before, after = problem.cost(state), problem.cost(moved)
    again = problem.step(moved, problem.linearize(moved), 1e-9)
    assert again is not None
    # Undamped Gauss-Newton converges quadratically where the derivatives are right, and linearly where they are not.
    assert problem.cost(again) < 1e-3 * after < 1e-4 * before


def test_photos_without_observations_follow_their_frame() -> None:
    tied = four_sided_rig(central=True)
    truth = rig_bundle(tied)
    blind = truth.photo != 2
    count = np.bincount(truth.point[blind], minlength=len(truth.points))
    keep = blind & (count[truth.point] >= 2)
    points, point = np.unique(truth.point[keep], return_inverse=True)
    start = disturbed(truth)
    partly = replace(
        start,
        points=start.points[points],
        xy=start.xy[keep],
        photo=start.photo[keep],
        point=point,
        row=start.row[keep],
    )
    found, _ = adjust_bundle(partly, FREE)
    assert deviation(found, tied) < 1e-11


def test_a_frame_takes_the_pose_of_its_best_photo() -> None:
    tied = four_sided_rig(central=False)
    poses = rig_bundle(tied).cam_from_world
    some = np.full_like(poses, np.nan)
    some[[1, 2, -1]] = poses[[1, 2, -1]]
    some[1, :, 3] += 1.0
    weight = np.zeros(len(poses), np.int64)
    weight[2] = 5
    whole = whole_frames(tied, some, weight)
    np.testing.assert_allclose(whole[:4], poses[:4], atol=1e-12)
    assert np.isnan(whole[4:-1]).all()
    np.testing.assert_array_equal(whole[-1], poses[-1])


def test_covariances_are_those_of_frames() -> None:
    """Photos of a central rig are known equally well, and better than each by itself."""
    truth = rig_bundle(four_sided_rig(central=True))
    noisy = replace(truth, xy=truth.xy + np.random.default_rng(0).normal(0.0, 0.5, truth.xy.shape))
    together, alone = (covariance(each, FREE).poses for each in (noisy, replace(noisy, rigs=None)))

    def sigma(poses: Array) -> Array:
        return np.sqrt(np.trace(poses[:4, :3, :3], axis1=1, axis2=2))

    np.testing.assert_allclose(sigma(together), sigma(together)[0], rtol=1e-9)
    assert (sigma(together) < sigma(alone)).all()


def test_the_scale_is_free_where_the_sensors_are() -> None:
    truths = [rig_bundle(four_sided_rig(central=False, refined=refined)) for refined in (False, True)]
    noise = np.random.default_rng(0).normal(0.0, 0.5, truths[0].xy.shape)
    known, found = (covariance(replace(truth, xy=truth.xy + noise), FREE) for truth in truths)
    assert (known.free_gauge, found.free_gauge) == (6, 7)
    assert np.nanmax(found.poses[:, range(3), range(3)]) < 1e-4
    assert max(known.condition, found.condition) < 1e9


def test_rigs_grow_with_a_model_that_is_aligned_to_positions() -> None:
    truth = rig_bundle(four_sided_rig(central=False))
    assert truth.rigs is not None
    centre = -np.einsum("pji,pj->pi", truth.cam_from_world[:, :, :3], truth.cam_from_world[:, :, 3])
    sigma = np.full(centre.shape, 0.1)
    priors = replace(no_pose_priors(len(centre)), centre=3.0 * centre, centre_sigma=sigma)
    aligned = align_to_pose_priors(truth, priors, truth.cam_from_world)
    assert aligned is not None and aligned.rigs is not None
    np.testing.assert_allclose(aligned.rigs.sensor_from_rig[:, :, 3], 3.0 * truth.rigs.sensor_from_rig[:, :, 3])
    assert deviation(aligned, aligned.rigs) < 1e-9
