"""Points of two photos: exact where everything is exact, and predictions of any scale fall into place."""

from __future__ import annotations

import numpy as np
import pytest

from unposed.optim.pointmaps.pair_triangulation import (
    normalized_points,
    points_at_depth,
    predicted_depth_scales,
    triangulate_pair,
)

SIZE, FOCAL = (640, 480), 500.0


def view(xyz: np.ndarray) -> np.ndarray:
    return xyz[:, :2] / xyz[:, 2:] * FOCAL + np.array(SIZE) / 2


def turned(degrees: float, *translation: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.column_stack([[[c, 0, s], [0, 1, 0], [-s, 0, c]], translation])


@pytest.fixture
def xyz() -> np.ndarray:
    return np.random.default_rng(0).uniform((-2, -1.5, 4), (2, 1.5, 8), (60, 3))


def test_matches_become_points_and_predictions_take_their_scale(xyz: np.ndarray) -> None:
    b_from_a = turned(10.0, -1.0, 0.0, 0.0)
    in_b = xyz @ b_from_a[:, :3].T + b_from_a[:, 3]
    points = triangulate_pair(
        normalized_points(view(xyz), FOCAL, SIZE), normalized_points(view(in_b), FOCAL, SIZE), b_from_a
    )
    np.testing.assert_allclose(points_at_depth(points.normalized_a, points.depth_a), xyz, rtol=1e-9)
    np.testing.assert_allclose(points_at_depth(points.normalized_b, points.depth_b), in_b, rtol=1e-9)
    spoilt = xyz[:, 2] / 3.0
    spoilt[:10] = (np.nan, -1, 0, 99, 1e6) * 2
    assert predicted_depth_scales(points, spoilt, in_b[:, 2] * 7.0, b_from_a) == pytest.approx((3.0, 1 / 7))


def test_a_camera_that_only_turned(xyz: np.ndarray) -> None:
    b_from_a = turned(10.0, 0.0, 0.0, 0.0)
    in_b = xyz @ b_from_a[:, :3].T
    points = triangulate_pair(
        normalized_points(view(xyz), FOCAL, SIZE), normalized_points(view(in_b), FOCAL, SIZE), b_from_a
    )
    assert np.isnan(points.depth_a).all()
    assert predicted_depth_scales(points, xyz[:, 2], in_b[:, 2] * 7.0, b_from_a) == pytest.approx((1.0, 1 / 7))
