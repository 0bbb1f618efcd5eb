"""Late photos beside held ones: the points that they see, what held photos say of these, and whether that agrees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.bundle.covariance import covariance
from unposed.optim.bundle.losses import CAUCHY, SQUARED
from unposed.optim.bundle.pose_priors import no_pose_priors
from unposed.optim.bundle.problem import Bundle, BundleOptions
from unposed.optim.mapping.held_photos import (
    held_observations,
    observations,
    seen_points,
    sorted_by_point,
    tension,
)
from unposed.optim.mapping.triangulation import keep_observations
from unposed.optim.rotations import exp_so3

Make = Callable[..., Any]
POSES = BundleOptions(focal=False, loss_px=2.0, max_iterations=60, tolerance=1e-12)

SQUARED_ERRORS = replace(POSES, loss=SQUARED)


def late_of(photos: int, *late: int) -> np.ndarray[Any, Any]:
    return np.isin(np.arange(photos), late)


def test_held_observations_as_priors_place_a_late_photo_as_all_observations_do(collection: Make) -> None:
    bundle, late = collection(photos=8, points=150, noise_px=0.5).bundle(), late_of(8, 3)
    seen = np.bincount(bundle.point, late[bundle.photo], len(bundle.points)) > 0
    bundle = keep_observations(bundle, seen[bundle.point])
    off = bundle.cam_from_world.copy()
    off[3, :, :3] = exp_so3(np.array([[0.004, -0.003, 0.002]]))[0] @ off[3, :, :3]
    start, of_late = replace(bundle, cam_from_world=off), late[bundle.photo]
    expected, _ = with_free(start, 3)
    priors = held_observations(start, ~of_late, SQUARED, 2.0, np.ones(len(of_late)))
    found, _ = adjust_bundle(keep_observations(start, of_late, 1), SQUARED_ERRORS, point_priors=priors)
    moved = np.abs(expected.cam_from_world[3] - off[3]).max()
    assert np.abs(found.cam_from_world[3] - expected.cam_from_world[3]).max() < 0.01 * moved
    assert np.median(np.abs(found.points - expected.points)) < 1e-4


def test_tension_is_that_of_noise_until_a_part_is_off_as_a_whole(collection: Make) -> None:
    """Two halves without common points: each fits its own, and only the late photo sees how they lie to each other."""
    world, late = collection(photos=12, points=300, noise_px=0.5), late_of(12, 5)
    found = []
    for turn in (0.0, 8e-3):
        bundle = beside_held(halves(world.bundle(), late, turn), late)
        found.append(tension(bundle, late, CAUCHY, 2.0, np.ones(len(bundle.xy))))
    assert 0.2 < found[0] < 1.5
    assert found[1] > 4.0
    old = ~late[bundle.photo]
    assert tension(observations(bundle, old), late, CAUCHY, 2.0, np.ones(int(old.sum()))) == 0.0


def halves(bundle: Bundle, late: np.ndarray[Any, Any], turn: float) -> Bundle:
    """The photos from 6 on see points of their own, and all of that has turned; late photos see one half of each."""
    other = (bundle.photo >= 6) | (late[bundle.photo] & (bundle.point % 2 == 1))
    rotation, poses = exp_so3(np.array([[0.0, turn, 0.0]]))[0], bundle.cam_from_world.copy()
    poses[6:, :, :3] = poses[6:, :, :3] @ rotation.T
    points = np.concatenate([bundle.points, bundle.points @ rotation.T])
    moved = replace(bundle, cam_from_world=poses, points=points, point=bundle.point + len(bundle.points) * other)
    return sorted_by_point(moved)


def beside_held(bundle: Bundle, late: np.ndarray[Any, Any]) -> Bundle:
    """The points that late photos see, where these have settled beside the others."""
    seen = np.bincount(bundle.point, late[bundle.photo], len(bundle.points)) > 0
    bundle = keep_observations(bundle, seen[bundle.point])
    return adjust_bundle(bundle, POSES, pose_priors=replace(no_pose_priors(len(late)), fixed=~late))[0]


def test_the_energy_behind_tension_is_what_freedom_would_gain(collection: Make) -> None:
    """The cost falls by half of it where all may move. Of one photo's freedom the fall is at most that."""
    world = collection(photos=7, points=250, noise_px=0.5)
    bundle, late = world.bundle(), late_of(7, 3)
    settled, _ = adjust_bundle(keep_observations(bundle, ~late[bundle.photo]), SQUARED_ERRORS)
    poses = np.where(late[:, None, None], bundle.cam_from_world, settled.cam_from_world)
    start, kept = with_free(replace(bundle, cam_from_world=poses), 3)
    _, free = adjust_bundle(start, SQUARED_ERRORS)
    strain = tension(start, late, SQUARED, 2.0, np.ones(len(start.xy)))
    noise2 = 2.0 * kept / (2 * len(start.xy) - 3 * len(start.points) - 6)
    added = 2.0 * (kept - free.final_cost) / noise2 / strain  # degrees of freedom that the late photo adds to others
    assert 0.1 < strain < 2.5
    shares = [added_share(start, late, photo) for photo in np.flatnonzero(~late).tolist()]
    assert added == pytest.approx(sum(shares), rel=0.1)


