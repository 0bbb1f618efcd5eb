"""Trees over photos: equal to the published ones, and what they are for any input."""

from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, strategies as st

from unposed.optim.pointmaps.kinematic_tree import KinematicTreeOptions, kinematic_tree

METHODS = [KinematicTreeOptions(method) for method in get_args(get_type_hints(KinematicTreeOptions)["method"])]


def test_the_trees_are_the_published_ones(reference: Callable[[str], Any]) -> None:
    for case in reference("fixtures/kinematic_trees.json"):
        width, height = (side // case["subsample"] for side in case["imsize"])
        for method in METHODS:
            found = kinematic_tree(np.array(case["scores"]), np.full(case["n"], width * height), method)
            assert found.root == case[method.method]["root"]
            assert [list(edge) for edge in found.edges] == case[method.method]["edges"]


@given(st.integers(1, 12), st.integers(0, 1000), st.sampled_from(METHODS))
def test_every_photo_hangs_on_one_that_came_before(n: int, seed: int, method: KinematicTreeOptions) -> None:
    rng = np.random.default_rng(seed)
    counts = np.triu(rng.integers(1, 300, (n, n)), 1).astype(np.float64)
    found = kinematic_tree(counts + counts.T, rng.integers(50, 200, n), method)
    reached = {found.root}
    for parent, child in found.edges:
        assert parent in reached
        assert child not in reached
        reached.add(child)
    assert reached == set(range(n))


def test_a_chain_hangs_on_its_middle() -> None:
    counts = np.zeros((7, 7))
    counts[np.arange(6), np.arange(1, 7)] = 100.0
    found = kinematic_tree(counts + counts.T, np.full(7, 50))
    depth = nx.shortest_path_length(nx.Graph(found.edges), found.root)
    assert max(depth.values()) <= 4


def test_photos_without_matches_are_attached_all_the_same() -> None:
    """By clustering; a spanning tree of matches has nothing to hang them on."""
    counts = np.zeros((4, 4))
    counts[0, 1] = counts[1, 0] = 30.0
    assert len(kinematic_tree(counts, np.full(4, 50)).edges) == 3
    with pytest.raises(ValueError, match="2 photos"):
        kinematic_tree(counts, np.full(4, 50), KinematicTreeOptions("mst"))
