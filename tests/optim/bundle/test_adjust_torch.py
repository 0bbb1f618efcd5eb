"""Bundle adjustment by torch goes the same way as without."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from unposed.optim.bundle import torch_conjugate_gradients, torch_layout
from unposed.optim.bundle.adjust import (
    CpuProblem,
    adjust_bundle,
    build_objective,
    bundle_state,
    levenberg_marquardt,
    schur_structure,
)
from unposed.optim.bundle.adjust_torch import TorchProblem, adjust_by_torch
from unposed.optim.bundle.losses import HUBER, SQUARED, barron
from unposed.optim.bundle.pose_priors import DepthPriors, no_pose_priors
from unposed.optim.bundle.problem import BundleOptions, IntrinsicsPrior, camera_points
from unposed.optim.bundle.schur import solve_step
from unposed.optim.bundle.torch_schur import ImplicitSchurComplement
from unposed.optim.poses import camera_centres

Make = Callable[..., Any]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TWO = {"lenses": ((1500.0, 800.0, 600.0, -0.05), (1100.0, 500.0, 400.0, 0.03)), "sizes": ((1600, 1200), (1000, 800))}
OPENCV = (1500.0, 1520.0, 810.0, 590.0, -0.05, 0.02, 0.001, -0.002)
WORLDS = {
    "one camera": {},
    "two cameras": TWO,
    "a camera per photo": {"lenses": ((1500.0, 800.0, 600.0, -0.05),) * 8, "grouped": False},
    "OPENCV": {"model": "OPENCV", "lenses": (OPENCV,)},
    "OPENCV_FISHEYE": {"model": "OPENCV_FISHEYE", "lenses": (OPENCV,)},
}
OPTIONS = {
    "usual": BundleOptions(distortion=True),
    "everything": BundleOptions(principal=True, distortion=True, loss=HUBER),
    "frozen lenses": BundleOptions(focal=False, loss=barron(-2.0)),
    "frozen rotations": BundleOptions(rotations=False, loss=SQUARED),
}


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_step_is_the_same(
    collection: Make, monkeypatch: pytest.MonkeyPatch, world: dict[str, Any], options: BundleOptions
) -> None:
    """With all that may pull on it, in pieces, and solved to the end."""
    monkeypatch.setattr(torch_layout, "TORCH_CHUNK_SIZE", 100)
    monkeypatch.setattr(torch_conjugate_gradients, "TORCH_CG_TOLERANCE", 1e-12)
    monkeypatch.setattr(torch_conjugate_gradients, "TORCH_CG_MAX_ITERATIONS", 2000)
    made = collection(photos=8, points=60, noise_px=1.0, **world)
    bundle = made.bundle(wrong=0.05)
    sigma = np.linspace(0.5, 2.0, len(bundle.xy))
    prior = IntrinsicsPrior(bundle.intrinsics * 1.01, np.full(bundle.intrinsics.shape, 0.5))
    depths = DepthPriors(1.1 * camera_points(bundle)[:, 2], np.full(len(bundle.xy), 0.1))
    centre = -np.einsum("cji,cj->ci", bundle.cam_from_world[:, :, :3], bundle.cam_from_world[:, :, 3])
    anchors = replace(
        no_pose_priors(8), fixed=np.arange(8) == 2, centre=centre + 0.1, centre_sigma=np.full((8, 3), 0.1)
    )
    task = build_objective(bundle, options, prior, sigma, anchors, depths)
    state = bundle_state(bundle, task.order)
    parts = schur_structure(task.order, task.free.pose_size, task.free.intrinsics_size)
    own = CpuProblem(task, parts)
    there = TorchProblem(task, torch.device(DEVICE), len(bundle.points), torch.float64)
    sent = replace(state, points=there.layout.to_device(state.points))
    assert there.cost(sent) == pytest.approx(own.cost(state), rel=1e-12)
    system, linear = own.linearize(state), there.linearize(sent)
    for name in ("photo", "photo_gradient", "camera", "camera_gradient", "photo_camera", "point", "point_gradient"):
        expected, found = getattr(system, name), getattr(linear, name).cpu().numpy()
        assert found.size == expected.size
        if found.size:
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    expected_step = solve_step(parts, system, 1e-3)
    assert expected_step is not None
    photos, cameras = ImplicitSchurComplement(there.layout, linear, 1e-3).solve()
    np.testing.assert_allclose(photos.cpu().numpy(), expected_step.photos, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(cameras.cpu().numpy(), expected_step.cameras, rtol=1e-5, atol=1e-8)
    points = ImplicitSchurComplement(there.layout, linear, 1e-3).points(photos, cameras)
    np.testing.assert_allclose(points.cpu().numpy(), expected_step.points, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("longest", [10, 64, 65, 300])
def test_sums_in_parts_are_sums(longest: int) -> None:
    """Owners without rows, with a part, with exactly one, and with several."""
    random = np.random.default_rng(longest)
    owner = np.concatenate([np.full(longest, 3), random.integers(4, 9, 40), np.full(64, 10), np.full(128, 12)])
    for order in (np.arange(len(owner)), random.permutation(len(owner))):
        rows = random.standard_normal((len(owner), 2, 3))
        expected = np.zeros((14, 2, 3))
        np.add.at(expected, owner[order], rows)
        sums = torch_layout.TorchSegmentSums(owner[order], 14, torch.device(DEVICE))
        np.testing.assert_allclose(sums(torch.from_numpy(rows).to(DEVICE)).cpu().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("world", [{}, TWO], ids=["one camera", "two cameras"])
def test_the_minimum_is_the_same(collection: Make, world: dict[str, Any]) -> None:
    bundle = collection(photos=20, points=400, noise_px=0.5, **world).bundle(wrong=0.02, wrong_px=20.0)
    options = BundleOptions(distortion=True, loss_px=1.0, max_iterations=200, tolerance=1e-10)
    found, summary = adjust_by_torch(DEVICE, bundle, options)
    expected, expected_summary = adjust_bundle(bundle, options)
    assert summary.initial_cost == pytest.approx(expected_summary.initial_cost, rel=1e-12)
    assert summary.final_cost == pytest.approx(expected_summary.final_cost, rel=1e-7)
    np.testing.assert_allclose(found.intrinsics, expected.intrinsics, rtol=1e-3, atol=1e-4)
    again, _ = adjust_by_torch(DEVICE, bundle, options)
    assert again.points.tobytes() == found.points.tobytes()


def test_photos_far_from_the_origin_turn_about_what_they_see(collection: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU, where some are far and others are not, and piece by piece; steps that only turn would differ."""
    monkeypatch.setattr(torch_layout, "TORCH_CHUNK_SIZE", 100)
    monkeypatch.setattr(torch_conjugate_gradients, "TORCH_CG_TOLERANCE", 1e-12)
    monkeypatch.setattr(torch_conjugate_gradients, "TORCH_CG_MAX_ITERATIONS", 2000)
    bundle = collection(photos=8, points=60, noise_px=1.0).bundle(wrong=0.05)
    far = (
        3.0
        * np.linalg.norm(bundle.points.mean(axis=0) - camera_centres(bundle.cam_from_world), axis=1).mean()
        * np.eye(3)[0]
    )
    poses = bundle.cam_from_world.copy()
    poses[:, :, 3] -= poses[:, :, :3] @ far
    bundle = replace(bundle, cam_from_world=poses, points=bundle.points + far)
    task = build_objective(bundle, BundleOptions(distortion=True))
    state = bundle_state(bundle, task.order)
    own = CpuProblem(task, schur_structure(task.order, task.free.pose_size, task.free.intrinsics_size))
    there = TorchProblem(task, torch.device(DEVICE), len(bundle.points))
    sent = replace(state, points=there.layout.to_device(state.points))
    expected, found = own.step(state, own.linearize(state), 1e-3), there.step(sent, there.linearize(sent), 1e-3)
    assert expected is not None and found is not None
    np.testing.assert_allclose(found.poses, expected.poses, rtol=1e-6, atol=1e-6)
    photos, cameras = ImplicitSchurComplement(there.layout, there.linearize(sent), 1e-3).solve()
    nobody = np.zeros((2, 3, 8))
    about_origin = task.retract(state, photos.cpu().numpy(), cameras.cpu().numpy(), expected.points, nobody)
    assert about_origin is not None
    moved = np.abs(found.poses - about_origin.poses).max(axis=0)
    assert 0 < np.count_nonzero(moved > 1e-4) < 8


