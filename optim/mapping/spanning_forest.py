"""Graphs whose nodes are photos and whose edges are pairs: ranks of edges, rooted forests, and paths in them.

SciPy is imported where it is used: a localizer loads this with the nodes of its preset and calls none of it, and the
import takes longer than a photo.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..arrays import Index, Mask


def ranks(pairs: NDArray[np.integer], weight: NDArray[np.floating]) -> Index:
    """(2, e) number of pairs of larger weight that the first photo of each pair has, and the second; ties by order."""
    photo = pairs.T.ravel()
    order = np.lexsort((-np.tile(weight, 2), photo))
    rank = np.empty(len(photo), np.int64)
    rank[order] = np.arange(len(photo)) - np.searchsorted(photo[order], photo[order])
    return rank.reshape(2, len(pairs))


def rooted(photos: int, pairs: NDArray[np.integer]) -> tuple[Index, Index, Index]:
    """A breadth-first spanning forest: parent of each photo (roots are their own), depth, and number of its tree."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, connected_components

    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(photos, photos))
    tree = connected_components(graph, directed=False)[1].astype(np.int64)
    root = np.unique(tree, return_index=True)[1]
    # From a further node that joins all roots, one search visits every tree as a search of its own would.
    ends = np.concatenate([pairs, np.column_stack([np.full(len(root), photos), root])])
    joined = coo_array((np.ones(len(ends)), ends.T), shape=(photos + 1, photos + 1)).tocsr()
    order, before = breadth_first_order(joined, photos, directed=False)
    parent, depth = np.where(before[:-1] == photos, np.arange(photos), before[:-1]), np.zeros(photos + 1, np.int64)
    for photo in order[1:].tolist():
        depth[photo] = depth[before[photo]] + 1
    return parent.astype(np.int64), depth[:-1] - 1, tree


def joined_otherwise(photos: int, kept: NDArray[np.integer], pairs: NDArray[np.integer]) -> Mask:
    """(n,) of which pairs (n, 2) those that are kept (e, 2) join the photos, directly or through others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(kept)), (kept[:, 0], kept[:, 1])), shape=(photos, photos))
    part = connected_components(graph, directed=False)[1]
    return np.asarray(part[pairs[:, 0]] == part[pairs[:, 1]])


def path(parent: Index, a: int, b: int) -> list[tuple[int, int]]:
    """The pairs on the path from a to b in a forest; empty if there is none."""
    up = _upwards(parent, a)
    down = _upwards(parent, b)
    if up[-1] != down[-1]:
        return []
    while len(up) > 1 and len(down) > 1 and up[-2] == down[-2]:
        up.pop()
        down.pop()
    return [(min(link), max(link)) for link in pairwise(up + down[-2::-1])]


def _upwards(parent: Index, photo: int) -> list[int]:
    way = [photo]
    while (above := int(parent[way[-1]])) != way[-1]:
        way.append(above)
    return way
