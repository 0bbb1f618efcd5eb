"""Places for the photos of a view graph in a drawing: near to those they share most with."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, shortest_path

from unposed.optim.arrays import Array, Index

STRESS_STEPS = 60
"""Steps of majorisation; a drawing needs no more."""
STRESS_MOST = 400
"""Components of more photos are drawn as scaled, without majorisation, of which each step takes time n^2."""


def laid_out(photos: int, pairs: Index, matches: Index) -> Array:
    """(photos, 2) in the unit square: components side by side, each by stress majorisation.

    The wanted distance of two photos is that of the shortest path between them, of pairs with length 1 / sqrt(1 +
    matches). Classical scaling of these distances is the start; its stress, the sum of (|x_i - x_j| - d_ij)^2 / d_ij^2,
    is lowered by SMACOF (Gansner, Koren and North 2005). No random numbers: the same graph gives the same drawing.
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
    wanted = shortest_path(graph, directed=False)
    x = _classical_scaling(wanted)
    if 2 < count <= STRESS_MOST:
        x = _majorised(x, wanted)
    low, high = x.min(axis=0), x.max(axis=0)
    return np.asarray((x - (low + high) / 2) / max(float((high - low).max()), 1e-12) + 0.5)


def _classical_scaling(wanted: Array) -> Array:
    """(n, 2) positions whose distances are the wanted ones in the least-squares sense of their products (Torgerson)."""
    square = wanted**2
    products = -0.5 * (square - square.mean(axis=0) - square.mean(axis=1)[:, None] + square.mean())
    values, vectors = np.linalg.eigh(products)
    vectors = vectors[:, -2:] * np.sign(vectors[np.abs(vectors[:, -2:]).argmax(axis=0), [-2, -1]])
    x = vectors * np.sqrt(np.maximum(values[-2:], 1e-12))
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
