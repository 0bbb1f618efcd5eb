"""Scene graphs: which pairs of photos are matched. Pairs are (n, 2) photo indices, smaller first.

SciPy is imported where it is used, as in `optim.mapping.spanning_forest`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Mask
from unposed.optim.mapping.spanning_forest import ranks, rooted

if TYPE_CHECKING:
    import networkx
    from scipy.sparse import csr_array

NOTHING_JOINS = "no pair joins the parts"
"""How the warning about a scene graph in parts begins; the report, which says more of each, leaves it out."""


def all_pairs(photos: int) -> NDArray[np.int32]:
    """Every pair, sorted."""
    return np.column_stack(np.triu_indices(photos, 1)).astype(np.int32)


def best_partners(pairs: NDArray[np.integer], similarity: NDArray[np.floating], count: int) -> Mask:
    """Pairs that are among the `count` most similar of at least one of their photos; ties by their order."""
    return np.asarray(ranks(pairs, similarity).min(axis=0) < count)


def spanning_forest(pairs: NDArray[np.integer], similarity: NDArray[np.floating]) -> Mask:
    """A maximum spanning forest of the graph of pairs: fewest pairs that connect all that is connected, most similar
    first."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    if not len(pairs):
        return np.zeros(0, bool)
    size = int(pairs.max()) + 1
    # Ranks as weights: zero similarity would mean no edge in a sparse graph, and ties would be broken by the library.
    rank = np.empty(len(pairs), np.int64)
    rank[np.argsort(-similarity, kind="stable")] = np.arange(1, len(pairs) + 1)
    tree = minimum_spanning_tree(coo_array((rank, (pairs[:, 0], pairs[:, 1])), shape=(size, size)).tocsr())
    return np.isin(rank, tree.data.astype(np.int64))


def nearest_pairs(
    pairs: NDArray[np.integer],
    similarity: NDArray[np.floating],
    *,
    neighbours: int,
    min_similarity: float,
    all_below: int,
    per_photo: float = np.inf,
) -> Mask:
    """Choose the pairs to match: the best partners of each photo with at least `min_similarity`, within a budget of
    `per_photo` pairs per photo.

    A maximum spanning forest is always kept, so that no photo is cut off where its similarities fail, and a bridge
    augmentation of it among the similar pairs, so that no part of the collection depends on a single pair that may be
    wrong. These may exceed the budget. Up to `all_below` photos all pairs are kept.
    """
    photos = len(np.unique(pairs))
    if photos <= all_below:
        return np.ones(len(pairs), bool)
    hopeful = similarity >= min_similarity
    kept = spanning_forest(pairs, similarity)
    kept |= bridge_augmentation(pairs, similarity, kept, hopeful)
    wanted = np.flatnonzero(best_partners(pairs, similarity, neighbours) & hopeful & ~kept)
    budget = max(0, int(min(per_photo * photos, len(pairs))) - int(kept.sum()))
    # The best partners of all photos come before the second ones of any.
    place = ranks(pairs, similarity).min(axis=0)[wanted]
    kept[wanted[np.lexsort((-similarity[wanted], place))[:budget]]] = True
    return kept


def bridge_augmentation(
    pairs: NDArray[np.integer], similarity: NDArray[np.floating], kept: Mask, allowed: Mask
) -> Mask:
    """The most similar of the allowed pairs that, added to the kept ones, leave as few bridges as possible.

    A bridge is a pair without which its component falls apart. Greedy, the most similar pair first: a pair is added
    where it closes a cycle with a pair of a spanning forest that is on no cycle yet.
    """
    extra = np.zeros(len(pairs), bool)
    if not kept.any():
        return extra
    blocks = _CycleBlocks(int(pairs.max()) + 1, pairs[kept])
    order = np.lexsort((-similarity, ~kept))
    for row in order[(kept | allowed)[order]].tolist():
        a, b = pairs[row].tolist()
        extra[row] = blocks.close(a, b) and not kept[row]
    return extra


