"""Which pairs of photos are worth matching. Pairs are (n, 2) photo indices, smaller first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

if TYPE_CHECKING:
    import networkx

Pairs = NDArray[np.integer]
Similarity = NDArray[np.floating]
Mask = NDArray[np.bool_]


def all_pairs(photos: int) -> NDArray[np.int32]:
    """Every pair, sorted."""
    return np.column_stack(np.triu_indices(photos, 1)).astype(np.int32)


def best_partners(pairs: Pairs, similarity: Similarity, count: int) -> Mask:
    """Pairs that are among the `count` best of at least one of their photos; equal ones by their order."""
    photo = pairs.T.ravel()
    order = np.lexsort((-np.tile(similarity, 2), photo))
    first = np.searchsorted(photo[order], photo[order])
    keep = np.empty(len(photo), bool)
    keep[order] = np.arange(len(photo)) - first < count
    return keep[: len(pairs)] | keep[len(pairs) :]


def spanning_forest(pairs: Pairs, similarity: Similarity) -> Mask:
    """The fewest and most similar pairs that connect whatever the pairs connect."""
    if not len(pairs):
        return np.zeros(0, bool)
    size = int(pairs.max()) + 1
    # Distinct whole numbers for weights: similarity may be zero, which a sparse graph takes for no edge, and ties
    # would leave the choice to the library.
    rank = np.empty(len(pairs), np.int64)
    rank[np.argsort(-similarity, kind="stable")] = np.arange(1, len(pairs) + 1)
    tree = minimum_spanning_tree(coo_array((rank, (pairs[:, 0], pairs[:, 1])), shape=(size, size)).tocsr())
    return np.isin(rank, tree.data.astype(np.int64))


def nearest_pairs(
    pairs: Pairs, similarity: Similarity, *, neighbours: int, min_similarity: float, all_below: int
) -> Mask:
    """The pairs to match: the best partners of each photo unless they are hopeless, and always a spanning forest,
    so that no photo is cut off by a similarity that fails for it. Every pair when there are few photos."""
    if len(np.unique(pairs)) <= all_below:
        return np.ones(len(pairs), bool)
    hopeful = best_partners(pairs, similarity, neighbours) & (similarity >= min_similarity)
    return hopeful | spanning_forest(pairs, similarity)


def to_networkx(photos: int, pairs: Pairs, similarity: Similarity) -> networkx.Graph[int]:
    """An undirected graph over all photos, with the attribute `similarity` on its edges."""
    import networkx  # slow to import, and only some need it

    graph: networkx.Graph[int] = networkx.Graph()
    graph.add_nodes_from(range(photos))
    graph.add_edges_from(
        (int(a), int(b), {"similarity": float(s)}) for (a, b), s in zip(pairs, similarity, strict=True)
    )
    return graph
