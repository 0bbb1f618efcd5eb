"""Absolute poses of made-up photos of known points: errors within their sigmas, wrong matches, two equal places."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.arrays import Array, Mask
from unposed.optim.bundle.intrinsics import hold_principal, intrinsics_with_priors
from unposed.optim.cameras import intrinsics_of, project
from unposed.optim.localization import pose_hypotheses
from unposed.optim.localization.pose_hypotheses import (
    PhotoCamera,
    PoseHypothesisOptions,
    search_poses,
    without_focal_prior,
)
from unposed.optim.localization.pose_refinement import refine_absolute_pose
from unposed.optim.rotations import exp_so3, rotation_angle_deg

SIZE = (1000, 800)
MODEL, PARAMS = "SIMPLE_RADIAL", (900.0, 500.0, 400.0, -0.05)
TRUTH = np.column_stack([exp_so3(np.array([[0.2, -0.4, 0.1]]))[0], [0.3, -0.2, 6.0]])


def known(params: tuple[float, ...] = PARAMS) -> PhotoCamera:
    return PhotoCamera(MODEL, intrinsics_of(MODEL, params), SIZE, None, focal_known=True)


def unknown(focal_px: float = 1200.0) -> PhotoCamera:
    """Nothing is known but the size; the initial focal length is a third off."""
    params = (focal_px, 500.0, 400.0, 0.0)
    found = intrinsics_with_priors(
        [MODEL], [params], np.array([SIZE], float), ["guess"], np.zeros(1, np.int64), noise_px=0.75
    )
    prior = hold_principal(found.prior, np.ones(1, np.int64))
    return without_focal_prior(PhotoCamera(MODEL, found.values[0], SIZE, prior, focal_known=False))


def seen(points: Array, rng: np.random.Generator, noise_px: float = 0.5, params: tuple[float, ...] = PARAMS) -> Array:
    y = points @ TRUTH[:, :3].T + TRUTH[:, 3]
    return project(y, intrinsics_of(MODEL, params)) + noise_px * rng.normal(size=(len(points), 2))


def centre(pose: Array) -> Array:
    return np.asarray(-pose[:, :3].T @ pose[:, 3])


@pytest.mark.parametrize("camera", [known(), unknown()], ids=["known", "unknown"])
def test_pose_and_focal_length_are_found_among_wrong_matches(camera: PhotoCamera) -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(300, 3))
    xy = seen(points, rng)
    xy[120:] = rng.uniform((0, 0), SIZE, (180, 2))
    search = search_poses(xy, points, camera, keypoint_error_px=1.0)
    assert len(search.hypotheses) == 1
    found = search.hypotheses[0]
    assert found.inliers[:120].sum() > 110
    assert found.inliers[120:].sum() < 5
    pose = found.refined.cam_from_world
    assert rotation_angle_deg(pose[:, :3] @ TRUTH[:, :3].T) < 4 * found.refined.sigma_deg
    assert np.linalg.norm(centre(pose) - centre(TRUTH)) < 4 * found.refined.sigma_centre
    sigma_focal = found.refined.sigma_intrinsics[0]
    assert (sigma_focal > 0) == (camera.prior is not None)
    assert abs(found.refined.intrinsics[0] - 900.0) <= 4 * sigma_focal


def test_sigmas_are_those_of_repeated_trials() -> None:
    rng = np.random.default_rng(2)
    points = rng.normal(size=(80, 3))
    camera = unknown(900.0)
    poses, focals, said = [], [], []
    for _ in range(200):
        found = refine_absolute_pose(
            seen(points, rng), points, TRUTH, MODEL, camera.intrinsics, camera.prior, loss_px=5.0
        )
        poses.append(centre(found.cam_from_world))
        focals.append(found.intrinsics[0])
        said.append((found.sigma_centre, found.sigma_intrinsics[0], found.noise_px))
    scatter = np.sqrt(np.var(poses, axis=0).sum()), np.std(focals)
    centre_sigma, focal_sigma, noise_px = np.median(said, axis=0)
    assert centre_sigma == pytest.approx(scatter[0], rel=0.2)  # 200 trials know it to 5 %
    assert focal_sigma == pytest.approx(scatter[1], rel=0.2)
    assert noise_px == pytest.approx(0.5, rel=0.1)


def test_no_second_pose_is_looked_for_among_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 300 key points 240 fit the first pose; a second one would need half as many, and 60 are left."""
    rng = np.random.default_rng(4)
    points = rng.normal(size=(300, 3))
    xy = seen(points, rng)
    xy[240:] = rng.uniform((0, 0), SIZE, (60, 2))
    sought: list[int] = []
    one_pose = pose_hypotheses._one_pose

    def counted(xy: Array, points: Array, among: Mask, *more: Any) -> Any:
        sought.append(int(among.sum()))
        return one_pose(xy, points, among, *more)

    monkeypatch.setattr(pose_hypotheses, "_one_pose", counted)
    assert len(search_poses(xy, points, known(), keypoint_error_px=1.0).hypotheses) == 1
    assert sought == [300]