class _CycleBlocks:
    """A spanning forest in which cycles are contracted to their photo nearest to the root (union-find)."""

    def __init__(self, photos: int, pairs: NDArray[np.integer]) -> None:
        self.parent, self.depth, self.tree = (column.tolist() for column in rooted(photos, pairs))
        self.top = list(range(photos))

    def close(self, a: int, b: int) -> bool:
        """Contract the cycle of a pair and its path through the forest; whether a link on it was on no cycle before."""
        if self.tree[a] != self.tree[b] or self.parent[a] == b or self.parent[b] == a:
            return False  # a link of the forest closes no cycle
        a, b = self._find(a), self._find(b)
        closes = a != b
        while a != b:
            if self.depth[a] < self.depth[b]:
                a, b = b, a
            self.top[a] = self.parent[a]
            a = self._find(a)
        return closes

    def links_on_no_cycle(self) -> list[tuple[int, int]]:
        """Links (child, parent) of the forest that no cycle was closed with."""
        links = enumerate(zip(self.parent, self.top, strict=True))
        return [(photo, parent) for photo, (parent, top) in links if top == photo != parent]

    def _find(self, photo: int) -> int:
        top = self.top
        while top[photo] != photo:
            top[photo] = top[top[photo]]
            photo = top[photo]
        return photo


def similarity_of(
    wanted: NDArray[np.integer], pairs: NDArray[np.integer], similarity: NDArray[np.floating]
) -> NDArray[np.float32]:
    """(n,) similarity of the wanted pairs, 0 for those not among `pairs`. Both lists are sorted."""
    if not len(wanted) or not len(pairs):
        return np.zeros(len(wanted), np.float32)
    base = int(max(wanted.max(), pairs.max())) + 1
    key, known = (p[:, 0].astype(np.int64) * base + p[:, 1] for p in (wanted, pairs))
    at = np.minimum(np.searchsorted(known, key), len(known) - 1)
    return np.where(known[at] == key, similarity[at], 0.0).astype(np.float32)


def expanded_pairs(
    photos: int,
    ranked: NDArray[np.integer],
    similarity: NDArray[np.floating],
    tried: NDArray[np.integer],
    matches: NDArray[np.integer],
    *,
    neighbours: int,
    per_photo: float,
) -> NDArray[np.integer]:
    """Choose further pairs (n, 2), sorted, after `matches` (e,) were verified on the `tried` ones.

    Every photo gets as many candidates as it lacks verified partners. Candidates with a common verified partner come
    first (query expansion), scored by the smaller number of matches on the path through it, then the most similar ones.
    The total of tried pairs stays within `per_photo` times the photos; first candidates of all photos precede second
    ones.
    """
    candidates, score = untried_candidates(photos, ranked, similarity, tried, matches)
    if not len(candidates):
        return np.zeros((0, 2), np.int32)
    partners = np.bincount(tried[matches > 0].ravel(), minlength=photos)
    place = ranks(candidates, score)
    lacking = np.maximum(neighbours - partners, 0)
    wanted = np.flatnonzero((place < lacking[candidates.T]).any(axis=0))
    budget = max(0, int(per_photo * photos) - len(tried))
    best = wanted[np.lexsort((-score[wanted], place[:, wanted].min(axis=0)))[:budget]]
    new: NDArray[np.int32] = candidates[np.sort(best)].astype(np.int32)
    return new


