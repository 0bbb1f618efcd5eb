"""Ground control points: models moved and adjusted to surveyed points, of which some are marked wrongly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.alignment.control_points import ControlFit, ControlOptions, ControlPoints, fit_control
from unposed.optim.alignment.marks import Marks, sight_points
from unposed.optim.bundle.adjust import CpuProblem, adjust_bundle, build_objective, bundle_state, schur_structure
from unposed.optim.bundle.point_priors import PointPriors
from unposed.optim.bundle.pose_priors import no_pose_priors
from unposed.optim.bundle.problem import Bundle, BundleOptions
from unposed.optim.cameras import project
from unposed.optim.rotations import exp_so3
from unposed.optim.similarity import Similarity

Make = Callable[..., Any]
SURVEY = Similarity(5.0, exp_so3(np.array([[0.4, -1.0, 0.3]]))[0], np.array([370_000.0, 5_813_000.0, 34.0]))
"""The survey's frame from the world's: metres on a national grid."""
POINTS = np.array(
    [[0.6, 0.4, -0.5], [-0.7, 0.3, -0.4], [0.1, -0.5, -0.8], [0.9, -0.3, 0.1], [-0.2, 0.5, -0.9], [0, 0, -1]]
)


def surveyed(world: Any, *, noise_px: float = 0.0, noise_m: float = 0.0, seed: int = 1) -> ControlPoints:
    """Control points as every other photo of the world shows them."""
    rng = np.random.default_rng(seed)
    rows = [(point, photo) for point in range(len(POINTS)) for photo in range(point % 2, world.photos, 2)]
    point, photo = np.array(rows).T
    pose = world.cam_from_world[photo]
    y = np.einsum("mij,mj->mi", pose[:, :, :3], POINTS[point]) + pose[:, :, 3]
    xy = project(y, world.photo_intrinsics[photo]) + noise_px * rng.standard_normal((len(y), 2))
    position = SURVEY(POINTS) + noise_m * rng.standard_normal((len(POINTS), 3))
    sigma = np.full(len(POINTS), max(noise_m, 0.001))
    return ControlPoints(position, sigma, Marks(point, photo, xy, np.full(len(xy), max(noise_px, 0.1))))


def fitted(world: Any, control: ControlPoints, start: Bundle, **options: Any) -> ControlFit | str:
    prior = world.initial_intrinsics(source="guess").prior
    return fit_control(start, control, prior, np.ones(world.photos), ControlOptions(**options))


def bent(world: Any) -> Bundle:
    """As a wrong focal length bends a model: photos and points adjusted to it."""
    start = world.bundle()
    wrong = start.intrinsics.copy()
    wrong[:, :2] *= 1.03
    how = BundleOptions(focal=False, max_iterations=50)
    return adjust_bundle(replace(start, intrinsics=wrong), how)[0]


def error_m(fit: ControlFit, world: Any) -> float:
    """Largest error of a camera's position in the survey's frame."""
    centre, true_centre = (
        -np.einsum("cji,cj->ci", poses[:, :, :3], poses[:, :, 3])
        for poses in (fit.bundle.cam_from_world, world.cam_from_world)
    )
    return float(np.linalg.norm(fit.similarity(centre) - SURVEY(true_centre), axis=1).max())


def test_exact_points_give_the_frame_and_mend_the_focal_length(collection: Make) -> None:
    world = collection(photos=8, points=150, sweep_deg=40.0)
    control = surveyed(world)
    moved = fitted(world, control, bent(world), adjust=False)
    found = fitted(world, control, bent(world))
    assert not isinstance(moved, str) and not isinstance(found, str)
    assert moved.used.all() and found.used.all()
    assert found.distance.max() < 0.01 * moved.distance.max()
    assert found.error_px.max() < 0.1
    assert found.bundle.intrinsics[0, 0] == pytest.approx(1500.0, rel=1e-4)
    assert error_m(moved, world) > 0.3
    assert error_m(found, world) < 0.01


def test_noise_leaves_errors_of_its_size(collection: Make) -> None:
    world = collection(photos=8, points=150, sweep_deg=60.0, noise_px=0.5)
    control, start = surveyed(world, noise_px=1.0, noise_m=0.02), bent(world)
    moved, found = fitted(world, control, start, adjust=False), fitted(world, control, start)
    assert not isinstance(moved, str) and not isinstance(found, str)
    assert found.used.all()
    assert 0.003 < np.median(found.distance) < 0.06
    assert 0.5 < np.median(found.error_px) < 1.5
    # Cameras are 30 m away, and their distance hangs on the focal length.
    assert error_m(found, world) < 0.25 < 0.3 * error_m(moved, world)
    assert found.bundle.intrinsics[0, 0] == pytest.approx(1500.0, rel=0.008)  # without points 1529


def test_marks_of_another_photo_and_exchanged_axes_are_found(collection: Make) -> None:
    world = collection(photos=8, points=150, sweep_deg=60.0, noise_px=0.3)
    control = surveyed(world, noise_px=0.5, noise_m=0.01)
    marks, position = control.marks, control.position.copy()
    other = marks.photo.copy()
    wrong = np.flatnonzero((marks.point == 2) & (marks.photo == 4))
    other[wrong] = 7  # it was marked in photo 4, and is listed as one in photo 7
    position[4, [1, 2]] = SURVEY(POINTS[4])[[2, 1]]
    found = fitted(world, replace(control, position=position, marks=replace(marks, photo=other)), world.bundle())
    assert not isinstance(found, str)
    assert found.used.tolist() == [True, True, True, True, False, True]
    assert np.flatnonzero(~found.seen.right).tolist() == wrong.tolist()
    assert found.distance[4] > 1e6
    assert found.distance[found.used].max() < 0.05


def test_what_determines_no_frame_is_refused_with_the_reason(collection: Make) -> None:
    world = collection(photos=6, points=100, sweep_deg=40.0)
    control, start = surveyed(world), world.bundle()
    northing = replace(control, position=control.position[:, [1, 0, 2]])
    assert "X and Y exchanged" in str(fitted(world, northing, start))
    line = replace(control, position=np.outer(np.arange(6.0), [1.0, 2.0, 3.0]))
    assert "line" in str(fitted(world, line, start, max_error_px=50.0))
    once = control.marks.of(control.marks.photo < 1)
    assert "three are needed" in str(fitted(world, replace(control, marks=once), start))


def test_two_marks_that_disagree_give_no_point(collection: Make) -> None:
    world = collection(photos=6, points=50, sweep_deg=40.0)
    marks = surveyed(world).marks
    two = marks.of((marks.point == 0) & (marks.photo < 4))
    bound = np.full(len(two.xy), 10.0)
    assert np.linalg.norm(sight_points(world.bundle(), two, 1, bound, 1.0).position[0] - POINTS[0]) < 1e-6
    off = replace(two, xy=two.xy + np.array([[0.0, 60.0], [0.0, 0.0]]))
    assert np.isnan(sight_points(world.bundle(), off, 1, bound, 1.0).position).all()


@pytest.mark.parametrize("shaped", [False, True])
def test_the_gradient_of_priors_of_points_is_that_of_the_cost(collection: Make, shaped: bool) -> None:
    bundle = collection(photos=4, points=20, sweep_deg=40.0, noise_px=1.0).bundle()
    own = np.arange(0, len(bundle.points), 3)[::-1].copy()
    rng = np.random.default_rng(0)
    shift = rng.normal(0.0, 0.1, (len(own), 3))
    shape = rng.normal(0.0, 1.0, (len(own), 3, 3)) if shaped else None
    priors = PointPriors(own, bundle.points[own] + shift, np.full(len(own), 0.03), shape=shape)
    task = build_objective(bundle, BundleOptions(), point_priors=priors)
    problem = CpuProblem(task, schur_structure(task.order, task.free.pose_size, task.free.intrinsics_size))
    state = bundle_state(bundle, task.order)
    system = problem.linearize(state)
    none = (np.zeros_like(system.photo_gradient), np.zeros_like(system.camera_gradient))
    for at, expected in np.ndenumerate(system.point_gradient):
        step = np.zeros_like(system.point_gradient)
        step[at] = 1e-6
        costs = [problem.cost(task.retract(state, *none, sign * step)) for sign in (1.0, -1.0)]
        assert expected == pytest.approx((costs[0] - costs[1]) / 2e-6, rel=1e-4, abs=1e-2)


def test_points_go_to_their_priors_as_far_as_their_sigmas_say(collection: Make) -> None:
    bundle = collection(photos=6, points=100).bundle()
    held = replace(no_pose_priors(6), fixed=np.ones(6, bool))
    aside = bundle.points[:5] + np.array([0.0, 0.05, 0.0])
    for sigma, share in ((0.0001, 1.0), (10.0, 0.0)):
        priors = PointPriors(np.arange(5), aside, np.full(5, sigma), loss_sigmas=1e6)
        how = BundleOptions(focal=False, loss_px=100.0, max_iterations=60)
        found, _ = adjust_bundle(bundle, how, pose_priors=held, point_priors=priors)
        assert np.allclose((found.points - bundle.points)[:5, 1], 0.05 * share, atol=0.003)
        assert np.allclose(found.points[5:], bundle.points[5:], atol=1e-9)
