"""Cuts of view graphs: every photo in one core, connected clusters of bounded size, overlap where pairs are strong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from unposed.optim.partition.view_graph_cut import PhotoCluster, ViewGraphCutOptions, cut_view_graph
from unposed.optim.view_graph import Keypoints, ViewGraph, build_view_graph


def graph_of(photos: int, pairs: np.ndarray, matches: np.ndarray) -> ViewGraph:
    """A view graph of which only the numbers of matches are known."""
    keypoints = Keypoints(np.zeros((1, 2)), np.zeros(photos + 1, np.int64), np.full((photos, 2), 100))
    rows = np.zeros(int(matches.sum()), np.int64)
    return build_view_graph(keypoints, pairs, matches, rows, rows)


def among_neighbours(places: np.ndarray, neighbours: int, rng: np.random.Generator) -> ViewGraph:
    """Photos at places (n, d), each matched with its nearest ones and with the next, so that all are connected."""
    near = cKDTree(places).query(places, min(neighbours + 1, len(places)))[1][:, 1:]
    mine = np.repeat(np.arange(len(places)), near.shape[1])
    chain = np.arange(len(places) - 1)
    pairs = np.concatenate([np.column_stack([mine, near.ravel()]), np.column_stack([chain, chain + 1])])
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    return graph_of(len(places), pairs, rng.integers(15, 200, len(pairs)))


def is_connected(graph: ViewGraph, photos: np.ndarray) -> bool:
    inside = graph.among(np.isin(np.arange(graph.photo_count), photos))
    each = coo_array((np.ones(len(inside)), inside.pairs.T), shape=(graph.photo_count,) * 2).tocsr()
    return int(connected_components(each[photos][:, photos], directed=False)[0]) == 1


def check(graph: ViewGraph, clusters: tuple[PhotoCluster, ...]) -> None:
    """What holds for every graph."""
    cores = np.concatenate([cluster.core for cluster in clusters])
    np.testing.assert_array_equal(np.sort(cores), np.unique(graph.pairs))
    for cluster in clusters:
        assert np.isin(cluster.core, cluster.photos).all()
        assert (np.diff(cluster.core) > 0).all() and (np.diff(cluster.photos) > 0).all()
        assert is_connected(graph, cluster.core) and is_connected(graph, cluster.photos)


@given(
    st.integers(0, 10**6),
    st.integers(10, 150),
    st.integers(8, 50),
    st.integers(2, 12),
    st.sampled_from(["walk", "ring", "field", "ball"]),
)
@settings(max_examples=60, deadline=None)
def test_photos_that_match_their_neighbours(seed: int, photos: int, size: int, overlap: int, layout: str) -> None:
    rng = np.random.default_rng(seed)
    turn = np.linspace(0, 2 * np.pi, photos, endpoint=False)
    places = {
        "walk": np.arange(photos, dtype=np.float64)[:, None],
        "ring": photos * np.column_stack([np.cos(turn), np.sin(turn)]),
        "field": np.column_stack(np.divmod(np.arange(photos), int(np.sqrt(photos)) + 1)).astype(np.float64),
        "ball": rng.standard_normal((photos, 3)),
    }[layout]
    graph = among_neighbours(places + 0.01 * rng.standard_normal(places.shape), 6, rng)
    options = ViewGraphCutOptions(cluster_photos=size, overlap_photos=overlap)
    clusters = cut_view_graph(graph, options)
    check(graph, clusters)
    assert max(len(cluster.core) for cluster in clusters) <= size
    if len(clusters) > 1:
        assert min(len(cluster.core) for cluster in clusters) >= 0.15 * size
    cluster_of = np.full(photos, -1)
    for number, cluster in enumerate(clusters):
        cluster_of[cluster.core] = number
    a, b = np.sort(cluster_of[graph.pairs], axis=1).T
    neighbours = np.unique(np.column_stack([a, b])[a != b], axis=0)
    for one, other in neighbours.tolist():
        common = np.intersect1d(clusters[one].photos, clusters[other].photos)
        smallest = min(len(clusters[one].core), len(clusters[other].core))
        assert len(common) >= 2 * min(overlap, smallest)
    degree = np.bincount(neighbours.ravel(), minlength=len(clusters))
    for number, cluster in enumerate(clusters):
        assert len(cluster.photos) <= len(cluster.core) + overlap * degree[number]


@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(1, 120))
@settings(max_examples=60, deadline=None)
def test_any_graph(seed: int, photos: int, edges: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = np.sort(rng.integers(0, photos, (edges, 2)), axis=1)
    pairs = np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)
    graph = graph_of(photos, pairs, rng.integers(1, 200, len(pairs)))
    if len(pairs):
        check(graph, cut_view_graph(graph, ViewGraphCutOptions(cluster_photos=8, overlap_photos=2)))


def test_the_cut_is_where_few_matches_are() -> None:
    """Two rooms of 40 and 50 photos, and a door between them that three pairs look through."""
    rng = np.random.default_rng(0)
    rooms = [(first, second) for first in range(90) for second in range(first + 1, 90) if (first < 40) == (second < 40)]
    kept = [pair for pair in rooms if rng.random() < 0.3]
    pairs = np.array([*kept, (3, 40), (3, 41), (5, 41)])
    graph = graph_of(90, pairs, np.full(len(pairs), 60))
    clusters = cut_view_graph(graph, ViewGraphCutOptions(cluster_photos=60, overlap_photos=2))
    assert [cluster.core.tolist() for cluster in clusters] == [list(range(40, 90)), list(range(40))]
    assert set(clusters[0].photos) - set(clusters[0].core) == {3, 5}
    assert set(clusters[1].photos) - set(clusters[1].core) == {40, 41}


def test_strong_pairs_overlap() -> None:
    """Neighbours are given the photos with most matches across, and further ones behind where few photos meet."""
    chain = np.column_stack([np.arange(59), np.arange(1, 60)])
    graph = graph_of(60, chain, np.full(59, 50))
    first, second = cut_view_graph(graph, ViewGraphCutOptions(cluster_photos=40, overlap_photos=3))
    common = np.intersect1d(first.photos, second.photos)
    np.testing.assert_array_equal(common, np.arange(common[0], common[0] + 6))


def test_matches_beyond_the_saturation_do_not_count() -> None:
    rng = np.random.default_rng(3)
    graph = among_neighbours(rng.standard_normal((80, 2)), 6, rng)
    many = graph_of(80, graph.pairs, 1000 + graph.match_count)
    few = graph_of(80, graph.pairs, np.full(len(graph), 100))
    options = ViewGraphCutOptions(cluster_photos=30)
    for one, other in zip(cut_view_graph(many, options), cut_view_graph(few, options), strict=True):
        np.testing.assert_array_equal(one.photos, other.photos)


@pytest.mark.parametrize("photos", [40, 200])
def test_photos_around_a_single_one_stay_together(photos: int) -> None:
    star = np.column_stack([np.zeros(photos - 1, np.int64), np.arange(1, photos)])
    (cluster,) = cut_view_graph(graph_of(photos, star, np.full(photos - 1, 50)), ViewGraphCutOptions(cluster_photos=20))
    assert len(cluster.photos) == photos


def test_a_long_walk_is_cut_across() -> None:
    """The spectral gap of a chain of 3,000 photos is tiny."""
    photos = 3000
    pairs = np.concatenate([np.column_stack([np.arange(photos - k), np.arange(k, photos)]) for k in (1, 2, 3)])
    clusters = cut_view_graph(graph_of(photos, pairs, np.full(len(pairs), 80)), ViewGraphCutOptions())
    assert 10 <= len(clusters) <= 15
    assert all(np.ptp(cluster.core) == len(cluster.core) - 1 for cluster in clusters)


def test_equal_graphs_are_cut_equally() -> None:
    graphs = [among_neighbours(np.random.default_rng(5).standard_normal((300, 3)), 8, np.random.default_rng(6))] * 2
    one, other = (cut_view_graph(graph, ViewGraphCutOptions(cluster_photos=80)) for graph in graphs)
    assert [cluster.photos.tobytes() for cluster in one] == [cluster.photos.tobytes() for cluster in other]
