"""Bundle adjustment: derivatives, convergence to the truth, and the same minimum as Ceres."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.bundle import adjust as adjustment, normal_equations, observation_order
from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.bundle.losses import CAUCHY, HUBER, SQUARED, Loss, barron
from unposed.optim.bundle.pose_priors import no_pose_priors
from unposed.optim.bundle.problem import Bundle, BundleOptions, IntrinsicsPrior, camera_points, errors_px
from unposed.optim.rotations import exp_so3

Make = Callable[..., Any]
ALL = BundleOptions(principal=True, distortion=True, max_iterations=100, tolerance=1e-12)
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


FISHEYE = (900.0, 920.0, 810.0, 590.0, -0.03, 0.02, 0.004, -0.002)


@pytest.mark.parametrize(
    ("model", "lens"),
    [
        ("SIMPLE_RADIAL", (1500.0, 800.0, 600.0, -0.05)),
        ("OPENCV", OPENCV),
        ("OPENCV_FISHEYE", FISHEYE),
    ],
)
@pytest.mark.parametrize("rotations", [True, False])
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("loss", [CAUCHY, HUBER, barron(-2.0), SQUARED], ids=lambda loss: loss.name)
def test_the_gradient_is_that_of_the_cost(
    collection: Make, model: str, lens: tuple[float, ...], rotations: bool, grouped: bool, loss: Loss
) -> None:
    """Far from the minimum, where the loss bends and the prior pulls; with one camera, and with one per photo."""
    cameras = 1 if grouped else 3
    world = collection(photos=3, points=25, sweep_deg=30.0, model=model, lenses=(lens,) * cameras, grouped=grouped)
    bundle = disturbed(world.bundle(wrong=0.2), 0.05)
    options = BundleOptions(principal=True, distortion=True, loss=loss, loss_px=2.0, rotations=rotations)
    prior = IntrinsicsPrior(
        bundle.intrinsics * 1.01 + 0.01, np.array([[30.0, 30, 9, 9, 0.1, 0.1, 0.01, 0.01]] * cameras)
    )
    task = adjustment.build_objective(bundle, options, prior, np.linspace(0.5, 2.0, len(bundle.xy)))
    parts = adjustment.schur_structure(task.order, task.free.pose_size, task.free.intrinsics_size)
    state = adjustment.bundle_state(bundle, task.order)
    problem = adjustment.CpuProblem(task, parts)
    system = problem.linearize(state)
    gradients = (system.photo_gradient, system.camera_gradient, system.point_gradient)
    scale = max(np.abs(g).max(initial=0.0) for g in gradients) ** 0.5
    pose = 6 if rotations else 3
    for kind, gradient in enumerate(gradients):
        for at, expected in np.ndenumerate(gradient):
            unknowns = [np.zeros_like(g) for g in gradients]
            lens_unknown = at[1] if kind == 1 else at[1] - pose if kind == 0 else -1
            is_pixels = lens_unknown >= 0 and not task.basis[0, 4:, lens_unknown].any()
            unknowns[kind][at] = 1e-3 if is_pixels else 1e-7
            costs = [problem.cost(task.retract(state, *(s * u for u in unknowns))) for s in (1, -1)]
            slope = (costs[0] - costs[1]) / (2.0 * unknowns[kind][at])
            assert expected == pytest.approx(slope, rel=1e-5, abs=1e-4 * scale)


def test_a_step_that_turns_the_world_far_from_its_origin_changes_no_error(collection: Make) -> None:
    """Photos and points move alike, however far out they are: else steps that bend long loops would be rejected."""
    bundle = collection(photos=4, points=60).bundle()
    far = np.array([1000.0, 500.0, 0.0])
    poses = bundle.cam_from_world.copy()
    poses[:, :, 3] -= poses[:, :, :3] @ far
    bundle = replace(bundle, cam_from_world=poses, points=bundle.points + far)
    task = adjustment.build_objective(bundle, BundleOptions(focal=False))
    state = adjustment.bundle_state(bundle, task.order)
    turn = np.array([0.002, -0.003, 0.004])
    steps = np.zeros((4, 6))
    steps[:, :3] = -poses[:, :, :3] @ turn  # and dt = 0: the world turns about its origin
    moved = task.retract(state, steps, np.zeros((0, 0)), np.cross(turn, state.points.T).T)
    assert moved is not None
    found = adjustment.bundle_with_state(bundle, task.order, moved)
    assert np.abs(found.points - bundle.points).max() > 2.0
    assert errors_px(found).max() < 0.05  # 0.01 off would be 3 pixels


@pytest.mark.parametrize("grouped", [True, False])
def test_blocks_of_points_change_nothing(collection: Make, monkeypatch: pytest.MonkeyPatch, grouped: bool) -> None:
    """Neither how many are eliminated together, nor whether their linearisation is remembered. A photo is fixed."""
    lens = (1500.0, 800.0, 600.0, -0.05)
    world = collection(photos=8, points=150, noise_px=0.5, lenses=(lens,) * (1 if grouped else 8), grouped=grouped)
    bundle = disturbed(world.bundle(wrong=0.05), 0.1)
    anchors = replace(no_pose_priors(8), fixed=np.arange(8) == 3)
    steps, numbers = [], []
    monkeypatch.setattr(observation_order, "MIN_POINTS_PER_PHOTO_PAIR", 0)
    for size, remembered in ((10**6, 10**6), (100, 150)):
        monkeypatch.setattr(normal_equations, "MAX_CACHED", remembered)
        task = adjustment.build_objective(bundle, BundleOptions(distortion=True), pose_priors=anchors, block_size=size)
        parts = adjustment.schur_structure(task.order, task.free.pose_size, task.free.intrinsics_size)
        state = adjustment.bundle_state(bundle, task.order)
        problem = adjustment.CpuProblem(task, parts)
        linear = problem.linearize(state)
        moved = problem.step(state, linear, 1e-3)
        assert moved is not None
        steps.append(adjustment.bundle_with_state(bundle, task.order, moved))
        numbers.append((len(task.order.blocks), len(linear.problem.cache)))
    assert numbers[0][0] == 1 < numbers[1][0]
    assert 0 < numbers[1][1] < sum(len(block.chunks) for block in task.order.blocks)
    for name in ("cam_from_world", "intrinsics", "points"):
        one, many = (getattr(step, name) for step in steps)
        np.testing.assert_allclose(many, one, rtol=1e-8, atol=1e-8)
    assert (steps[0].cam_from_world[3] == bundle.cam_from_world[3]).all()
    assert (steps[0].cam_from_world[4] != bundle.cam_from_world[4]).any()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lenses": ((1500.0, 800.0, 600.0, -0.05), (1100.0, 500.0, 400.0, 0.03)), "sizes": ((1600, 1200), (1000, 800))},
        {"model": "OPENCV", "lenses": (OPENCV,)},
        {"model": "OPENCV_FISHEYE", "lenses": (FISHEYE,), "distance": 3.0},
        {"model": "PINHOLE", "lenses": (OPENCV[:4],)},
        {"lenses": ((1500.0, 800.0, 600.0, -0.05), (1400.0, 790.0, 590.0, 0.03)) * 4, "grouped": False},
    ],
    ids=["one camera", "two cameras", "OPENCV", "OPENCV_FISHEYE", "PINHOLE", "a camera per photo"],
)
def test_perfect_observations_end_at_the_truth(collection: Make, options: dict[str, Any]) -> None:
    world = collection(photos=8, points=150, **options)
    truth = world.bundle()
    found, summary = adjust_bundle(disturbed(truth), ALL)
    assert summary.initial_cost > 1e3 * len(truth.xy) * summary.final_cost
    assert errors_px(found).max() < 1e-6
    np.testing.assert_allclose(found.intrinsics[:, :4], truth.intrinsics[:, :4], atol=1e-3)
    np.testing.assert_allclose(found.intrinsics[:, 4:], truth.intrinsics[:, 4:], atol=1e-6)
    assert np.nanmax(world.errors(found.cam_from_world).rotation_error_deg) < 1e-5


def test_noise_and_outliers(collection: Make) -> None:
    """Every tenth observation is off by about 80 px; the others by half a pixel."""
    world = collection(photos=10, points=300, noise_px=0.5)
    truth = world.bundle(wrong=0.1)
    found, _ = adjust_bundle(disturbed(truth, 0.2), BundleOptions(loss_px=0.5, max_iterations=60))
    errors = world.errors(found.cam_from_world)
    assert np.nanmax(errors.rotation_error_deg) < 0.4
    assert np.nanmax(errors.centre_error) < 0.03  # of a distance of 6
    assert found.intrinsics[0, 0] == pytest.approx(1500.0, rel=0.01)
    assert np.median(errors_px(found)) < 0.6


def test_what_is_frozen_stays(collection: Make) -> None:
    start = disturbed(collection(photos=5, points=80, noise_px=0.5).bundle(), 0.2)
    found, _ = adjust_bundle(start, BundleOptions(focal=False, rotations=False, max_iterations=5))
    np.testing.assert_array_equal(found.intrinsics, start.intrinsics)
    np.testing.assert_array_equal(found.cam_from_world[:, :, :3], start.cam_from_world[:, :, :3])
    assert (found.cam_from_world[:, :, 3] != start.cam_from_world[:, :, 3]).any(axis=1).all()
    found, _ = adjust_bundle(start, BundleOptions(max_iterations=5))
    np.testing.assert_array_equal(found.intrinsics[:, 2:], start.intrinsics[:, 2:])
    assert (found.intrinsics[:, :2] != start.intrinsics[:, :2]).all()
    assert found.intrinsics[0, 0] == found.intrinsics[0, 1]


def test_the_prior_decides_what_the_photos_do_not(collection: Make) -> None:
    """Two photos hardly tell a principal point: it goes to its prior mean, the errors stay."""
    world = collection(photos=2, points=400, sweep_deg=8.0, noise_px=0.3)
    start = world.bundle()
    mean = start.intrinsics.copy()
    start.intrinsics[0, 2:4] += [25.0, -15.0]
    prior = IntrinsicsPrior(mean, np.array([[np.inf, np.inf, 5.0, 5.0, 1e-6, 1e-6, 1e-6, 1e-6]]))
    options = BundleOptions(principal=True, distortion=True, max_iterations=60)
    free, _ = adjust_bundle(start, options)
    with_prior, _ = adjust_bundle(start, options, prior)
    assert np.abs(with_prior.intrinsics[0, 2:4] - mean[0, 2:4]).max() < 2.0
    assert np.abs(free.intrinsics[0, 2:4] - mean[0, 2:4]).max() > 6.0
    assert np.median(errors_px(with_prior)) < 1.2 * np.median(errors_px(free))


def test_points_behind_a_camera_do_no_harm(collection: Make) -> None:
    start = collection(photos=6, points=100, noise_px=0.3).bundle()
    start.points[:5] = start.cam_from_world[0, :, :3].T @ (np.array([0.0, 0.0, -3.0]) - start.cam_from_world[0, :, 3])
    behind = camera_points(start)[:, 2] <= 0
    assert behind.any()
    assert np.isinf(errors_px(start)[behind]).all()
    found, summary = adjust_bundle(start, ALL)
    assert np.isfinite(summary.final_cost)
    assert np.isfinite(found.points).all()
    assert np.isfinite(found.cam_from_world).all()
    assert summary.final_cost < summary.initial_cost


def test_photos_without_a_pose_stay_without(collection: Make) -> None:
    world = collection(photos=6, points=100, noise_px=0.3)
    start = world.bundle_without(2)
    found, _ = adjust_bundle(start, BundleOptions(max_iterations=5))
    assert np.isnan(found.cam_from_world[2]).all()
    assert np.isfinite(np.delete(found.cam_from_world, 2, axis=0)).all()


def test_observations_out_of_order_are_refused(collection: Make) -> None:
    bundle = collection(photos=3, points=40).bundle()
    order = np.arange(len(bundle.xy))[::-1]
    jumbled = replace(bundle, xy=bundle.xy[order], photo=bundle.photo[order], point=bundle.point[order])
    with pytest.raises(ValueError, match="sorted by point"):
        adjust_bundle(jumbled, BundleOptions())


def test_the_same_input_gives_the_same_bits(collection: Make) -> None:
    start = disturbed(collection(photos=6, points=100, noise_px=0.5).bundle(wrong=0.05), 0.2)
    first, second = adjust_bundle(start, ALL)[0], adjust_bundle(start, ALL)[0]
    for name in ("cam_from_world", "intrinsics", "points"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()


@pytest.mark.parametrize("method", ["dense", "banded", "conjugate gradients"])
def test_all_methods_of_solving_lead_to_the_same_place(
    collection: Make, monkeypatch: pytest.MonkeyPatch, method: Any
) -> None:
    lenses = ((1500.0, 800.0, 600.0, -0.05), (1100.0, 500.0, 400.0, 0.03))
    world = collection(photos=12, points=150, noise_px=0.5, lenses=lenses, sizes=((1600, 1200), (1000, 800)))
    start = disturbed(world.bundle(wrong=0.05), 0.2)
    plain = adjustment.schur_structure

    def with_method(*args: Any) -> Any:
        found = plain(*args)
        return replace(found, plan=replace(found.plan, method=method))

    exact = {"max_iterations": 100, "tolerance": 1e-12}
    for options in (BundleOptions(distortion=True, **exact), BundleOptions(focal=False, **exact)):
        usual, usual_summary = adjust_bundle(start, options)
        monkeypatch.setattr(adjustment, "schur_structure", with_method)
        found, summary = adjust_bundle(start, options)
        monkeypatch.undo()
        assert summary.final_cost == pytest.approx(usual_summary.final_cost, rel=1e-9)
        np.testing.assert_allclose(found.intrinsics, usual.intrinsics, rtol=1e-4, atol=1e-5)


def test_the_costs_on_the_way(collection: Make) -> None:
    _, summary = adjust_bundle(disturbed(collection(photos=6, points=100, noise_px=0.5).bundle(), 0.3), ALL)
    assert summary.costs[0] == summary.initial_cost
    assert summary.costs[-1] == summary.final_cost
    assert (np.diff(summary.costs) < 0).all()
    assert 3 <= len(summary.costs) <= summary.iterations + 1


def test_a_photo_may_see_a_point_twice(collection: Make) -> None:
    """Tracks avoid it, but nothing should break: the same as if the second sight came from a twin of the photo."""
    world = collection(photos=6, points=100, noise_px=0.5)
    start = world.bundle()
    twice = np.sort(np.concatenate([np.arange(len(start.xy)), np.flatnonzero(start.photo == 2)]))
    doubled = replace(start, **{name: getattr(start, name)[twice] for name in ("xy", "photo", "point", "row")})
    weighed = np.where(start.photo == 2, 0.5**0.5, 1.0)
    options = BundleOptions(loss=SQUARED, max_iterations=50, tolerance=1e-12)
    a, b = adjust_bundle(doubled, options)[1], adjust_bundle(start, options, sigma=weighed)[1]
    assert a.final_cost == pytest.approx(b.final_cost, rel=1e-9)
    assert a.iterations == b.iterations


def test_usual_observations_are_of_sigma_one(collection: Make) -> None:
    start = collection(photos=5, points=100, noise_px=0.5).bundle()
    plain, given = (
        adjust_bundle(start, BundleOptions())[0],
        adjust_bundle(start, BundleOptions(), sigma=np.ones(len(start.xy)))[0],
    )
    assert plain.cam_from_world.tobytes() == given.cam_from_world.tobytes()


def test_twice_the_sigma_is_half_the_error(collection: Make) -> None:
    """Dividing all errors by two is measuring in units of two pixels."""
    start = collection(photos=5, points=100, noise_px=0.5).bundle(wrong=0.05)
    exact = {"max_iterations": 100, "tolerance": 1e-12}
    halved, summary = adjust_bundle(start, BundleOptions(loss_px=1.0, **exact), sigma=np.full(len(start.xy), 2.0))
    plain, plain_summary = adjust_bundle(start, BundleOptions(loss_px=2.0, **exact))
    assert summary.final_cost == pytest.approx(plain_summary.final_cost / 4.0, rel=1e-9)
    np.testing.assert_allclose(halved.intrinsics, plain.intrinsics, rtol=1e-5)


def test_inexact_observations_pull_less(collection: Make) -> None:
    """Every third observation is four times as noisy: with their sigma the result is nearer to the truth."""
    off = {"known": [], "unknown": []}
    for seed in range(4):
        world = collection(photos=8, points=250, seed=seed)
        start = world.bundle()
        sigma = np.where(np.arange(len(start.xy)) % 3 == 0, 4.0, 1.0)
        start.xy[:] += 0.3 * sigma[:, None] * np.random.default_rng(seed).standard_normal(start.xy.shape)
        for name, given in (("known", sigma), ("unknown", None)):
            found, _ = adjust_bundle(start, BundleOptions(loss_px=2.0, max_iterations=50, tolerance=1e-9), sigma=given)
            off[name].append(np.nanmean(world.errors(found.cam_from_world).centre_error))
    assert np.mean(off["known"]) < 0.9 * np.mean(off["unknown"])
