"""Lenses and poses of made-up photos, against OpenCV and against themselves."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from unposed.synthetic.camera import (
    Lens,
    Shot,
    distort_opencv,
    look_at,
    project_points,
    simple_lens,
    undistort_opencv,
    viewing_rays,
)

LENSES = [(0.0, 0.0, 0.0, 0.0), (-0.28, 0.07, 0.0, 0.0), (0.12, -0.03, 0.002, -0.0015)]


def lens(dist: tuple[float, float, float, float]) -> Lens:
    return Lens(640, 480, 530.0, 545.0, 331.0, 228.0, dist)


@pytest.mark.parametrize("dist", LENSES)
def test_undistort_inverts_distort(dist: tuple[float, float, float, float]) -> None:
    ideal = np.random.default_rng(0).uniform(-0.7, 0.7, (2, 500))
    np.testing.assert_allclose(undistort_opencv(distort_opencv(ideal, dist), dist), ideal, atol=1e-12)


@pytest.mark.parametrize("dist", LENSES)
def test_projection_is_opencv_s(dist: tuple[float, float, float, float]) -> None:
    shot = Shot("a", lens(dist), look_at((1, -5, 2), (0.2, 0, 1), roll_deg=12))
    points = np.random.default_rng(1).uniform(-1, 1, (200, 3))
    rotation, translation = shot.cam_from_world[:, :3], shot.cam_from_world[:, 3]
    expected = cv2.projectPoints(points, cv2.Rodrigues(rotation)[0], translation, shot.lens.K, np.array(dist))[0][:, 0]
    xy, depth = project_points(shot, points)
    np.testing.assert_allclose(xy, expected, atol=1e-9)
    np.testing.assert_allclose(depth, (points @ rotation.T + translation)[:, 2])


@pytest.mark.parametrize("dist", LENSES)
def test_rays_lead_back_to_the_points(dist: tuple[float, float, float, float]) -> None:
    shot = Shot("a", lens(dist), look_at((1, -5, 2), (0.2, 0, 1)))
    points = np.random.default_rng(2).uniform(-1, 1, (200, 3))
    xy, depth = project_points(shot, points)
    np.testing.assert_allclose(shot.centre + (viewing_rays(shot, xy) * depth).T, points, atol=1e-9)


def test_look_at_aims_upright_and_rolls_clockwise() -> None:
    lens = simple_lens(640, 480, 60)
    for roll_deg, above in ((0, (320, 100)), (90, (100, 240))):
        shot = Shot("a", lens, look_at((2, -5, 1), (0, 0, 1), roll_deg))
        xy, _ = project_points(shot, [(0, 0, 1), (0, 0, 1.3)])
        np.testing.assert_allclose(xy[0], (320, 240), atol=1e-9)
        toward = (xy[1] - xy[0]) / np.linalg.norm(xy[1] - xy[0])
        expected = np.array(above) - (320, 240)
        np.testing.assert_allclose(toward, expected / np.linalg.norm(expected), atol=1e-9)
    np.testing.assert_allclose(shot.centre, (2, -5, 1), atol=1e-12)
    np.testing.assert_allclose(shot.cam_from_world[:, :3] @ shot.cam_from_world[:, :3].T, np.eye(3), atol=1e-12)


def test_field_of_view_spans_the_long_side() -> None:
    portrait = simple_lens(480, 640, 60)
    assert np.degrees(2 * np.arctan(320 / portrait.fy)) == pytest.approx(60)
