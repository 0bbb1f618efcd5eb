"""Cutting a view graph into overlapping clusters of photos, by recursive normalised cuts.

The normalised cut of a graph into two sides (Shi and Malik 2000),

    ncut = cut / volume(side) + cut / volume(other side),

is small where few matches are cut and both sides are large. It is minimised over the splits of the photos in the order
of the second eigenvector of the normalised Laplacian. Neighbouring clusters then exchange the photos with most matches
across the cut: these are registered in the models of both, and hold them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from scipy.sparse import coo_array, csr_array, diags_array, eye_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence, eigsh

from ..arrays import Array, Index, Mask
from ..option_ranges import Count, Within
from ..view_graph import ViewGraph

_ROOM = 1.1
"""Clusters are planned as if there were so many times the photos: else there would be no choice where to cut."""
_DENSE = 64
"""Photos up to which the eigenvectors are those of a dense matrix."""
_SHIFT = -1e-5
"""Just below the smallest eigenvalue of a Laplacian, which is 0."""


@dataclass(frozen=True)
class ViewGraphCutOptions:
    """Sizes of clusters and of what neighbours share."""

    cluster_photos: Annotated[int, Within("[8, inf)")] = 300
    """A cluster has at most so many photos before overlap is added, and not much less than half of them."""
    imbalance: Annotated[float, Within("[0, 0.5]")] = 0.2
    """The sizes of the two sides of a cut may differ from equal shares by this ratio, so that it can be made where the
    graph is weak."""
    saturating_matches: Count = 100
    """Matches of a pair beyond this number do not make it stronger."""
    overlap_photos: Annotated[int, Within("[2, inf)")] = 12
    """Photos that each of two neighbouring clusters gives to the other."""


@dataclass(frozen=True, eq=False)
class PhotoCluster:
    """Photos that are mapped together."""

    core: Index
    """(c,) sorted photos; the cores of all clusters are disjoint."""
    photos: Index
    """(n,) sorted photos: the core, and photos of the cores of neighbours."""


def cut_view_graph(graph: ViewGraph, options: ViewGraphCutOptions | None = None) -> tuple[PhotoCluster, ...]:
    """Cut the photos that have edges into clusters, each of which is connected in the graph; the largest first.

    A side of a cut that falls apart loses its smaller parts to the other side. A part of the graph that cannot be cut
    into two connected sides of fair size, such as many photos around a single one, stays whole even where it is larger
    than `cluster_photos`.
    """
    options = options or ViewGraphCutOptions()
    weights = _edge_weights(graph, options.saturating_matches)
    waiting = _connected_parts(weights, np.unique(graph.pairs))
    cores: list[Index] = []
    while waiting:
        photos = waiting.pop()
        sides = _cut(weights[photos][:, photos], options) if len(photos) > options.cluster_photos else None
        if sides is None:
            cores.append(photos)
        else:
            waiting += [photos[sides], photos[~sides]]
    cores.sort(key=lambda core: (-len(core), int(core[0])))
    cluster_of = np.full(graph.photo_count, -1)
    for number, core in enumerate(cores):
        cluster_of[core] = number
    given = _exchanged(weights, cluster_of, options.overlap_photos)
    return tuple(
        PhotoCluster(core, np.unique(np.concatenate([core, *given[number]]))) for number, core in enumerate(cores)
    )


def _edge_weights(graph: ViewGraph, saturating_matches: int) -> csr_array:
    """(photos, photos) symmetric weights of the edges, from 0 to 1."""
    weight = np.minimum(graph.match_count, saturating_matches) / saturating_matches
    a, b = graph.pairs.T
    shape = (graph.photo_count, graph.photo_count)
    return coo_array((np.tile(weight, 2), (np.concatenate([a, b]), np.concatenate([b, a]))), shape=shape).tocsr()


def _connected_parts(weights: csr_array, photos: Index) -> list[Index]:
    """The connected components of these photos."""
    count, label = connected_components(weights[photos][:, photos], directed=False)
    return [photos[label == part] for part in range(count)]


def _cut(weights: csr_array, options: ViewGraphCutOptions) -> Mask | None:
    """(n,) which photos of a connected graph are on the one side of a cut; None if there is none of fair size."""
    photos = weights.shape[0]
    parts = max(2, int(np.ceil(_ROOM * photos / options.cluster_photos)))
    share = (parts // 2) / parts
    size = np.arange(1, photos)
    room = options.cluster_photos * (parts // 2), options.cluster_photos * (parts - parts // 2)
    allowed = (np.abs(size / (share * photos) - 1.0) <= options.imbalance) & (size <= room[0])
    allowed &= photos - size <= room[1]
    allowed[round(share * photos) - 1] = True
    side = np.zeros(photos, bool)
    side[_best_split(weights, allowed)] = True
    for mine in (side, ~side):  # what is moved from the second side to the first is connected with the first
        inside = np.flatnonzero(mine)
        components = _connected_parts(weights, inside)
        largest = max(components, key=len)
        lost = np.setdiff1d(inside, largest)
        side[lost] = ~side[lost]
    least = 0.5 * (1.0 - options.imbalance) * share * photos
    return side if min(side.sum(), (~side).sum()) >= least else None


def _best_split(weights: csr_array, allowed: Mask) -> Index:
    """The photos of one side of least normalised cut; `allowed` (n - 1,) are its sizes 1, 2 ..., counted from either
    end of the order."""
    photos = weights.shape[0]
    order = np.argsort(_second_eigenvector(weights), kind="stable")
    place = np.empty(photos, np.int64)
    place[order] = np.arange(photos)
    edges = weights.tocoo()
    low, high = place[edges.coords[0]], place[edges.coords[1]]
    once = low < high
    # An edge between places i < j is cut by the splits after i, ..., j - 1.
    begin = np.bincount(low[once], edges.data[once], photos)
    end = np.bincount(high[once], edges.data[once], photos)
    cut = np.cumsum(begin - end)[:-1]
    volume = np.cumsum(np.asarray(weights.sum(axis=1))[order])
    normalised = cut / volume[:-1] + cut / (volume[-1] - volume[:-1])
    first, last = (np.where(sizes, normalised, np.inf) for sizes in (allowed, allowed[::-1]))
    if first.min() <= last.min():
        return order[: 1 + int(np.argmin(first))]
    return order[1 + int(np.argmin(last)) :]


def _second_eigenvector(weights: csr_array) -> Array:
    """(n,) the eigenvector of the second smallest eigenvalue of the random-walk Laplacian of a connected graph.

    Graphs without a good cut have a large gap after the eigenvalue, and Lanczos iterations converge at once; those with
    one, such as long chains of photos, have a small gap but sparse factors, so that inverse iterations are cheap.
    """
    photos = weights.shape[0]
    root = 1.0 / np.sqrt(np.asarray(weights.sum(axis=1)))
    scaled = diags_array(root) @ weights @ diags_array(root)
    if photos <= _DENSE:
        vector = np.linalg.eigh(scaled.toarray())[1][:, -2]
    else:
        start = np.random.default_rng(0).standard_normal(photos)
        try:
            values, vectors = eigsh(scaled, k=2, which="LA", v0=start, tol=1e-4, maxiter=30)
            vector = vectors[:, np.argsort(values)[0]]
        except ArpackNoConvergence:
            laplacian = (eye_array(photos) - scaled).tocsc()
            values, vectors = eigsh(laplacian, k=2, sigma=_SHIFT, which="LM", v0=start, tol=1e-4)
            vector = vectors[:, np.argsort(values)[1]]
    return np.asarray(vector * root)


def _exchanged(weights: csr_array, cluster_of: Index, count: int) -> list[list[Index]]:
    """The photos that each cluster is given by its neighbours, a list of arrays per cluster."""
    edges = weights.tocoo()
    mine, other = cluster_of[edges.coords[0]], cluster_of[edges.coords[1]]
    across = mine != other
    clusters = int(cluster_of.max(initial=-1)) + 1
    given: list[list[Index]] = [[] for _ in range(clusters)]
    for giver, taker in np.unique(np.column_stack([mine[across], other[across]]), axis=0).tolist():
        photos = np.flatnonzero(cluster_of == giver)
        inside = np.flatnonzero(cluster_of == taker)
        into = np.asarray(weights[photos][:, inside].sum(axis=1))
        chosen = np.argsort(-into, kind="stable")[: min(count, np.count_nonzero(into))]
        among = weights[photos][:, photos]
        while len(chosen) < min(count, len(photos)):  # few photos meet: further ones behind them
            behind = np.asarray(among[:, chosen].sum(axis=1))
            behind[chosen] = 0.0
            if not behind.any():
                break
            chosen = np.append(chosen, np.argmax(behind))
        given[taker].append(photos[chosen])
    return given