def untried_candidates(
    photos: int,
    ranked: NDArray[np.integer],
    similarity: NDArray[np.floating],
    tried: NDArray[np.integer],
    matches: NDArray[np.integer],
    of: Mask | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pairs (n, 2), sorted, that were not tried but may match, after `matches` (e,) were verified on the `tried` ones,
    and a score (n,); of the photos in the mask `of` alone, where it is given.

    Pairs with a common verified partner come first (query expansion), scored by the smaller number of matches on the
    path through it, then the ranked ones by their similarity.
    """
    from scipy.sparse import coo_array

    found = matches > 0
    link = coo_array((matches[found].astype(np.float64), tuple(tried[found].T)), shape=(photos, photos)).tocsr()
    link = (link + link.T).tocsr()
    linked = _through_common_partners(link, np.arange(photos) if of is None else np.flatnonzero(of))
    if of is not None:
        ranked, similarity = (each[of[ranked].any(axis=1)] for each in (ranked, similarity))
    candidates = np.concatenate([linked[:, :2].astype(np.int64), ranked])
    # Matches are integers and similarity is below one: candidates with a common partner come first.
    score = np.concatenate([1.0 + linked[:, 2], similarity / (1.0 + np.max(similarity, initial=0.0))])
    base = np.int64(photos)
    key = candidates[:, 0] * base + candidates[:, 1]
    order = np.lexsort((-score, key))
    first = order[np.diff(key[order], prepend=-1) != 0]  # the larger score of a candidate counts
    first = first[~np.isin(key[first], tried[:, 0].astype(np.int64) * base + tried[:, 1])]
    return candidates[first], score[first]


def _through_common_partners(link: csr_array, of: NDArray[np.integer]) -> NDArray[np.float64]:
    """(n, 3) unlinked pairs of these photos with a common partner, and the largest over these partners of the smaller
    number of matches. Pairs among these photos are there twice."""
    photos = link.shape[0]
    rows = []
    for a in of.tolist():
        partners = slice(link.indptr[a], link.indptr[a + 1])
        best = np.zeros(photos)
        for k, strength in zip(link.indices[partners].tolist(), link.data[partners].tolist(), strict=True):
            next_ones = slice(link.indptr[k], link.indptr[k + 1])
            others = link.indices[next_ones]
            best[others] = np.maximum(best[others], np.minimum(link.data[next_ones], strength))
        best[a] = 0.0
        best[link.indices[partners]] = 0.0
        b = np.flatnonzero(best)
        rows.append(np.column_stack([np.minimum(a, b), np.maximum(a, b), best[b]]))
    return np.concatenate([np.zeros((0, 3)), *rows])


@dataclass(frozen=True)
class Connectivity:
    """Connected components and bridges of a graph of pairs."""

    components: tuple[tuple[int, ...], ...]
    """Photos of each component, largest first; photos without a pair are in none."""
    bridges: tuple[tuple[int, int, int], ...]
    """Pairs a < b without which their component falls apart, and the number of photos in the smaller part, largest
    first."""


def components_and_bridges(photos: int, pairs: NDArray[np.integer]) -> Connectivity:
    """Find connected components and bridges of the graph of these pairs.

    A link of a spanning forest is a bridge if no other pair closes a cycle with it, and a spanning forest of the other
    pairs closes cycles with the same links as all of them do (Nagamochi and Ibaraki 1992): so photos are counted, not
    pairs.
    """
    blocks = _CycleBlocks(photos, pairs)
    parent, tree = np.array(blocks.parent, np.int64), np.array(blocks.tree, np.int64)
    a, b = pairs.T.astype(np.int64)
    others = pairs[(parent[a] != b) & (parent[b] != a)]
    for one, other in others[spanning_forest(others, np.zeros(len(others)))].tolist():
        blocks.close(one, other)
    below = np.ones(photos, np.int64)
    for photo in np.argsort(-np.array(blocks.depth), kind="stable").tolist():
        if parent[photo] != photo:
            below[parent[photo]] += below[photo]
    size = np.bincount(tree, minlength=1)
    bridges = [
        (min(link), max(link), int(min(below[link[0]], size[tree[link[0]]] - below[link[0]])))
        for link in blocks.links_on_no_cycle()
    ]
    members = np.split(np.argsort(tree, kind="stable"), np.cumsum(size)[:-1])
    components = [tuple(photos.tolist()) for photos in members if len(photos) > 1]
    return Connectivity(
        tuple(sorted(components, key=lambda component: (-len(component), component))),
        tuple(sorted(bridges, key=lambda bridge: (-bridge[2], bridge))),
    )


def to_networkx(
    photos: int, pairs: NDArray[np.integer], similarity: NDArray[np.floating] | None = None
) -> networkx.Graph[int]:
    """An undirected networkx graph of all photos, with the edge attribute `similarity` where it is given."""
    import networkx

    graph: networkx.Graph[int] = networkx.Graph()
    graph.add_nodes_from(range(photos))
    ends = pairs.tolist()
    if similarity is None:
        graph.add_edges_from(ends)
    else:
        graph.add_edges_from((a, b, {"similarity": s}) for (a, b), s in zip(ends, similarity.tolist(), strict=True))
    return graph
