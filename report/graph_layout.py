"""Places for the photos of a view graph in a drawing: near to those they share most with."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.csgraph import connected_components, dijkstra, shortest_path
from scipy.sparse.linalg import cg

from unposed.optim.arrays import Array, Index

STRESS_STEPS = 60
"""Steps of majorisation; a drawing needs no more."""
STRESS_MOST = 100
"""Components of more photos are laid out by their distances to pivots alone: those of all pairs take time n^3, four
times as much for 310 photos, and lower the stress from 0.0209 to 0.0202 there."""
PIVOTS = 64
"""Photos of a large component to which distances are kept."""
SOLVER_STEPS = 8
"""Steps of conjugate gradients in each step of sparse majorisation: it goes on from where the last one ended."""
ROWS_AT_ONCE = 256
"""Photos whose distances to all others are in memory at a time."""


def laid_out(photos: int, pairs: Index, matches: Index) -> Array:
    """(photos, 2) in the unit square: components side by side, each by stress majorisation.

    The wanted distance of two photos is that of the shortest path between them, of pairs with length 1 / sqrt(1 +
    matches). Classical scaling of these distances is the start; its stress, the sum of (|x_i - x_j| - d_ij)^2 / d_ij^2,
    is lowered by SMACOF (Gansner, Koren and North 2005). Of large components only distances along pairs and to some
    pivots count (Brandes and Pich 2007; Ortmann, Klimenta and Brandes 2016), so that time grows with the photos. No
    random numbers: the same graph gives the same drawing.
    """
    place = np.full((photos, 2), 0.5)
    if not photos:
        return place
    length = 1.0 / np.sqrt(1.0 + np.asarray(matches, np.float64))
    graph = coo_array((length, (pairs[:, 0], pairs[:, 1])), shape=(photos, photos)).tocsr()
    component = connected_components(graph, directed=False)[1]
    members = np.split(np.argsort(component, kind="stable"), np.cumsum(np.bincount(component))[:-1])
    members.sort(key=lambda rows: (-len(rows), int(rows[0])))
    for rows, (left, top, side) in zip(members, _boxes([len(rows) for rows in members]), strict=True):
        place[rows] = np.array([left, top]) + side * (0.08 + 0.84 * _component(graph[rows][:, rows]))
    return place


def _component(graph: csr_array) -> Array:
    """(n, 2) in the unit square, for one connected component."""
    count = graph.shape[0]
    if count == 1:
        return np.full((1, 2), 0.5)
    if count <= STRESS_MOST:
        wanted = shortest_path(graph, directed=False)
        x = _classical_scaling(wanted)
        x = _majorised(x, wanted) if count > 2 else x
    else:
        pivots, wanted = _pivots(graph)
        x = _sparsely_majorised(_pivot_scaling(pivots, wanted), *_stress_terms(graph, pivots, wanted))
    low, high = x.min(axis=0), x.max(axis=0)
    return np.asarray((x - (low + high) / 2) / max(float((high - low).max()), 1e-12) + 0.5)


def _classical_scaling(wanted: Array) -> Array:
    """(n, 2) positions whose distances are the wanted ones in the least-squares sense of their products (Torgerson)."""
    square = wanted**2
    products = -0.5 * (square - square.mean(axis=0) - square.mean(axis=1)[:, None] + square.mean())
    values, vectors = eigh(products, subset_by_index=(len(products) - 2, len(products) - 1))
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), [0, 1]])
    x = vectors * np.sqrt(np.maximum(values, 1e-12))
    return np.asarray(x[:, ::-1])


def _majorised(x: Array, wanted: Array) -> Array:
    """Positions of lower stress; each step solves the majorising quadratic, whose matrix is the same in all of them."""
    weight = np.where(wanted > 0.0, 1.0 / np.maximum(wanted, 1e-12) ** 2, 0.0)
    laplacian = np.diag(weight.sum(axis=1)) - weight
    inverse = np.linalg.inv(laplacian + weight.mean())
    for _ in range(STRESS_STEPS):
        apart = np.sqrt(np.square(x[:, None] - x[None]).sum(axis=-1))
        ratio = weight * wanted / np.maximum(apart, 1e-9)
        np.fill_diagonal(ratio, 0.0)
        x = inverse @ (ratio.sum(axis=1)[:, None] * x - ratio @ x)
    return x


def _pivots(graph: csr_array) -> tuple[Index, Array]:
    """Photos (k,) each of which is furthest from those before it, and the distances (n, k) of all photos to them."""
    nearest = np.full(graph.shape[0], np.inf)
    pivots: list[int] = [0]
    columns: list[Array] = []
    while len(columns) < PIVOTS:
        columns.append(dijkstra(graph, directed=False, indices=pivots[-1:])[0])
        nearest = np.minimum(nearest, columns[-1])
        pivots.append(int(nearest.argmax()))
    return np.array(pivots[:-1]), np.column_stack(columns)


def _pivot_scaling(pivots: Index, wanted: Array) -> Array:
    """(n, 2) positions whose products with those of the pivots are as the distances (n, k) demand."""
    square = wanted**2
    products = -0.5 * (square - square.mean(axis=0) - square.mean(axis=1)[:, None] + square.mean())
    _, vectors = np.linalg.eigh(products.T @ products)
    x = products @ vectors[:, :-3:-1]
    x *= np.sign(x[np.abs(x).argmax(axis=0), [0, 1]])
    apart = np.sqrt(np.square(x[:, None] - x[pivots]).sum(axis=-1))
    return np.asarray(x * (float((apart * wanted).sum()) / max(float(np.square(apart).sum()), 1e-12)))


def _stress_terms(graph: csr_array, pivots: Index, wanted: Array) -> tuple[Index, Index, Array, Array]:
    """Pairs i, j with wanted distances and weights: all edges, and all photos with the pivots.

    A pivot stands for the photos that it is the nearest of: its term counts as often as such photos are at most half as
    far from it as the other photo is, since only to them the distance is about the same.
    """
    count = graph.shape[0]
    edges = coo_array(graph)
    i, j, length = [edges.row.astype(np.int64)], [edges.col.astype(np.int64)], [_path_lengths(graph)]
    weight = [1.0 / np.maximum(length[0], 1e-12) ** 2]
    region = wanted.argmin(axis=1)
    for column, pivot in enumerate(pivots.tolist()):
        others = np.flatnonzero(np.arange(count) != pivot)
        own = np.sort(wanted[region == column, column])
        apart = wanted[others, column]
        i.append(others)
        j.append(np.full(len(others), pivot))
        length.append(apart)
        weight.append(np.searchsorted(own, apart / 2, side="right") / np.maximum(apart, 1e-12) ** 2)
    return np.concatenate(i), np.concatenate(j), np.concatenate(length), np.concatenate(weight)


def _path_lengths(graph: csr_array) -> Array:
    """(edges,) the shortest path between the ends of each edge, which may be shorter than the edge."""
    edges = coo_array(graph)
    out = edges.data.astype(np.float64)
    block = edges.row // ROWS_AT_ONCE
    for first in np.unique(block).tolist():
        rows = np.flatnonzero(block == first)
        photos = np.unique(edges.row[rows])
        near = dijkstra(graph, directed=False, indices=photos, limit=float(out[rows].max()))
        out[rows] = np.minimum(out[rows], near[np.searchsorted(photos, edges.row[rows]), edges.col[rows]])
    return out


def _sparsely_majorised(x: Array, i: Index, j: Index, wanted: Array, weight: Array) -> Array:
    """As _majorised, over these pairs alone. The quadratic is lowered by some steps of conjugate gradients, so that
    stress never rises."""
    shape = len(x), len(x)
    table = coo_array((weight, (i, j)), shape=shape).tocsr()
    table = table + table.T
    diagonal: Array = np.asarray(table.sum(axis=1), np.float64).ravel()
    laplacian = (diags_array(diagonal) - table).tocsr()
    inverse = diags_array(1.0 / np.maximum(diagonal, 1e-12))
    for _ in range(STRESS_STEPS):
        apart = x[i] - x[j]
        pull = (weight * wanted / np.maximum(np.sqrt(np.square(apart).sum(axis=1)), 1e-9))[:, None] * apart
        side = [np.bincount(i, each, len(x)) - np.bincount(j, each, len(x)) for each in pull.T]
        x = np.column_stack(
            [
                cg(laplacian, b, x0=start, rtol=1e-6, maxiter=SOLVER_STEPS, M=inverse)[0]
                for b, start in zip(side, x.T, strict=True)
            ]
        )
    return x


def _boxes(sizes: list[int]) -> list[tuple[float, float, float]]:
    """Squares (left, top, side) in the unit square for components of so many photos, the largest first: one on top, the
    others in columns below."""
    if len(sizes) <= 1:
        return [(0.0, 0.0, 1.0)] * len(sizes)
    columns = int(np.ceil(np.sqrt(2.0 * (len(sizes) - 1))))
    lines = -(-(len(sizes) - 1) // columns)
    side = min(1.0 / columns, 0.5 / lines)
    top = 1.0 - lines * side
    below = [(i % columns * side, top + i // columns * side, side) for i in range(len(sizes) - 1)]
    return [((1.0 - top) / 2, 0.0, top), *below]
