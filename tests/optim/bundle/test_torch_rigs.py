"""Bundle adjustment by torch of photos that rigs tie to each other goes the same way as without torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from rig_worlds import SENSORS, disturbed, four_sided_rig, rig_bundle

from unposed.optim.bundle import torch_conjugate_gradients, torch_layout
from unposed.optim.bundle.adjust import CpuProblem, adjust_bundle
from unposed.optim.bundle.adjust_torch import TorchProblem, adjust_by_torch
from unposed.optim.bundle.objective import build_objective, bundle_state
from unposed.optim.bundle.pose_priors import PosePriors, no_pose_priors
from unposed.optim.bundle.problem import Bundle, BundleOptions, errors_px
from unposed.optim.bundle.schur import schur_structure
from unposed.optim.rigs import Rigs, frame_poses, photo_poses
from unposed.optim.rotations import exp_so3, rotation_angle_deg

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FREE = BundleOptions(focal=False, max_iterations=100, tolerance=1e-12)
OPTIONS = {
    "poses": FREE,
    "lenses": replace(FREE, focal=True, distortion=True),
    "positions": replace(FREE, rotations=False),
}


def start_of(rigs: Rigs) -> Bundle:
    """With noise, wrong poses and points, and sensors that are turned where they are refined."""
    start = disturbed(rig_bundle(rigs, noise_px=0.3))
    turned = rigs.sensor_from_rig.copy()
    turned[1:, :, :3] = exp_so3(np.random.default_rng(3).normal(0.0, 0.01, (SENSORS - 1, 3))) @ turned[1:, :, :3]
    wrong = replace(rigs, sensor_from_rig=np.where(rigs.refined[:, None, None], turned, rigs.sensor_from_rig))
    poses = photo_poses(wrong, frame_poses(rigs, start.cam_from_world))
    return replace(start, rigs=wrong, cam_from_world=poses)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(("central", "refined"), [(True, False), (False, False), (False, True)])
def test_a_step_is_the_same(
    monkeypatch: pytest.MonkeyPatch, central: bool, refined: bool, options: BundleOptions
) -> None:
    """Far from the origin, with one photo that stands still, in pieces, and solved to the end."""
    monkeypatch.setattr(torch_layout, "TORCH_CHUNK_SIZE", 100)
    monkeypatch.setattr(torch_conjugate_gradients, "TORCH_CG_TOLERANCE", 1e-12)
    monkeypatch.setattr(torch_conjugate_gradients, "TORCH_CG_MAX_ITERATIONS", 5000)
    start, far = start_of(four_sided_rig(central=central, refined=refined)), np.array([30.0, 10.0, 0.0])
    poses = start.cam_from_world.copy()
    poses[:, :, 3] -= poses[:, :, :3] @ far
    start = replace(start, cam_from_world=poses, points=start.points + far)
    still: PosePriors = replace(no_pose_priors(len(poses)), fixed=np.arange(len(poses)) < SENSORS)
    task = build_objective(start, options, pose_priors=still)
    state = bundle_state(start, task.order)
    own = CpuProblem(task, schur_structure(task.order, task.free.pose_size, task.free.intrinsics_size, start.rigs))
    there = TorchProblem(task, torch.device(DEVICE), len(start.points), torch.float64)
    sent = replace(state, points=there.layout.to_device(state.points))
    expected, found = own.step(state, own.linearize(state), 1e-3), there.step(sent, there.linearize(sent), 1e-3)
    assert expected is not None and found is not None and expected.sensors is not None
    assert np.abs(expected.poses - state.poses).max() > 1e-3
    np.testing.assert_allclose(found.poses, expected.poses, atol=1e-6)
    np.testing.assert_allclose(found.intrinsics, expected.intrinsics, rtol=1e-6)
    np.testing.assert_allclose(found.points.cpu().numpy(), expected.points, atol=1e-6)
    np.testing.assert_allclose(found.sensors, expected.sensors, atol=1e-7)
    assert (np.abs(expected.sensors - state.sensors).max() > 1e-3) == (refined and options.rotations)


@pytest.mark.parametrize(("central", "refined"), [(True, False), (False, False), (False, True)])
def test_the_minimum_is_the_same_and_rigs_hold(central: bool, refined: bool) -> None:
    start = start_of(four_sided_rig(central=central, refined=refined))
    soon = replace(FREE, max_iterations=40, tolerance=1e-8)  # steps by conjugate gradients are more, and shorter
    found, summary = adjust_by_torch(DEVICE, start, soon)
    expected, expected_summary = adjust_bundle(start, FREE)
    assert summary.initial_cost == pytest.approx(expected_summary.initial_cost, rel=1e-12)
    assert summary.final_cost == pytest.approx(expected_summary.final_cost, rel=1e-4)
    assert found.rigs is not None and expected.rigs is not None
    frames = frame_poses(found.rigs, found.cam_from_world)
    for frame in range(int(found.rigs.frame_of_photo.max()) + 1):
        own = frames[found.rigs.frame_of_photo == frame]
        np.testing.assert_allclose(own, np.broadcast_to(own[:1], own.shape), atol=1e-10)
    turn = found.rigs.sensor_from_rig[:, :, :3] @ expected.rigs.sensor_from_rig[:, :, :3].transpose(0, 2, 1)
    assert rotation_angle_deg(turn).max() < 1e-2


def test_equal_input_gives_equal_bits() -> None:
    start, few = start_of(four_sided_rig(central=False, refined=True)), replace(FREE, max_iterations=3)
    once, again = (adjust_by_torch(DEVICE, start, few)[0] for _ in range(2))
    assert again.cam_from_world.tobytes() == once.cam_from_world.tobytes()


def test_exact_observations_lead_to_the_truth() -> None:
    found, _ = adjust_by_torch(DEVICE, disturbed(rig_bundle(four_sided_rig(central=False))), FREE)
    assert errors_px(found).max() < 1e-4
