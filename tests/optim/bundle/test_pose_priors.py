"""Given poses, positions by satellite, plumb lines and depths: derivatives, and what they are good for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.bundle.adjust import CpuProblem, adjust_bundle, build_objective, bundle_state, schur_structure
from unposed.optim.bundle.pose_priors import DepthPriors, PosePriors, align_to_pose_priors, no_pose_priors
from unposed.optim.bundle.problem import Bundle, BundleOptions, camera_points, errors_px
from unposed.optim.rotations import exp_so3, rotation_angle_deg

Make = Callable[..., Any]
EXACT = BundleOptions(max_iterations=100, tolerance=1e-12)


def centres(cam_from_world: np.ndarray) -> np.ndarray:
    return -np.einsum("cji,cj->ci", cam_from_world[:, :, :3], cam_from_world[:, :, 3])


def elsewhere(bundle: Bundle, scale: float = 2.5, seed: int = 0) -> Bundle:
    """The same reconstruction in another frame."""
    rng = np.random.default_rng(seed)
    turn, shift = exp_so3(rng.standard_normal((1, 3)))[0], rng.standard_normal(3)
    poses = bundle.cam_from_world.copy()
    poses[:, :, :3] = poses[:, :, :3] @ turn.T
    poses[:, :, 3] = scale * poses[:, :, 3] - poses[:, :, :3] @ shift
    return replace(bundle, cam_from_world=poses, points=scale * bundle.points @ turn.T + shift)


def all_kinds(bundle: Bundle, seed: int = 0) -> PosePriors:
    rng = np.random.default_rng(seed)
    n = len(bundle.cam_from_world)
    known = rng.random((2, n)) < 0.7
    rotation = exp_so3(0.3 * rng.standard_normal((n, 3))) @ bundle.cam_from_world[:, :, :3]
    return replace(
        no_pose_priors(n),
        fixed=np.arange(n) == 1,
        centre=np.where(known[0][:, None], centres(bundle.cam_from_world) + rng.normal(0, 0.1, (n, 3)), np.nan),
        centre_sigma=np.where(known[0][:, None], [0.05, 0.1, 0.2], np.inf),
        rotation=np.where(known[1][:, None, None], rotation, np.nan),
        rotation_sigma_rad=np.where(known[1], 0.1, np.inf),
        down=bundle.cam_from_world[:, :, 1] + 0.1 * rng.standard_normal((n, 3)),
        down_sigma_rad=np.where(known[0], 0.05, np.inf),
    )


@pytest.mark.parametrize("rotations", [True, False])
def test_the_gradient_is_that_of_the_cost(collection: Make, rotations: bool) -> None:
    bundle = collection(photos=5, points=30, sweep_deg=40.0, noise_px=1.0).bundle(wrong=0.1)
    depth = camera_points(bundle)[:, 2] * np.random.default_rng(0).lognormal(0.0, 0.2, len(bundle.xy))
    depth[::3] = np.nan
    depths = DepthPriors(depth, np.linspace(0.02, 0.5, len(depth)))
    task = build_objective(
        bundle, BundleOptions(rotations=rotations), pose_priors=all_kinds(bundle), depth_priors=depths
    )
    parts = schur_structure(task.order, task.free.pose_size, task.free.intrinsics_size)
    state = bundle_state(bundle, task.order)
    problem = CpuProblem(task, parts)
    system = problem.linearize(state)
    gradients = (system.photo_gradient, system.camera_gradient, system.point_gradient)
    assert not gradients[0][1].any()
    scale = max(np.abs(g).max() for g in gradients) ** 0.5
    for kind, gradient in enumerate(gradients):
        for at, expected in np.ndenumerate(gradient):
            if kind == 0 and at[0] == 1:
                continue  # it is fixed
            unknowns = [np.zeros_like(g) for g in gradients]
            unknowns[kind][at] = 1e-3 if kind == 1 else 1e-6
            costs = [problem.cost(task.retract(state, *(s * u for u in unknowns))) for s in (1, -1)]
            slope = (costs[0] - costs[1]) / (2.0 * unknowns[kind][at])
            assert expected == pytest.approx(slope, rel=1e-4, abs=1e-4 * scale)


def test_fixed_poses_stay_and_the_others_come_to_them(collection: Make) -> None:
    world = collection(photos=8, points=200, noise_px=0.3)
    truth = world.bundle()
    fixed = np.isin(np.arange(8), [0, 4])
    anchors = replace(no_pose_priors(8), fixed=fixed)
    start = align_to_pose_priors(elsewhere(truth), anchors, truth.cam_from_world)
    assert start is not None
    found, _ = adjust_bundle(start, EXACT, pose_priors=anchors)
    np.testing.assert_array_equal(found.cam_from_world[fixed], truth.cam_from_world[fixed])
    assert np.abs(centres(found.cam_from_world) - centres(truth.cam_from_world)).max() < 0.03
    assert (found.cam_from_world[~fixed] != start.cam_from_world[~fixed]).any(axis=(1, 2)).all()


def test_all_poses_fixed_leaves_points_and_lenses(collection: Make) -> None:
    truth = collection(photos=6, points=100, noise_px=0.3).bundle()
    off = replace(truth, points=truth.points + 0.05, intrinsics=truth.intrinsics * [[1.02, 1.02, 1, 1, 1, 1, 1, 1]])
    found, _ = adjust_bundle(off, EXACT, pose_priors=replace(no_pose_priors(6), fixed=np.ones(6, bool)))
    np.testing.assert_array_equal(found.cam_from_world, truth.cam_from_world)
    assert found.intrinsics[0, 0] == pytest.approx(1500.0, rel=0.01)
    assert np.median(errors_px(found)) < 0.4


def test_positions_give_scale_and_place_although_one_is_far_off(collection: Make) -> None:
    truth = collection(photos=10, points=300, noise_px=0.3).bundle()
    rng = np.random.default_rng(0)
    told = centres(truth.cam_from_world) + rng.normal(0.0, 0.02, (10, 3))
    told[3] += [4.0, -3.0, 2.0]
    sigma = np.full((10, 3), 0.02)
    sigma[7] = np.inf
    anchors = replace(no_pose_priors(10), centre=told, centre_sigma=sigma)
    start = align_to_pose_priors(elsewhere(truth), anchors, truth.cam_from_world)
    assert start is not None
    found, _ = adjust_bundle(start, EXACT, pose_priors=anchors)
    assert np.linalg.norm(centres(found.cam_from_world) - centres(truth.cam_from_world), axis=1).max() < 0.04
    assert (
        rotation_angle_deg(found.cam_from_world[:, :, :3] @ truth.cam_from_world[:, :, :3].transpose(0, 2, 1)).max()
        < 1.5
    )


def test_positions_straighten_what_bends(collection: Make) -> None:
    """A slow drift along the row of photos, which reprojection errors hardly see."""
    truth = collection(photos=12, points=80, noise_px=1.5, sweep_deg=160.0, seed=3).bundle()
    free, _ = adjust_bundle(truth, EXACT)
    told = centres(truth.cam_from_world)
    anchors = replace(no_pose_priors(12), centre=told, centre_sigma=np.full((12, 3), 0.005))
    bound, _ = adjust_bundle(truth, EXACT, pose_priors=anchors)
    anchored = align_to_pose_priors(free, anchors, truth.cam_from_world)
    assert anchored is not None
    errors = [np.linalg.norm(centres(b.cam_from_world) - told, axis=1).mean() for b in (anchored, bound)]
    assert errors[1] < 0.5 * errors[0]


def test_a_plumb_line_levels(collection: Make) -> None:
    truth = collection(photos=6, points=100, noise_px=0.3).bundle()
    anchors = replace(no_pose_priors(6), down=truth.cam_from_world[:, :, 1], down_sigma_rad=np.full(6, 0.01))
    tilt = exp_so3(np.array([[0.2, 0.0, 0.1]]))[0]
    tilted = replace(
        truth,
        cam_from_world=np.concatenate([truth.cam_from_world[:, :, :3] @ tilt.T, truth.cam_from_world[:, :, 3:]], 2),
        points=truth.points @ tilt.T,
    )
    found, _ = adjust_bundle(tilted, EXACT, pose_priors=anchors)
    off = np.degrees(np.linalg.norm(found.cam_from_world[:, :, 1] - truth.cam_from_world[:, :, 1], axis=1))
    assert off.max() < 0.5


def test_depths_hold_two_photos_of_one_place(collection: Make) -> None:
    """With key points that are off by twenty pixels the depths are noise; a network's guess is better than that."""
    world = collection(photos=2, points=400, sweep_deg=10.0, noise_px=20.0)
    truth = world.bundle()
    true_depth = camera_points(truth)[:, 2]
    guess = true_depth * np.random.default_rng(0).lognormal(0.0, 0.02, len(true_depth))
    guess[::10] *= 3.0
    held = replace(no_pose_priors(2), fixed=np.ones(2, bool))
    options = replace(EXACT, focal=False)
    errors = []
    for depths in (None, DepthPriors(guess, np.full(len(guess), 0.02))):
        found, _ = adjust_bundle(truth, options, None, np.full(len(guess), 40.0), held, depths)
        errors.append(np.median(np.abs(camera_points(found)[:, 2] / true_depth - 1.0)))
    assert errors[1] < 0.02
    assert errors[1] < 0.3 * errors[0]


def test_frames_that_nobody_knows_are_refused(collection: Make) -> None:
    truth = collection(photos=4, points=50).bundle()
    nothing = no_pose_priors(4)
    assert align_to_pose_priors(truth, nothing, truth.cam_from_world) is None
    one = replace(nothing, fixed=np.arange(4) == 2)
    assert align_to_pose_priors(truth, one, truth.cam_from_world) is None
    line = np.arange(4.0)[:, None] * [1.0, 0.0, 0.0]
    on_a_line = replace(nothing, centre=line, centre_sigma=np.ones((4, 3)))
    assert align_to_pose_priors(truth, on_a_line, truth.cam_from_world) is None
