"""The view graph: selecting edges shares the matches, and all of them can be had one edge after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from unposed.optim.view_graph import Keypoints, ViewGraph, build_view_graph


def three_edges() -> ViewGraph:
    """Pairs with 3, 0 and 2 matches among five photos of four key points each."""
    keypoints = Keypoints(np.zeros((20, 2)), np.arange(0, 24, 4), np.full((5, 2), 100))
    return build_view_graph(
        keypoints,
        np.array([[0, 1], [0, 2], [3, 4]]),
        np.array([3, 0, 2]),
        np.array([0, 1, 2, 12, 13]),
        np.array([4, 5, 6, 16, 17]),
        fundamental=np.arange(27.0).reshape(3, 3, 3),
        focal_px=np.array([1.0, np.nan, 3.0]),
        depth_focal_px=np.arange(6.0).reshape(3, 2),
    )


def test_everything_is_given_without_a_copy() -> None:
    graph = three_edges()
    row_a, row_b = graph.matches()
    assert np.shares_memory(row_a, graph.row_a) and np.shares_memory(row_b, graph.row_b)
    np.testing.assert_array_equal(graph.match_count, [3, 0, 2])
    np.testing.assert_array_equal(graph.edge_of_match(), [0, 0, 0, 2, 2])
    assert graph.select(np.ones(3, bool)) is graph


def test_selected_edges_share_the_matches() -> None:
    graph = three_edges()
    part = graph.select(np.array([False, True, True]))
    assert part.row_a is graph.row_a
    np.testing.assert_array_equal(part.pairs, [[0, 2], [3, 4]])
    np.testing.assert_array_equal(part.matches(), [[12, 13], [16, 17]])
    np.testing.assert_array_equal(part.edge_of_match(), [1, 1])
    np.testing.assert_array_equal(part.row_b[part.match_rows(1)], [16, 17])
    np.testing.assert_array_equal(part.fundamental, graph.fundamental[1:])
    np.testing.assert_array_equal(part.focal_px, [np.nan, 3.0])
    np.testing.assert_array_equal(part.depth_focal_px, [[2.0, 3.0], [4.0, 5.0]])
    assert len(graph.select(np.zeros(3, bool)).matches()[0]) == 0


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.data())
def test_matches_of_any_selection_are_those_of_its_edges(counts: list[int], data: st.DataObject) -> None:
    edges = len(counts)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=edges, max_size=edges)))
    pairs = np.column_stack([np.arange(edges), np.arange(edges) + 1])
    rows = np.arange(sum(counts))
    keypoints = Keypoints(np.zeros((0, 2)), np.zeros(edges + 2, np.int64), np.zeros((edges + 1, 2), np.int64))
    graph = build_view_graph(keypoints, pairs, np.array(counts), rows, rows + 100).select(keep)
    slowly = [rows[sum(counts[:edge]) : sum(counts[: edge + 1])] for edge in np.flatnonzero(keep)]
    np.testing.assert_array_equal(graph.matches()[0], np.concatenate([np.zeros(0), *slowly]))
    np.testing.assert_array_equal(graph.matches()[1] - 100, graph.matches()[0])


def test_pairs_are_left_out_by_name_and_photos_by_a_mask() -> None:
    graph = three_edges()
    np.testing.assert_array_equal(graph.without(np.array([[0, 1], [1, 2]], np.int32)).pairs, [[0, 2], [3, 4]])
    assert graph.without(np.zeros((0, 2), np.int32)) is graph
    np.testing.assert_array_equal(graph.among(np.array([True, False, True, True, True])).pairs, [[0, 2], [3, 4]])


def test_the_largest_component_has_most_photos() -> None:
    np.testing.assert_array_equal(np.flatnonzero(three_edges().largest_component()), [0, 1, 2])


@pytest.mark.parametrize("row", range(5))
def test_rows_know_their_photo(row: int) -> None:
    """Photos without key points own no row."""
    uneven = Keypoints(np.zeros((5, 2)), np.array([0, 2, 2, 5]), np.zeros((3, 2), np.int64))
    photo = int(uneven.photo_of(np.array([row]))[0])
    assert photo == [0, 0, 2, 2, 2][row]
    assert row in range(*uneven.rows_of(photo).indices(5))