def test_tracks_of_any_length_stay_whole(collection: Make) -> None:
    """No pair of observations is multiplied here, so that nothing is gained by cutting tracks."""
    bundle = collection(photos=12, points=80, noise_px=0.5).bundle(wrong=0.02)
    options = BundleOptions(max_track_length=4, max_iterations=100, tolerance=1e-10)
    whole = adjust_bundle(bundle, replace(options, max_track_length=12))[1].final_cost
    assert adjust_bundle(bundle, options)[1].final_cost < 0.99 * whole
    assert adjust_by_torch(DEVICE, bundle, options)[1].final_cost == pytest.approx(whole, rel=1e-7)


@pytest.mark.parametrize("world", [{}, TWO], ids=["one camera", "two cameras"])
def test_jacobians_in_float32_lead_to_the_same_minimum(collection: Make, world: dict[str, Any]) -> None:
    """And moving the whole world costs as little: normal equations of rounded Jacobians have no negative curvature."""
    bundle = collection(photos=12, points=150, noise_px=0.5, **world).bundle(wrong=0.02)
    options = BundleOptions(distortion=True, max_iterations=60, tolerance=1e-12)
    task = build_objective(bundle, options, block_size=len(bundle.xy))
    costs = []
    for stored in (torch.float32, torch.float64):
        there = TorchProblem(task, torch.device(DEVICE), len(bundle.points), stored)
        state = bundle_state(bundle, task.order)
        state = replace(state, points=there.layout.to_device(state.points))
        system = ImplicitSchurComplement(there.layout, there.linearize(state), 1e-10)
        photos = np.zeros((12, 6))
        photos[:, 3:] = bundle.cam_from_world[task.order.photos, :, :3] @ [1.0, 2.0, 3.0]  # the world moves
        moved = there.layout.to_device(photos), torch.zeros_like(system.camera[:, 0])
        cost = sum(float((a * b).sum()) for a, b in zip(moved, system.multiply(moved), strict=True))
        diagonal = float((moved[0] ** 2 * system.photo.diagonal(dim1=1, dim2=2)).sum())
        assert 0.0 < cost < 1e-9 * diagonal
        costs.append(levenberg_marquardt(there, state, options)[1].final_cost)
    assert costs[0] == pytest.approx(costs[1], rel=1e-9)
