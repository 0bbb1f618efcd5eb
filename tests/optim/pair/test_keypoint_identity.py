"""Key points of two extractors that are one, and those that are not."""

import numpy as np
import pytest

from unposed.optim.pair.keypoint_identity import KeypointIdentity, identical_rows

OPTIONS = KeypointIdentity()


def points(seed, count):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 1000, (count, 2)), rng.uniform(2, 20, count)


def test_points_found_again_are_recognised_and_others_are_new():
    xy, scale = points(0, 300)
    again = np.random.default_rng(1).permutation(300)[:200]
    jitter = np.random.default_rng(2).uniform(-0.1, 0.1, (200, 2)) * scale[again, None]
    far_xy, far_scale = points(3, 50)
    rows = identical_rows(
        xy,
        scale,
        np.concatenate([xy[again] + jitter, far_xy + 5000]),
        np.concatenate([scale[again] * 1.1, far_scale]),
        OPTIONS,
    )
    np.testing.assert_array_equal(rows[:200], again)
    assert (rows[200:] == -1).all()


def test_points_of_another_scale_at_the_same_place_are_others():
    xy = np.array([[10.0, 10.0], [10.0, 10.0], [10.0, 10.0]])
    rows = identical_rows(xy, np.array([3.0, 6.0, 12.0]), xy[:2], np.array([6.2, 24.0]), OPTIONS)
    np.testing.assert_array_equal(rows, [1, -1])


@pytest.mark.parametrize(("offset", "expected"), [(0.9, 0), (1.1, -1)])
def test_the_distance_is_in_radii_of_the_second_point(offset, expected):
    rows = identical_rows(np.zeros((1, 2)), np.full(1, 4.0), np.array([[offset, 0.0]]), np.full(1, 4.0), OPTIONS)
    assert rows.tolist() == [expected]


@pytest.mark.parametrize(("first", "second"), [(0, 3), (3, 0), (0, 0)])
def test_no_points_at_all(first, second):
    rows = identical_rows(np.zeros((first, 2)), np.ones(first), np.zeros((second, 2)), np.ones(second), OPTIONS)
    assert rows.tolist() == [-1] * second
