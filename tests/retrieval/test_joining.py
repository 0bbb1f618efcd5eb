"""Further pairs where verification has left photos or parts apart: between these, within budgets, and nowhere else."""

import networkx
import numpy as np
from hypothesis import given, strategies as st

from unposed.retrieval.joining import joining_pairs, pairs_of_weak_photos, weakly_joined_parts
from unposed.retrieval.scene_graph import all_pairs


@st.composite
def verified_graphs(draw):
    """Some pairs of some photos, and how many matches each has: often none."""
    photos = draw(st.integers(2, 12))
    pairs = all_pairs(photos)
    tried = np.array(draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs))))
    matches = np.array(draw(st.lists(st.sampled_from([0, 0, 20, 90]), min_size=len(pairs), max_size=len(pairs))))
    return photos, pairs, tried, matches


def joined(photos, pairs, tried, matches, *, per_photo=np.inf, total=np.inf, similarity=None):
    similarity = np.linspace(0.9, 0.1, len(pairs)) if similarity is None else similarity
    parts = weakly_joined_parts(photos, pairs[tried & (matches > 0)])
    found = joining_pairs(parts, pairs, similarity, pairs[tried], matches[tried], per_photo=per_photo, total=total)
    return parts, found


@given(verified_graphs())
def test_parts_remain_connected_whichever_pair_is_left_out(graph):
    photos, pairs, tried, matches = graph
    verified = pairs[tried & (matches > 0)]
    parts = weakly_joined_parts(photos, verified)
    world = networkx.Graph(verified.tolist())
    world.add_nodes_from(range(photos))
    expected = sorted(map(sorted, networkx.k_edge_components(world, 2)))
    assert sorted(np.flatnonzero(parts.of_photo == part).tolist() for part in set(parts.of_photo)) == expected
    assert parts.lonely == len(list(networkx.isolates(world)))
    assert parts.bridges == len(list(networkx.bridges(world)))


@given(verified_graphs())
def test_without_limits_all_untried_pairs_between_parts_are_chosen(graph):
    _, pairs, tried, _ = graph
    parts, found = joined(*graph)
    across = parts.of_photo[pairs[:, 0]] != parts.of_photo[pairs[:, 1]]
    np.testing.assert_array_equal(found, pairs[across & ~tried])


@given(verified_graphs(), st.integers(0, 4), st.integers(0, 6))
def test_budgets_hold(graph, per_photo, total):
    parts, found = joined(*graph, per_photo=per_photo, total=total)
    assert len(found) <= min(total, per_photo * parts.apart.sum())
    assert all(parts.of_photo[a] != parts.of_photo[b] for a, b in found.tolist())


def ring(photos):
    pairs = all_pairs(photos)
    gap = (pairs[:, 1] - pairs[:, 0]) % photos
    return pairs, (gap == 1) | (gap == photos - 1)


def test_a_ring_lacks_nothing():
    pairs, tried = ring(8)
    parts, found = joined(8, pairs, tried, np.full(len(pairs), 30))
    assert not parts.apart.any() and parts.bridges == parts.lonely == 0
    assert found.shape == (0, 2)


def test_partners_of_partners_come_first_and_every_photo_gets_its_best():
    # A ring of six; photo 6 hangs on photo 0 by one pair, photo 7 is lonely and resembles photo 3 most.
    pairs = all_pairs(8)
    tried = np.array([(a, b) in {(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 5), (0, 6)} for a, b in pairs.tolist()])
    similarity = np.array([0.8 if (a, b) in {(3, 7), (3, 6)} else 0.1 for a, b in pairs.tolist()])
    parts, found = joined(8, pairs, tried, np.where(tried, 50, 0), per_photo=2, similarity=similarity)
    assert (parts.lonely, parts.bridges, parts.apart.sum()) == (1, 1, 2)
    assert {(1, 6), (5, 6)} <= set(map(tuple, found.tolist()))  # by way of photo 0
    assert (3, 7) in set(map(tuple, found.tolist())) and (3, 6) not in set(map(tuple, found.tolist()))
    _, first = joined(8, pairs, tried, np.where(tried, 50, 0), total=2, similarity=similarity)
    assert {photo for pair in first.tolist() for photo in pair} >= {6, 7}


def test_strangers_have_all_pairs_left():
    pairs = all_pairs(3)
    parts, found = joined(3, pairs, np.zeros(3, bool), np.zeros(3, int))
    assert parts.lonely == len(found) == 3


@given(verified_graphs(), st.integers(1, 3))
def test_weak_photos_by_definition(graph, partners):
    photos, pairs, tried, matches = graph
    pairs, matches = pairs[tried], matches[tried]
    weak, rows = pairs_of_weak_photos(
        photos, pairs, np.linspace(0.5, 0.1, len(pairs)), matches, min_matches=60, partners=partners
    )
    expected = set()
    for photo in range(photos):
        own = np.flatnonzero((pairs == photo).any(axis=1))
        assert weak[photo] == ((matches[own] >= 60).sum() < min(2, photos - 1))
        if weak[photo]:
            expected |= set(sorted(own.tolist(), key=lambda row: (-matches[row], row))[:partners])
    assert rows.tolist() == sorted(expected)


def test_of_two_photos_one_pair_is_enough():
    pair = all_pairs(2)
    for matches, is_weak in ((60, False), (59, True)):
        weak, rows = pairs_of_weak_photos(2, pair, np.ones(1), np.array([matches]), min_matches=60, partners=6)
        assert weak.tolist() == [is_weak] * 2 and len(rows) == is_weak
