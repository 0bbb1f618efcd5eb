"""Partners by order, by position and from several rankings."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from unposed.retrieval.neighbours import along_sequence, interleaved, metres, near_positions
from unposed.retrieval.pairs import unique_pairs


def as_dict(ranking):
    pairs, similarity = ranking
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert pairs.tolist() == sorted(pairs.tolist())
    return {tuple(pair): value for pair, value in zip(pairs.tolist(), similarity.tolist(), strict=True)}


@given(st.integers(0, 9), st.integers(1, 12), st.booleans(), st.booleans())
def test_along_a_sequence(count, window, doubling, closed):
    order = np.random.default_rng(count).permutation(count).tolist()
    offsets = {2**k for k in range(window)} if doubling else set(range(1, window + 1))
    expected = {}
    for a in range(count):
        for b in range(a + 1, count):
            ahead, back = b - a, a + count - b
            near = [d for d in (ahead, back if closed else count) if d in offsets and d < count]
            if near:
                distance = min(ahead, back) if closed else ahead
                expected[min(order[a], order[b]), max(order[a], order[b])] = pytest.approx(1.0 / distance)
    assert as_dict(along_sequence(order, window, doubling=doubling, closed=closed)) == expected


def test_near_positions():
    position = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 0.0], [10.0, 0.0], [100.0, 0.0]])
    found = as_dict(near_positions([2, 3, 5, 7, 9], position, partners=2, reach_m=7.0))
    assert found == {(2, 3): pytest.approx(0.7), (2, 5): 1.0, (3, 5): pytest.approx(0.7), (3, 7): pytest.approx(0.5)}


@pytest.mark.parametrize("count", [0, 1])
def test_positions_of_too_few(count):
    assert as_dict(near_positions(range(count), np.zeros((count, 2)), partners=3, reach_m=1.0)) == {}


def test_many_photos_in_one_place_have_no_more_partners_than_asked():
    pairs, _ = near_positions(range(40), np.zeros((40, 3)), partners=4, reach_m=1.0)
    assert 40 <= len(pairs) <= 40 * 5


def test_metres():
    a, b, c = metres(np.array([52.0, 52.0, 52.001]), np.array([13.0, 13.001, 13.0]))
    assert np.linalg.norm(a - c) == pytest.approx(111.2, rel=5e-3)
    assert np.linalg.norm(a - b) == pytest.approx(111.2 * np.cos(np.radians(52.0)), rel=5e-3)
    west, east = metres(np.array([0.0, 0.0]), np.array([179.9999, -179.9999]))
    assert np.linalg.norm(west - east) == pytest.approx(22.2, rel=5e-3)


def test_first_choices_come_first():
    by_looks = np.array([[0, 1], [0, 2], [0, 3]]), np.array([0.05, 0.01, 0.02])
    by_order = np.array([[0, 2], [4, 5]]), np.array([0.9, 0.1])
    merged = as_dict(interleaved([by_looks, by_order]))
    # 2 and 3 have no better partner than 0.
    assert merged == {(0, 1): 1.0, (0, 2): 1.0, (0, 3): 1.0, (4, 5): 1.0}
    chain = as_dict(interleaved([(np.array([[0, 1], [1, 2], [0, 2]]), np.array([0.9, 0.8, 0.1]))]))
    assert chain == {(0, 1): 1.0, (1, 2): 1.0, (0, 2): 0.5}


def test_nothing_interleaved():
    assert as_dict(interleaved([(np.empty((0, 2), int), np.empty(0))])) == {}


def test_unique_pairs():
    found = as_dict(unique_pairs(np.array([[2, 1], [1, 2], [3, 3], [0, 2]]), np.array([0.5, 0.75, 1.0, 0.25])))
    assert found == {(1, 2): 0.75, (0, 2): 0.25}
