"""Key points out of plain positions: stars, no photo twice, no match lost."""

import numpy as np
from hypothesis import given, strategies as st

from unposed.optim.mapping.dense_keypoints import DenseKeypoints, dense_keypoints
from unposed.optim.mapping.tracks import establish_tracks
from unposed.optim.view_graph import Keypoints

MATCH = st.tuples(st.integers(0, 3), st.integers(0, 3), *[st.integers(0, 2)] * 4, st.floats(0.125, 1.0))


def made(photos: int, matches: list[tuple[int, int, float, float, float, float, float]]) -> DenseKeypoints:
    table = np.array(matches, float).reshape(-1, 7)
    a, b = table[:, 0].astype(int), table[:, 1].astype(int)
    return dense_keypoints(photos, a, b, table[:, 2:4], table[:, 4:6], table[:, 6], merge_px=0.1)


def photos_of(points: DenseKeypoints, row: np.ndarray) -> np.ndarray:
    return np.searchsorted(points.start, row, side="right") - 1


def test_a_lattice_point_and_its_answers_are_one_track() -> None:
    points = made(4, [(0, 1, 4, 4, 7, 3, 0.5), (0, 2, 4, 4, 9, 9, 0.9), (0, 3, 4, 4, 1, 2, 0.2)])
    assert len(points.xy) == 4
    assert len(set(points.row_a.tolist())) == 1
    np.testing.assert_array_equal(points.xy[points.row_b], [[7, 3], [9, 9], [1, 2]])
    np.testing.assert_array_equal(points.weight, [0.9, 0.5, 0.9, 0.2])


def test_the_lattice_may_be_that_of_the_second_photo() -> None:
    points = made(3, [(0, 2, 1, 1, 4, 4, 1.0), (1, 2, 2, 2, 4, 4, 1.0)])
    assert points.row_b[0] == points.row_b[1]
    assert len(points.xy) == 3


def test_an_answer_that_falls_on_another_start_does_not_chain_them() -> None:
    """(0: 4,4) is matched with 1 and 2, and (1: 8,8), its answer in photo 1, with 2 and 3 at quite other places."""
    of_first = [(0, 1, 4, 4, 8, 8, 1.0), (0, 2, 4, 4, 1, 1, 1.0), (0, 3, 4, 4, 2, 2, 1.0)]
    of_second = [(1, 2, 8, 8, 5, 5, 1.0), (1, 3, 8, 8, 6, 6, 1.0)]
    points = made(4, [*of_first, *of_second])
    tracks = establish_tracks(
        Keypoints(points.xy, points.start, np.zeros((4, 2), np.int64)), points.row_a, points.row_b
    )
    sizes = np.sort(np.bincount(tracks.track))
    np.testing.assert_array_equal(sizes, [3, 4])


def test_of_two_answers_in_one_photo_the_better_one_stays() -> None:
    points = made(3, [(0, 1, 4, 4, 8, 8, 0.3), (0, 1, 4, 4, 9, 9, 0.6), (0, 2, 4, 4, 1, 1, 0.5)])
    assert points.row_a[1] == points.row_a[2] != points.row_a[0]
    np.testing.assert_array_equal(points.xy[points.row_a], [[4, 4]] * 3)


def test_nearly_equal_positions_are_the_same() -> None:
    points = made(3, [(0, 1, 4.0, 4.0, 8, 8, 1.0), (0, 2, 4.001, 3.999, 9, 9, 1.0)])
    assert points.row_a[0] == points.row_a[1]


def test_matches_of_true_key_points_are_joined_whole() -> None:
    """Three photos that all see one point at one place each: three key points, not two stars."""
    points = made(3, [(0, 1, 4, 4, 5, 5, 1.0), (0, 2, 4, 4, 6, 6, 1.0), (1, 2, 5, 5, 6, 6, 1.0)])
    assert len(points.xy) == 3
    np.testing.assert_array_equal(points.row_a, [0, 0, 1])
    np.testing.assert_array_equal(points.row_b, [1, 2, 2])


@given(st.lists(MATCH.filter(lambda match: match[0] < match[1]), max_size=30))
def test_no_match_is_lost_and_no_track_sees_a_photo_twice(matches: list) -> None:
    points = made(4, matches)
    assert len(points.row_a) == len(points.row_b) == len(matches)
    if matches:
        table = np.array(matches, float)
        np.testing.assert_array_equal(points.xy[points.row_a], table[:, 2:4])
        np.testing.assert_array_equal(points.xy[points.row_b], table[:, 4:6])
        np.testing.assert_array_equal(photos_of(points, points.row_a), table[:, 0])
        np.testing.assert_array_equal(photos_of(points, points.row_b), table[:, 1])
    tracks = establish_tracks(
        Keypoints(points.xy, points.start, np.zeros((4, 2), np.int64)), points.row_a, points.row_b
    )
    assert len(tracks.row) == len(points.xy)
    assert len(np.unique(tracks.track * 4 + tracks.photo)) == len(tracks.row)
