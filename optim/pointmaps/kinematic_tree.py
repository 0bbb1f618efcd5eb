"""Trees that hang every photo on one that it shares many matches with, as MASt3R-SfM builds them.

Only the first-order aligner needs them: its poses are a chain of relative ones.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from ..arrays import Array

Links = list[tuple[int, int]]
Method = Literal["mst", "hclust-ward", "hclust-average"]

UNRELATED = 2.0
"""Distance between photos without matches: farther than any related ones, which are at most 1 apart."""

FULL_SHARE = 3.0
"""So many times as many matches as the smaller photo has anchors are as similar as it gets."""


class Tree(NamedTuple):
    root: int
    edges: Links
    """(parent, child), parents first."""


def kinematic_tree(matches: Array, anchors: NDArray[np.int64], method: Method = "hclust-ward") -> Tree:
    """A spanning tree of all photos and a root near its middle.

    `matches` (n, n) counts matches between photos, symmetric; `anchors` (n,) how many there could be. Clustering
    attaches photos without any match all the same.
    """
    if method == "mst":
        graph = nx.Graph()
        graph.add_nodes_from(range(len(matches)))
        for i, j in zip(*np.nonzero(np.triu(matches, 1)), strict=True):
            graph.add_edge(int(i), int(j), weight=float(matches[i, j]))
        links: Links = [(i, j) for i, j in nx.maximum_spanning_edges(graph, data=False)]
    else:
        links = _merges(matches, anchors, "ward" if method == "hclust-ward" else "average")
    return _hang(len(matches), links)


def _merges(matches: Array, anchors: NDArray[np.int64], linkage_method: Literal["ward", "average"]) -> Links:
    """An edge per merge of a hierarchical clustering, between the representatives of the two clusters."""
    n = len(matches)
    if n < 2:
        return []
    similarity = np.minimum(1.0, matches / (FULL_SHARE * np.minimum.outer(anchors, anchors)))
    np.fill_diagonal(similarity, 1.0)
    distance = np.where(similarity > 0.0, 1.0 - similarity, UNRELATED)
    representative = list(range(n))
    links: Links = []
    for left, right, *_ in linkage(squareform(distance, checks=False), linkage_method):
        a, b = representative[int(left)], representative[int(right)]
        links.append((a, b))
        keeps = a if similarity[a].sum() > similarity[b].sum() else b
        similarity[keeps] = np.maximum(similarity[a], similarity[b])
        representative.append(keeps)
    return links


def _hang(n: int, links: Links) -> Tree:
    neighbours: list[list[int]] = [[] for _ in range(n)]
    for i, j in links:
        neighbours[i].append(j)
        neighbours[j].append(i)
    for photo, own in enumerate(neighbours):  # in the order of the published trees
        neighbours[photo] = sorted(j for j in own if j > photo) + sorted(j for j in own if j < photo)
    from_one_end, _ = _walk(neighbours, 0)
    from_other, _ = _walk(neighbours, int(np.argmax(from_one_end)))
    back, _ = _walk(neighbours, int(np.argmax(from_other)))
    root = int(np.argmax(np.minimum(back, from_other)))
    if cut_off := int((from_one_end < 0).sum()):
        raise ValueError(f"{cut_off} photos are connected with the others by no match")
    return Tree(root, _walk(neighbours, root)[1])


def _walk(neighbours: list[list[int]], start: int) -> tuple[NDArray[np.int64], Links]:
    """When a breadth-first walk reaches each photo, and the edges it takes."""
    rank = np.full(len(neighbours), -1, np.int64)
    rank[start], seen = 0, 1
    edges: Links = []
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for other in neighbours[here]:
            if rank[other] < 0:
                rank[other] = seen
                seen += 1
                edges.append((here, other))
                queue.append(other)
    return rank, edges
