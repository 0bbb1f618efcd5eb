"""What every choice of pairs must keep: order, connections, and nobody cut off."""

import networkx
import numpy as np
import pytest
from hypothesis import given, strategies as st

from unposed.retrieval.scene_graph import (
    all_pairs,
    best_partners,
    bridge_augmentation,
    components_and_bridges,
    expanded_pairs,
    nearest_pairs,
    similarity_of,
    spanning_forest,
    to_networkx,
)


@st.composite
def rankings(draw):
    """Some pairs of some photos; few distinct similarities, so that ties and zeros are common."""
    photos = draw(st.integers(2, 14))
    pairs = all_pairs(photos)
    kept = np.array(draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs))))
    levels = draw(st.lists(st.integers(0, 4), min_size=len(pairs), max_size=len(pairs)))
    return photos, pairs[kept], (np.array(levels, np.float32) / 4)[kept]


def components(photos, pairs):
    return sorted(map(sorted, networkx.connected_components(to_networkx(photos, pairs, np.zeros(len(pairs))))))


@pytest.mark.parametrize("photos", [0, 1, 2, 5])
def test_all_pairs(photos):
    expected = [(i, j) for i in range(photos) for j in range(i + 1, photos)]
    assert list(map(tuple, all_pairs(photos).tolist())) == expected


@given(rankings(), st.integers(1, 5))
def test_best_partners_by_definition(ranking, count):
    photos, pairs, similarity = ranking
    asked = np.zeros(len(pairs), bool)
    for photo in range(photos):
        own = np.flatnonzero((pairs == photo).any(axis=1))
        # A photo's smaller partners come after its larger ones among equals: it is first in those pairs.
        own = sorted(own, key=lambda row: (-similarity[row], pairs[row, 0] != photo, row))
        asked[own[:count]] = True
    np.testing.assert_array_equal(best_partners(pairs, similarity, count), asked)


@given(rankings())
def test_spanning_forest_connects_with_the_most_similar(ranking):
    photos, pairs, similarity = ranking
    forest = spanning_forest(pairs, similarity)
    assert components(photos, pairs[forest]) == components(photos, pairs)
    assert networkx.is_forest(to_networkx(photos, pairs[forest], similarity[forest]))
    best = networkx.maximum_spanning_tree(to_networkx(photos, pairs, similarity), weight="similarity")
    assert similarity[forest].sum() == pytest.approx(best.size(weight="similarity"))


@given(rankings(), st.integers(1, 5), st.floats(0, 1))
def test_nobody_is_cut_off(ranking, neighbours, floor):
    photos, pairs, similarity = ranking
    kept = nearest_pairs(pairs, similarity, neighbours=neighbours, min_similarity=floor, all_below=0)
    assert components(photos, pairs[kept]) == components(photos, pairs)
    hopeful = best_partners(pairs, similarity, neighbours) & (similarity >= floor)
    assert kept[hopeful].all()
    assert (kept & ~hopeful).sum() < 2 * photos  # a forest, and at most a pair for each of its bridges


@given(rankings())
def test_few_photos_keep_every_pair(ranking):
    _, pairs, similarity = ranking
    assert nearest_pairs(pairs, similarity, neighbours=1, min_similarity=1.0, all_below=14).all()


def test_the_number_of_pairs_grows_with_the_neighbours_not_with_their_square():
    photos, rng = 60, np.random.default_rng(0)
    pairs = all_pairs(photos)
    similarity = rng.random(len(pairs)).astype(np.float32)
    kept = nearest_pairs(pairs, similarity, neighbours=5, min_similarity=0.0, all_below=16)
    assert photos * 5 / 2 <= kept.sum() <= photos * 5 + photos


def test_networkx_graph_has_all_photos_and_the_similarities():
    graph = to_networkx(4, np.array([[0, 2], [1, 2]]), np.array([0.5, 0.25]))
    assert sorted(graph.nodes) == [0, 1, 2, 3]
    assert graph.edges[2, 0]["similarity"] == 0.5
    assert graph.number_of_edges() == 2


def bridges(photos, pairs):
    return set(networkx.bridges(to_networkx(photos, pairs, np.zeros(len(pairs)))))


@given(rankings())
def test_bridge_augmentation_leaves_the_bridges_that_no_pair_can_remove(ranking):
    photos, pairs, similarity = ranking
    forest = spanning_forest(pairs, similarity)
    extra = bridge_augmentation(pairs, similarity, forest, np.ones(len(pairs), bool))
    assert not (extra & forest).any()
    assert bridges(photos, pairs[forest | extra]) == bridges(photos, pairs)


