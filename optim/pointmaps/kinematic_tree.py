"""Spanning trees of the photos by shared matches, and their roots, as MASt3R-SfM builds them.

Only first_order_alignment needs them: its poses are relative to those of the parents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from ..arrays import Array
from ..option_ranges import Positive

TreeEdges = list[tuple[int, int]]

UNMATCHED_DISTANCE = 2.0
"""Distance between photos without matches; those of matched photos are at most 1."""


@dataclass(frozen=True)
class KinematicTreeOptions:
    """How the photos are joined to a tree."""

    method: Literal["mst", "hclust-ward", "hclust-average"] = "hclust-ward"
    """Maximum spanning tree of the numbers of matches, or hierarchical clustering of the distances 1 - similarity."""
    full_similarity_ratio: Positive = 3.0
    """Matches over the anchors of the photo that has fewer at which the similarity of clustering reaches 1."""


class Tree(NamedTuple):
    """A rooted spanning tree."""

    root: int
    edges: TreeEdges
    """(parent, child), parents first."""


def kinematic_tree(
    matches: Array, anchors: NDArray[np.int64], options: KinematicTreeOptions = KinematicTreeOptions()
) -> Tree:
    """Build a spanning tree of all photos, rooted near the middle of its longest path.

    `matches` (n, n) is the symmetric number of matches, `anchors` (n,) the largest number that a photo can have.
    Hierarchical clustering also attaches photos without matches; a maximum spanning tree does not.
    """
    if options.method == "mst":
        graph = nx.Graph()
        graph.add_nodes_from(range(len(matches)))
        for i, j in zip(*np.nonzero(np.triu(matches, 1)), strict=True):
            graph.add_edge(int(i), int(j), weight=float(matches[i, j]))
        edges: TreeEdges = [(i, j) for i, j in nx.maximum_spanning_edges(graph, data=False)]
    else:
        edges = _cluster_edges(matches, anchors, options)
    return _rooted_tree(len(matches), edges)


def _cluster_edges(matches: Array, anchors: NDArray[np.int64], options: KinematicTreeOptions) -> TreeEdges:
    """An edge per merge of a hierarchical clustering, between the representatives of the two clusters."""
    n = len(matches)
    if n < 2:
        return []
    similarity = np.minimum(1.0, matches / (options.full_similarity_ratio * np.minimum.outer(anchors, anchors)))
    np.fill_diagonal(similarity, 1.0)
    distance = np.where(similarity > 0.0, 1.0 - similarity, UNMATCHED_DISTANCE)
    representative = list(range(n))
    edges: TreeEdges = []
    linkage_method: Literal["ward", "average"] = "ward" if options.method == "hclust-ward" else "average"
    for left, right, *_ in linkage(squareform(distance, checks=False), linkage_method):
        a, b = representative[int(left)], representative[int(right)]
        edges.append((a, b))
        keeps = a if similarity[a].sum() > similarity[b].sum() else b
        similarity[keeps] = np.maximum(similarity[a], similarity[b])
        representative.append(keeps)
    return edges


def _rooted_tree(n: int, edges: TreeEdges) -> Tree:
    """The tree of these edges, rooted near the middle of its longest path."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(n))
    # Breadth-first search follows the order of insertion. The published one takes later photos first.
    graph.add_edges_from(sorted((*edges, *((j, i) for i, j in edges)), key=lambda edge: (edge[1] < edge[0], edge)))
    from_one_end, _ = _breadth_first(graph, 0)
    from_other, _ = _breadth_first(graph, int(np.argmax(from_one_end)))
    back, _ = _breadth_first(graph, int(np.argmax(from_other)))
    root = int(np.argmax(np.minimum(back, from_other)))
    if cut_off := int((from_one_end < 0).sum()):
        raise ValueError(f"{cut_off} photos are connected with the others by no match")
    return Tree(root, _breadth_first(graph, root)[1])


def _breadth_first(graph: nx.DiGraph[int], start: int) -> tuple[NDArray[np.int64], TreeEdges]:
    """The place of each photo in the order of a breadth-first search, -1 if not reached, and the edges taken."""
    edges = list(nx.bfs_edges(graph, start))
    rank = np.full(len(graph), -1, np.int64)
    rank[[start, *(child for _, child in edges)]] = np.arange(1 + len(edges))
    return rank, edges