def test_random_matches_give_no_pose() -> None:
    rng = np.random.default_rng(3)
    points, xy = rng.normal(size=(400, 3)), rng.uniform((0, 0), SIZE, (400, 2))
    for camera in (known(), unknown()):
        search = search_poses(xy, points, camera, keypoint_error_px=1.0)
        assert search.hypotheses == ()
        assert 0 < search.most_inliers < PoseHypothesisOptions().min_inliers + 4


def test_a_place_that_exists_twice_gives_two_hypotheses() -> None:
    rng = np.random.default_rng(4)
    points = rng.normal(size=(200, 3))
    xy = seen(points, rng)
    twin = points + np.array([40.0, 0.0, 0.0])
    both, twice = np.concatenate([points, twin]), np.concatenate([xy, xy])
    search = search_poses(twice, both, known(), keypoint_error_px=1.0)
    places = sorted(round(float(centre(each.refined.cam_from_world)[0]), 1) for each in search.hypotheses)
    first = round(float(centre(TRUTH)[0]), 1)
    assert places == [first, pytest.approx(first + 40.0)]


def test_a_point_that_is_in_the_model_twice_gives_one_hypothesis() -> None:
    rng = np.random.default_rng(5)
    points = rng.normal(size=(200, 3))
    xy = seen(points, rng)
    both, twice = np.concatenate([points, points + 0.02 * rng.normal(size=points.shape)]), np.concatenate([xy, xy])
    assert len(search_poses(twice, both, known(), keypoint_error_px=1.0).hypotheses) == 1


def test_few_inliers_are_not_enough() -> None:
    rng = np.random.default_rng(6)
    points = rng.normal(size=(20, 3))
    xy = seen(points, rng)
    strict = replace(PoseHypothesisOptions(), min_inliers=21)
    assert len(search_poses(xy, points, known(), keypoint_error_px=1.0).hypotheses) == 1
    assert search_poses(xy, points, known(), keypoint_error_px=1.0, options=strict).hypotheses == ()


def test_uncertain_points_have_less_influence() -> None:
    """Half of the points are wrong by a tenth along one axis, and known to be."""
    rng = np.random.default_rng(7)
    errors: dict[str, list[float]] = {}
    for _ in range(20):
        points = rng.normal(size=(60, 3))
        xy = seen(points, rng, 0.3)
        axis = np.array([0.0, 0.6, 0.8])
        off = points.copy()
        off[:30] += 0.1 * rng.normal(size=(30, 1)) * axis
        covariance = np.zeros((60, 3, 3))
        covariance[:30] = (0.1 / 0.3) ** 2 * np.outer(axis, axis)
        for name, known_errors in (("weighted", covariance), ("not", None)):
            found = refine_absolute_pose(
                xy,
                off,
                TRUTH,
                MODEL,
                known().intrinsics,
                None,
                loss_px=5.0,
                point_covariance=known_errors,
            )
            off_deg = float(rotation_angle_deg(found.cam_from_world[:, :3] @ TRUTH[:, :3].T))
            errors.setdefault(name, []).append(off_deg)
    assert np.median(errors["weighted"]) < 0.6 * np.median(errors["not"])
