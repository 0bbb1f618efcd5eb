"""Similarities to positions of which many are wrong, and what is up."""

from __future__ import annotations

import numpy as np
import pytest

from unposed.optim.alignment.geodesy import GeodeticOrigin, ecef_m, enu_m, median_origin
from unposed.optim.alignment.robust_similarity import (
    composed_similarity,
    fit_level_positions,
    fit_poses,
    fit_positions,
    inverse_similarity,
)
from unposed.optim.alignment.up_axis import ground_plane, level_rotation, up_of_photos
from unposed.optim.arrays import Array
from unposed.optim.rotations import exp_so3, rotation_angle_deg
from unposed.optim.similarity import Similarity

TRUTH = Similarity(7.0, exp_so3(np.array([[0.4, -1.0, 0.3]]))[0], np.array([100.0, -40.0, 5.0]))
LEVEL = Similarity(7.0, exp_so3(np.array([[0.0, 0.0, 2.5]]))[0], np.array([100.0, -40.0, 5.0]))


def angle(a: Similarity, b: Similarity) -> float:
    return float(rotation_angle_deg(a.rotation @ b.rotation.T))


@pytest.mark.parametrize("wrong", [0, 4, 14])
def test_a_minority_of_wrong_positions_has_no_influence(wrong: int) -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(30, 3))
    target = TRUTH(source) + 0.05 * rng.normal(size=(30, 3))
    target[:wrong] += rng.normal(size=(wrong, 3)) * 1e6  # as of another hemisphere
    found = fit_positions(source, target)
    assert found is not None
    assert angle(found.similarity, TRUTH) < 0.5
    assert found.similarity.scale == pytest.approx(7.0, rel=0.01)
    assert not found.inliers[:wrong].any()
    assert found.inliers[wrong:].mean() > 0.9
    assert found.rms == pytest.approx(0.05 * np.sqrt(3), rel=0.3)
    assert found.tilt_deg < 1.0


def test_positions_on_a_line_are_known_to_leave_the_tilt_open() -> None:
    rng = np.random.default_rng(1)
    source = np.outer(np.linspace(0, 10, 20), [1.0, 0.2, 0.0])
    target = LEVEL(source) + 0.3 * rng.normal(size=(20, 3))
    free, level = fit_positions(source, target), fit_level_positions(source, target)
    assert free is not None and free.tilt_deg > 10.0
    assert level is not None and angle(level.similarity, LEVEL) < 1.0
    assert level.similarity.scale == pytest.approx(7.0, rel=0.05)


def test_orientations_determine_the_turn_of_positions_on_a_line() -> None:
    rng = np.random.default_rng(2)
    source = np.outer(np.linspace(0, 10, 20), [1.0, 0.2, 0.0])
    target = TRUTH(source) + 0.01 * rng.normal(size=(20, 3))
    turns = exp_so3(0.005 * rng.normal(size=(20, 3))) @ TRUTH.rotation
    turns[:5] = exp_so3(rng.normal(size=(5, 3)))
    target[5:8] += 50.0
    found = fit_poses(source, target, turns)
    assert found is not None
    assert angle(found.similarity, TRUTH) < 0.3
    assert np.flatnonzero(~found.inliers).tolist() == [5, 6, 7]


def test_too_few_or_equal_positions_fit_nothing() -> None:
    assert fit_positions(np.zeros((2, 3)), np.zeros((2, 3))) is None
    assert fit_positions(np.zeros((5, 3)), np.random.default_rng(0).normal(size=(5, 3))) is None
    assert fit_poses(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3, 3))) is None


def test_similarities_compose_and_invert() -> None:
    points = np.random.default_rng(3).normal(size=(5, 3))
    assert np.allclose(composed_similarity(LEVEL, TRUTH)(points), LEVEL(TRUTH(points)))
    assert np.allclose(inverse_similarity(TRUTH)(TRUTH(points)), points)