@given(rankings(), st.floats(0, 1))
def test_bridge_augmentation_takes_allowed_pairs_and_none_is_idle(ranking, floor):
    photos, pairs, similarity = ranking
    kept = best_partners(pairs, similarity, 1) | spanning_forest(pairs, similarity)
    allowed = similarity >= floor
    extra = bridge_augmentation(pairs, similarity, kept, allowed)
    assert allowed[extra].all()
    assert bridges(photos, pairs[kept | extra]) == bridges(photos, pairs[kept | allowed])
    assert extra.sum() <= len(bridges(photos, pairs[kept]))


@given(rankings(), st.integers(1, 5), st.integers(1, 3))
def test_the_budget_holds_but_for_what_connects(ranking, neighbours, per_photo):
    photos, pairs, similarity = ranking
    how = {"min_similarity": 0.0, "all_below": 0}
    kept = nearest_pairs(pairs, similarity, neighbours=neighbours, per_photo=per_photo, **how)
    unbounded = nearest_pairs(pairs, similarity, neighbours=neighbours, **how)
    connecting = nearest_pairs(pairs, similarity, neighbours=neighbours, per_photo=0, **how)
    assert connecting[kept | ~unbounded].sum() == connecting.sum() == (connecting & kept).sum()
    assert not (kept & ~unbounded).any()
    assert kept.sum() <= max(per_photo * photos, connecting.sum())
    assert bridges(photos, pairs[connecting]) == bridges(photos, pairs)


def test_similarity_of_pairs_that_may_be_missing():
    pairs, similarity = np.array([[0, 1], [0, 3], [2, 3]]), np.array([0.5, 0.25, 1.0], np.float32)
    assert similarity_of(np.array([[0, 3], [1, 2], [2, 3]]), pairs, similarity).tolist() == [0.25, 0.0, 1.0]
    assert similarity_of(np.zeros((0, 2), int), pairs, similarity).tolist() == []
    assert similarity_of(pairs, np.zeros((0, 2), int), np.zeros(0)).tolist() == [0.0, 0.0, 0.0]


class TestExpansion:
    """Five photos; 0-1 and 1-2 were verified, 0-3 was not."""

    RANKED = all_pairs(5)
    SIMILARITY = np.linspace(0.9, 0.0, 10)
    TRIED = np.array([[0, 1], [0, 3], [1, 2]])

    def expand(self, neighbours, per_photo=10.0, matches=(50, 0, 40)):
        new = expanded_pairs(
            5,
            self.RANKED,
            self.SIMILARITY,
            self.TRIED,
            np.array(matches),
            neighbours=neighbours,
            per_photo=per_photo,
        )
        return list(map(tuple, new.tolist()))

    def test_partners_of_partners_come_first(self):
        assert self.expand(neighbours=2)[0] == (0, 2)

    def test_nothing_is_tried_again(self):
        untried = set(map(tuple, self.RANKED.tolist())) - set(map(tuple, self.TRIED.tolist()))
        assert set(self.expand(neighbours=4)) == untried

    def test_who_has_enough_partners_is_left_alone(self):
        new = self.expand(neighbours=1)
        assert {photo for pair in new for photo in pair} >= {3, 4}
        assert all(3 in pair or 4 in pair for pair in new)

    def test_a_budget_counts_what_was_tried(self):
        assert len(self.expand(neighbours=4, per_photo=1.0)) == 2
        assert self.expand(neighbours=4, per_photo=0.5) == []

    def test_without_any_success_the_ranking_decides(self):
        assert (0, 2) in self.expand(neighbours=1, matches=(0, 0, 0))


@given(rankings())
def test_components_and_bridges_by_definition(ranking):
    photos, pairs, _ = ranking
    found = components_and_bridges(photos, pairs)
    parts = [part for part in components(photos, pairs) if len(part) > 1]
    assert sorted(map(list, found.components)) == sorted(parts)
    assert {(a, b) for a, b, _ in found.bridges} == {(min(p), max(p)) for p in bridges(photos, pairs)}
    for a, b, smaller in found.bridges:
        graph = to_networkx(photos, pairs, np.zeros(len(pairs)))
        graph.remove_edge(a, b)
        sides = [len(networkx.node_connected_component(graph, end)) for end in (a, b)]
        assert smaller == min(sides)
