"""Photos as a graph whose edges are pairs: ranks of pairs, and rooted forests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

Index = NDArray[np.int64]


def ranks(pairs: NDArray[np.integer], weight: NDArray[np.floating]) -> Index:
    """(2, e) how many pairs of larger weight the first photo of each pair has, and the second; equal ones by order."""
    photo = pairs.T.ravel()
    order = np.lexsort((-np.tile(weight, 2), photo))
    rank = np.empty(len(photo), np.int64)
    rank[order] = np.arange(len(photo)) - np.searchsorted(photo[order], photo[order])
    return rank.reshape(2, len(pairs))


def rooted(photos: int, pairs: NDArray[np.integer]) -> tuple[Index, Index, Index]:
    """A forest of pairs that spans all that they connect: each photo's parent (roots have themselves), its depth, and
    a number for its tree."""
    parent, depth = np.arange(photos), np.zeros(photos, np.int64)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(photos, photos)).tocsr()
    _, tree = connected_components(graph, directed=False)
    for root in np.unique(tree, return_index=True)[1].tolist():
        order, before = breadth_first_order(graph, root, directed=False)
        for child in order[1:].tolist():
            parent[child] = before[child]
            depth[child] = depth[before[child]] + 1
    return parent, depth, tree.astype(np.int64)
