"""What every choice of pairs must keep: order, connections, and nobody cut off."""

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unposed.retrieval.scene_graph import all_pairs, best_partners, nearest_pairs, spanning_forest, to_networkx


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
    assert (kept & ~hopeful).sum() < photos


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