def added_share(bundle: Bundle, late: np.ndarray[Any, Any], photo: int) -> float:
    """trace(S_i^-1 D_i) of a photo from covariances: those of its pose alone, with and without the late photos."""
    own, without = (pose_information(each, photo) for each in (bundle, keep_observations(bundle, ~late[bundle.photo])))
    return float(np.trace(np.linalg.solve(own, own - without)))


def pose_information(bundle: Bundle, photo: int) -> np.ndarray[Any, Any]:
    """The inverse covariance of a photo's pose where the others are known, for noise of one pixel."""
    held = np.arange(len(bundle.cam_from_world)) != photo
    found = covariance(bundle, SQUARED_ERRORS, pose_priors=replace(no_pose_priors(len(held)), fixed=held))
    return np.linalg.inv(found.poses[photo] / found.noise_px**2)


def with_free(bundle: Bundle, *free: int) -> tuple[Bundle, float]:
    """The bundle with these photos and all points at the least cost, and this cost."""
    held = ~late_of(len(bundle.cam_from_world), *free)
    done, summary = adjust_bundle(bundle, SQUARED_ERRORS, pose_priors=replace(no_pose_priors(len(held)), fixed=held))
    return done, summary.final_cost


def test_late_key_points_get_the_point_of_most_matches_and_no_point_twice(collection: Make) -> None:
    world = collection(photos=6, wrong=0.2)
    graph, bundle, late = world.graph, world.bundle(), late_of(6, 2)
    old = keep_observations(bundle, ~late[bundle.photo])
    seen = seen_points(graph.keypoints, *graph.matches(), late, old)
    assert (graph.keypoints.photo_of(seen.row) == 2).all()
    assert len(np.unique(seen.point)) == len(seen.point) == len(np.unique(seen.row))
    true_of_row = dict(zip(bundle.row.tolist(), bundle.point.tolist(), strict=True))
    true_of_old = dict(zip(old.point.tolist(), (true_of_row[row] for row in old.row.tolist()), strict=True))
    right = [true_of_row.get(row) == true_of_old[point] for row, point in zip(seen.row, seen.point, strict=True)]
    assert np.mean(right) > 0.97
    assert np.isin(seen.partner, old.row).all()


def test_what_no_held_photo_observes_has_no_prior(collection: Make) -> None:
    bundle = collection(photos=4, points=40).bundle()
    held = np.isin(bundle.photo, [0, 1]) & (bundle.point % 2 == 0)
    priors = held_observations(bundle, held, CAUCHY, 2.0, np.ones(len(held)))
    assert priors.point.tolist() == np.unique(bundle.point[held]).tolist()
    assert priors.position == pytest.approx(bundle.points[priors.point], abs=1e-6)