def upright(yaw: Array, pitch: Array, roll: Array) -> Array:
    """(n, 3, 4) cameras in a world with z up: looking along y at yaw 0."""
    world = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    zero = np.zeros_like(yaw)
    turned = exp_so3(np.column_stack([zero, zero, roll])) @ exp_so3(np.column_stack([pitch, zero, zero]))
    rotation = turned @ world @ exp_so3(np.column_stack([zero, zero, yaw]))
    return np.concatenate([rotation, np.zeros((len(yaw), 3, 1))], axis=2)


@pytest.mark.parametrize(("width", "bound_deg"), [(0.0, 14.0), (0.3, 4.0), (3.0, 1.0)])
def test_photos_say_what_is_up(width: float, bound_deg: float) -> None:
    rng = np.random.default_rng(4)
    poses = upright(width * rng.normal(size=40), -0.2 + 0.1 * rng.normal(size=40), 0.02 * rng.normal(size=40))
    poses[:6] = upright(rng.normal(size=6), rng.normal(size=6), np.full(6, 1.4))  # held upright
    turn = exp_so3(np.array([[0.7, 0.1, -0.4]]))[0]
    poses[:, :, :3] = poses[:, :, :3] @ turn.T
    found = up_of_photos(poses)
    off = np.degrees(np.arccos(found.up @ turn[:, 2]))
    assert off < bound_deg  # all look down by 11 degrees: photos in one direction cannot tell that from a slope
    assert found.spread_deg < 2.0
    assert np.allclose(level_rotation(found.up) @ found.up, [0, 0, 1])


def test_the_ground_is_the_plane_with_the_cameras_above() -> None:
    rng = np.random.default_rng(5)
    ground = np.column_stack([rng.uniform(-5, 5, (300, 2)), 0.005 * rng.normal(size=300)])
    things = rng.uniform((-3, -3, 0.2), (3, 3, 6.2), (300, 3))
    centres = np.column_stack([rng.uniform(-5, 5, (20, 2)), rng.uniform(1, 2, 20)])
    turn, shift = exp_so3(np.array([[2.0, 0.3, 0.1]]))[0], np.array([3.0, 1.0, 9.0])
    found = ground_plane(np.concatenate([ground, things]) @ turn.T + shift, centres @ turn.T + shift)
    assert found is not None
    assert found.up @ turn[:, 2] > 0.9999
    assert (found.origin - shift) @ turn[:, 2] == pytest.approx(0.0, abs=0.01)
    assert found.on_plane[:300].mean() > 0.95
    assert ground_plane(rng.normal(size=(500, 3)), centres) is None


def test_level_rotation_of_what_points_down() -> None:
    assert np.allclose(level_rotation(np.array([0.0, 0.0, -1.0])) @ [0, 0, -1.0], [0, 0, 1.0])


def test_metres_on_the_ellipsoid() -> None:
    assert ecef_m(0.0, 0.0, 0.0).tolist() == pytest.approx([6378137.0, 0.0, 0.0])
    assert ecef_m(90.0, 0.0, 0.0).tolist() == pytest.approx([0.0, 0.0, 6356752.314245], abs=1e-6)
    origin = GeodeticOrigin(52.52, 13.4, 40.0)
    north, east = enu_m(52.521, 13.4, 40.0, origin), enu_m(52.52, 13.401, 45.0, origin)
    assert north == pytest.approx([0.0, 111.27, 0.0], abs=0.02)  # a minute of latitude is 1854.5 m there
    assert east == pytest.approx([67.87, 0.0, 5.0], abs=0.02)
    frame = origin.ecef_from_enu
    assert frame[:3, :3] @ east + frame[:3, 3] == pytest.approx(ecef_m(52.52, 13.401, 45.0))


def test_the_origin_is_in_the_middle_of_most() -> None:
    latitude, longitude = np.array([-17.0, -17.001, -16.999, 48.0]), np.array([179.999, -179.999, 180.0, 11.0])
    found = median_origin(latitude, longitude, np.array([np.nan, 10.0, 12.0, np.nan]))
    assert found.latitude_deg == pytest.approx(-17.0, abs=1e-3)
    assert abs(abs(found.longitude_deg) - 180.0) < 1e-2
    assert found.height_m == 11.0
