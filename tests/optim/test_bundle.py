"""Bundle adjustment: derivatives, convergence to the truth, and the same minimum as Ceres."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import unposed.optim.bundle as bundle_module
from unposed.optim.bundle import Adjust, Bundle, Prior, adjust, camera_points, errors_px
from unposed.optim.rotations import exp_so3

Make = Callable[..., Any]
ALL = Adjust(principal=True, distortion=True, max_iterations=100, tolerance=1e-12)
OPENCV = (1500.0, 1520.0, 810.0, 590.0, -0.05, 0.02, 0.001, -0.002)


def disturbed(bundle: Bundle, size: float = 1.0, seed: int = 0) -> Bundle:
    """Cameras turned by about a degree and moved by a percent of their distance, points too, lenses off a little."""
    rng = np.random.default_rng(seed)
    poses = bundle.cam_from_world.copy()
    poses[:, :, :3] = exp_so3(0.02 * size * rng.standard_normal((len(poses), 3))) @ poses[:, :, :3]
    poses[:, :, 3] += 0.05 * size * rng.standard_normal((len(poses), 3))
    lens = bundle.intrinsics.copy()
    lens[:, :2] *= 1.0 + 0.05 * size
    points = bundle.points + 0.05 * size * rng.standard_normal(bundle.points.shape)
    return replace(bundle, cam_from_world=poses, intrinsics=lens, points=points)


def step_by(bundle: Bundle, spread: np.ndarray, unknowns: np.ndarray) -> Bundle:
    """The bundle moved along its unknowns: poses, intrinsics, points, as the normal equations number them."""
    c, (k, _, q) = len(bundle.cam_from_world), spread.shape
    pose, lens, point = np.split(unknowns, [6 * c, 6 * c + q * k])
    pose = pose.reshape(c, 6)
    moved = np.concatenate(
        [exp_so3(pose[:, :3]) @ bundle.cam_from_world[:, :, :3], bundle.cam_from_world[:, :, 3:] + pose[:, 3:, None]], 2
    )
    intrinsics = bundle.intrinsics + np.einsum("kiq,kq->ki", spread, lens.reshape(k, q))
    return replace(bundle, cam_from_world=moved, intrinsics=intrinsics, points=bundle.points + point.reshape(-1, 3))


@pytest.mark.parametrize(("model", "lens"), [("SIMPLE_RADIAL", (1500.0, 800.0, 600.0, -0.05)), ("OPENCV", OPENCV)])
@pytest.mark.parametrize("rotations", [True, False])
def test_the_gradient_is_that_of_the_cost(
    collection: Make, model: str, lens: tuple[float, ...], rotations: bool
) -> None:
    """Far from the minimum, where the loss bends and the prior pulls."""
    world = collection(photos=3, points=25, sweep_deg=30.0, model=model, lenses=(lens,), noise_px=1.0)
    bundle = disturbed(world.bundle(wrong=0.2), 0.05)
    options = Adjust(principal=True, distortion=True, loss_px=2.0, rotations=rotations)
    prior = Prior(bundle.intrinsics * 1.01 + 0.01, np.array([[30.0, 30, 9, 9, 0.1, 0.1, 0.01, 0.01]]))
    spread = bundle_module._spread(bundle.models, options)
    system = bundle_module._linearise(bundle, options, prior, spread)
    gradient = np.concatenate([system.g_poses.ravel(), system.g_intrinsics.ravel(), system.g_points.ravel()])
    for i, expected in enumerate(gradient):
        unknowns = np.zeros(len(gradient))
        intrinsic = 18 <= i < 18 + spread.shape[2]
        unknowns[i] = 1e-7 if not intrinsic or np.abs(spread[0, 4:, i - 18]).any() else 1e-3
        ahead, behind = (step_by(bundle, spread, s * unknowns) for s in (1, -1))
        costs = [bundle_module._cost(b, options, prior) for b in (ahead, behind)]
        slope = (costs[0] - costs[1]) / (2.0 * unknowns[i])
        if i < 18 and i % 6 < 3 and not rotations:
            slope = 0.0
        assert expected == pytest.approx(slope, rel=1e-5, abs=1e-4 * np.abs(gradient).max() ** 0.5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lenses": ((1500.0, 800.0, 600.0, -0.05), (1100.0, 500.0, 400.0, 0.03)), "sizes": ((1600, 1200), (1000, 800))},
        {"model": "OPENCV", "lenses": (OPENCV,)},
        {"model": "PINHOLE", "lenses": (OPENCV[:4],)},
    ],
    ids=["one camera", "two cameras", "OPENCV", "PINHOLE"],
)
def test_perfect_observations_end_at_the_truth(collection: Make, options: dict[str, Any]) -> None:
    world = collection(photos=8, points=150, **options)
    truth = world.bundle()
    found, summary = adjust(disturbed(truth), ALL)
    assert summary.initial_cost > 1e3 * len(truth.xy) * summary.final_cost
    assert errors_px(found).max() < 1e-6
    np.testing.assert_allclose(found.intrinsics[:, :4], truth.intrinsics[:, :4], atol=1e-3)
    np.testing.assert_allclose(found.intrinsics[:, 4:], truth.intrinsics[:, 4:], atol=1e-6)
    assert np.nanmax(world.errors(found.cam_from_world).rotation_error_deg) < 1e-5


def test_noise_and_outliers(collection: Make) -> None:
    """Every tenth observation is off by about 80 px; the others by half a pixel."""
    world = collection(photos=10, points=300, noise_px=0.5)
    truth = world.bundle(wrong=0.1)
    found, _ = adjust(disturbed(truth, 0.2), Adjust(loss_px=0.5, max_iterations=60))
    errors = world.errors(found.cam_from_world)
    assert np.nanmax(errors.rotation_error_deg) < 0.4
    assert np.nanmax(errors.centre_error) < 0.03  # of a distance of 6
    assert found.intrinsics[0, 0] == pytest.approx(1500.0, rel=0.01)
    assert np.median(errors_px(found)) < 0.6


def test_what_is_frozen_stays(collection: Make) -> None:
    start = disturbed(collection(photos=5, points=80, noise_px=0.5).bundle(), 0.2)
    found, _ = adjust(start, Adjust(focal=False, rotations=False, max_iterations=5))
    np.testing.assert_array_equal(found.intrinsics, start.intrinsics)
    np.testing.assert_array_equal(found.cam_from_world[:, :, :3], start.cam_from_world[:, :, :3])
    assert (found.cam_from_world[:, :, 3] != start.cam_from_world[:, :, 3]).any(axis=1).all()
    found, _ = adjust(start, Adjust(max_iterations=5))
    np.testing.assert_array_equal(found.intrinsics[:, 2:], start.intrinsics[:, 2:])
    assert (found.intrinsics[:, :2] != start.intrinsics[:, :2]).all()
    assert found.intrinsics[0, 0] == found.intrinsics[0, 1]


def test_the_prior_decides_what_the_photos_do_not(collection: Make) -> None:
    """Two photos hardly tell a principal point: it goes where it is believed to be, the errors stay."""
    world = collection(photos=2, points=400, sweep_deg=8.0, noise_px=0.3)
    start = world.bundle()
    mean = start.intrinsics.copy()
    start.intrinsics[0, 2:4] += [25.0, -15.0]
    prior = Prior(mean, np.array([[np.inf, np.inf, 5.0, 5.0, 1e-6, 1e-6, 1e-6, 1e-6]]))
    options = Adjust(principal=True, distortion=True, max_iterations=60)
    free, _ = adjust(start, options)
    believed, _ = adjust(start, options, prior)
    assert np.abs(believed.intrinsics[0, 2:4] - mean[0, 2:4]).max() < 2.0
    assert np.abs(free.intrinsics[0, 2:4] - mean[0, 2:4]).max() > 6.0
    assert np.median(errors_px(believed)) < 1.2 * np.median(errors_px(free))


def test_points_behind_a_camera_do_no_harm(collection: Make) -> None:
    start = collection(photos=6, points=100, noise_px=0.3).bundle()
    start.points[:5] = start.cam_from_world[0, :, :3].T @ (np.array([0.0, 0.0, -3.0]) - start.cam_from_world[0, :, 3])
    behind = camera_points(start)[:, 2] <= 0
    assert behind.any()
    assert np.isinf(errors_px(start)[behind]).all()
    found, summary = adjust(start, ALL)
    assert np.isfinite(summary.final_cost)
    assert np.isfinite(found.points).all()
    assert np.isfinite(found.cam_from_world).all()
    assert summary.final_cost < summary.initial_cost


def test_photos_without_a_pose_stay_without(collection: Make) -> None:
    world = collection(photos=6, points=100, noise_px=0.3)
    start = world.bundle_without(2)
    found, _ = adjust(start, Adjust(max_iterations=5))
    assert np.isnan(found.cam_from_world[2]).all()
    assert np.isfinite(np.delete(found.cam_from_world, 2, axis=0)).all()


def test_observations_out_of_order_are_refused(collection: Make) -> None:
    bundle = collection(photos=3, points=40).bundle()
    order = np.arange(len(bundle.xy))[::-1]
    jumbled = replace(bundle, xy=bundle.xy[order], photo=bundle.photo[order], point=bundle.point[order])
    with pytest.raises(ValueError, match="sorted by point"):
        adjust(jumbled, Adjust())


def test_the_same_input_gives_the_same_bits(collection: Make) -> None:
    start = disturbed(collection(photos=6, points=100, noise_px=0.5).bundle(wrong=0.05), 0.2)
    first, second = adjust(start, ALL)[0], adjust(start, ALL)[0]
    for name in ("cam_from_world", "intrinsics", "points"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()


def test_large_problems_take_another_solver_to_the_same_place(
    collection: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lenses = ((1500.0, 800.0, 600.0, -0.05), (1100.0, 500.0, 400.0, 0.03))
    world = collection(photos=8, points=150, noise_px=0.5, lenses=lenses, sizes=((1600, 1200), (1000, 800)))
    start = disturbed(world.bundle(wrong=0.05), 0.2)
    for options in (ALL, Adjust(focal=False, max_iterations=100, tolerance=1e-12)):
        dense, dense_summary = adjust(start, options)
        monkeypatch.setattr(bundle_module, "DENSE_LIMIT", 10)
        sparse, sparse_summary = adjust(start, options)
        monkeypatch.undo()
        assert sparse_summary.final_cost == pytest.approx(dense_summary.final_cost, rel=1e-9)
        np.testing.assert_allclose(sparse.intrinsics, dense.intrinsics, rtol=1e-4, atol=1e-5)
