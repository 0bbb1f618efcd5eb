"""Initial positions of cameras and points from the scales of pairs, rotations given.

Random starts of global positioning settle every photo by its neighbours: a walk of hundreds of photos takes hundreds of
steps to unfold, or stays folded. So it starts from linear solutions (Cui and Tan 2015): each pair gives a baseline
direction and, up to one scale, depths of the points that both photos see. Depths of one key point by several pairs tell
the ratios of their scales, ratios along all paths of the view graph tell the scales, and scaled baselines tell the
positions. All of these are sparse linear systems over the whole graph, so that loops close and errors do not add up
along chains.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
from scipy.sparse import coo_array, csc_array, csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import SuperLU, splu

from ..arrays import Array, Index, Index32, Mask
from ..option_ranges import Count, Positive, Within
from ..parallel import chunk_map, even_slices

EDGE_CHUNK = 128
"""Pairs whose common points are triangulated together; bounds the memory."""

CAMERA_CHUNK = 64
"""Cameras whose depths are brought to common scales together: those of one have nothing to do with those of another."""

MAX_DENSE = 100
"""Unknowns up to which a matrix is solved as it is: what it takes to make a sparse one is ten times as much."""


@dataclass(frozen=True)
class InitialPositionOptions:
    """Which depths take part in initial positions, and how much they count."""

    min_angle_deg: Annotated[float, Within("[0, 90]")] = 1.0
    """Points seen under smaller angles have no depth."""
    min_depths: Count = 5
    """Pairs with fewer depths take no part."""
    baseline_scale: Positive = 0.01
    """Residual of the coplanarity of two rays and the baseline, in radians, at which a match counts half: averaged
    rotations are off by up to a degree."""
    depth_scale: Positive = 0.1
    """Difference of the logarithms of two depths of one key point at which it counts half."""
    position_scale: Positive = 0.2
    """Residual of a baseline over its length at which it counts half."""
    sweeps: Count = 8
    """Reweighted least-squares solutions in each step."""


@dataclass(frozen=True, eq=False)
class _PairDepths:
    """Triangulated depths of the points that two cameras share, for a baseline of unit length."""

    pairs: Index
    """(e, 2) cameras a < b."""
    direction: Array
    """(e, 3) unit vector from a to b, world."""
    half: Index
    """(k,) half-edge of each depth: 2 e for those in camera a, 2 e + 1 for those in b."""
    observation: Index32
    """(k,)."""
    log_depth: Array
    """(k,)."""


def estimate_initial_positions(
    rays: Array,
    camera: Index,
    point: Index,
    cameras: int,
    points: int,
    pairs: Index,
    options: InitialPositionOptions | None = None,
) -> tuple[Array, Array]:
    """Positions of the cameras (c, 3) and points (p, 3), NaN where the pairs (e, 2) do not determine them.

    `rays` (m, 3) are unit vectors in the world frame, of observations sorted by point; frame and scale are free.
    """
    options = options or InitialPositionOptions()
    nothing = np.full((cameras, 3), np.nan), np.full((points, 3), np.nan)
    depths = _pair_depths(rays, camera, point, (cameras, points), pairs, options)
    if not len(depths.half):
        return nothing
    log_scale = _log_scales(depths, len(rays), options)
    known = np.isfinite(log_scale)
    if not known.any():
        return nothing
    centres = _centres(depths.pairs[known], depths.direction[known], log_scale[known], cameras, options)
    return centres, _points(rays, centres[camera], point, points)


def _pair_depths(
    rays: Array, camera: Index, point: Index, shape: tuple[int, int], pairs: Index, options: InitialPositionOptions
) -> _PairDepths:
    # Pairs do not depend on each other, and of what is computed for all common points of one its depths alone are kept.
    number = _first_observations(camera, point, shape)
    direction = np.zeros((len(pairs), 3))

    def good_depths(part: slice) -> tuple[Index, Index32, Array]:
        edge, both = _shared_observations(number, pairs[part])
        direction[part], depth, good = _depths(rays[both[0]], rays[both[1]], edge, len(direction[part]), options)
        return part.start + edge[good], both[:, good], depth[:, good]

    nothing = np.zeros(0, np.int64), np.zeros((2, 0), np.int32), np.zeros((2, 0))
    found = chunk_map(good_depths, even_slices(len(pairs), EDGE_CHUNK))
    edge, observation, depth = (np.concatenate(each, axis=-1) for each in zip(nothing, *found, strict=True))
    half = np.concatenate([2 * edge, 2 * edge + 1])
    return _PairDepths(pairs, direction, half, observation.ravel(), np.log(depth).ravel())


def _depths(
    first: Array, second: Array, edge: Index, edges: int, options: InitialPositionOptions
) -> tuple[Array, Array, Mask]:
    """The direction of each baseline (edges, 3); of every two rays (k, 3) of one point their depths (2, k) for a
    baseline of unit length, and which are good."""
    normal = np.cross(first, second)
    direction = _baseline_directions(normal, edge, edges, options)
    squared = np.einsum("ki,ki->k", normal, normal)
    along = direction[edge]
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.stack([np.einsum("ki,ki->k", np.cross(along, ray), normal) / squared for ray in (second, first)])
    # The baseline is known up to its sign: that for which more points are in front of the cameras.
    ahead = np.bincount(edge, weights=np.sign(np.nan_to_num(depth)).sum(axis=0), minlength=edges)
    sign = np.where(ahead < 0, -1.0, 1.0)
    depth *= sign[edge]
    good = (squared > np.sin(np.radians(options.min_angle_deg)) ** 2) & (depth > 0).all(axis=0)
    good &= np.bincount(edge[good], minlength=edges)[edge] >= options.min_depths
    return direction * sign[:, None], depth, good


def _first_observations(camera: Index, point: Index, shape: tuple[int, int]) -> csr_array:
    """(cameras, points) number of the observation of each point by each camera, counted from 1. Of a camera that sees a
    point twice the first observation counts."""
    once = np.unique(camera * shape[1] + point, return_index=True)[1].astype(np.int32)
    return csr_array((once + 1, (camera[once], point[once])), shape=shape)


def _shared_observations(number: csr_array, pairs: Index) -> tuple[Index, Index32]:
    """For every point that both cameras of a pair see: the pair (k,), and the two observations (2, k)."""
    a, b = number[pairs[:, 0]], number[pairs[:, 1]]
    # Both products have the entries of the common points, in the same order.
    one, other = a.multiply(b.astype(bool)).tocsr(), b.multiply(a.astype(bool)).tocsr()
    for product in (one, other):
        product.sort_indices()
    return np.repeat(np.arange(len(pairs)), np.diff(one.indptr)), np.stack([one.data, other.data]) - 1


def _baseline_directions(normal: Array, edge: Index, edges: int, options: InitialPositionOptions) -> Array:
    """(e, 3) unit vectors t with the least sum of w (t . n)^2, n the normals (k, 3) of the planes of two rays."""
    outer = [normal[:, i] * normal[:, j] for i in range(3) for j in range(3)]
    weight = np.ones(len(edge))
    direction = np.zeros((edges, 3))
    for _ in range(options.sweeps):
        moments = [np.bincount(edge, weights=weight * each, minlength=edges) for each in outer]
        direction = np.linalg.eigh(np.stack(moments, axis=1).reshape(-1, 3, 3))[1][:, :, 0]
        residual = np.einsum("ki,ki->k", direction[edge], normal)
        weight = _cauchy(residual, options.baseline_scale)
    return direction


def _log_scales(depths: _PairDepths, observations: int, options: InitialPositionOptions) -> Array:
    """(e,) logarithm of the length of each baseline, up to one constant; NaN outside the largest part of the graph in
    which depths connect the pairs."""
    node, offset = _aligned_half_edges(depths, observations, options)
    a, b = node[0::2], node[1::2]
    both = np.flatnonzero((a >= 0) & (b >= 0))
    out = np.full(len(depths.pairs), np.nan)
    nodes = int(node.max()) + 1
    inside, (a, b) = _largest_part(nodes, a[both], b[both])
    both = both[inside]
    if not len(both):
        return out
    difference = offset[1::2][both] - offset[0::2][both]  # log of the scale of b's group over that of a's
    level = _graph_solution(int(max(a.max(), b.max())) + 1, a, b, difference[:, None], options.depth_scale, options)
    out[both] = 0.5 * (level[a, 0] - offset[0::2][both] + level[b, 0] - offset[1::2][both])
    return out


def _aligned_half_edges(depths: _PairDepths, observations: int, options: InitialPositionOptions) -> tuple[Index, Array]:
    """Bring the depths that a camera has from its pairs to a common scale.

    Returns for each half-edge (2 e,) the number of its group, of half-edges that share observations, or -1; and by how
    much the logarithms of its depths are above those of the group.
    """
    halves = 2 * len(depths.pairs)
    half, observation, value = depths.half, depths.observation, depths.log_depth
    bipartite = coo_array((np.ones(len(half), bool), (half, halves + observation)), shape=(halves + observations,) * 2)
    label = connected_components(bipartite, directed=False)[1][:halves]
    used = np.bincount(half, minlength=halves) > 0
    node = np.where(used, np.unique(np.where(used, label, -1), return_inverse=True)[1] - int(not used.all()), -1)
    # The first half-edge of each group stands for its scale and is held at 0.
    free = used.copy()
    free[np.unique(node, return_index=True)[1]] = False
    camera = depths.pairs.ravel()[half]
    order = np.argsort(camera, kind="stable")
    bounds = np.searchsorted(camera[order], np.arange(0, int(camera.max()) + 1 + CAMERA_CHUNK, CAMERA_CHUNK)).tolist()
    offset = np.zeros(halves)

    def align(bound: tuple[int, int]) -> None:
        some = order[slice(*bound)]
        own, own_half = np.unique(half[some], return_inverse=True)
        seen, place = np.unique(observation[some], return_inverse=True)
        offset[own] = _offsets(own_half, place.astype(np.int32), value[some], free[own], len(seen), options)

    chunk_map(align, [(begin, end) for begin, end in pairwise(bounds) if begin < end])
    return node, offset


def _offsets(
    half: Index, observation: Index32, value: Array, is_free: Mask, observations: int, options: InitialPositionOptions
) -> Array:
    """(halves,) by how much the logarithms of depths, `value` (k,) of half-edge and observation, are above those of the
    observation; zero where a half-edge is not free.

    Each observation has a depth of its own, which is eliminated: what is left are small systems, one for each camera.
    """
    halves, free = len(is_free), np.flatnonzero(is_free)
    offset, weight = np.zeros(halves), np.ones(len(half))
    place = np.full(halves, -1)
    place[free] = np.arange(len(free))
    mine = np.flatnonzero(place[half] >= 0)
    given, order = _with_places((len(free), observations), place[half[mine]], observation[mine])
    shared = given.T.tocsr()
    mine, place_of_shared = mine[order], shared.data.astype(np.int64)
    for _ in range(options.sweeps):
        total = np.maximum(np.bincount(observation, weights=weight, minlength=observations), 1e-12)
        mean = np.bincount(observation, weights=weight * value, minlength=observations) / total
        right = np.bincount(half, weights=weight * (value - mean[observation]), minlength=halves)
        own = np.bincount(half, weights=weight, minlength=halves)[free]
        if len(free):
            given.data = weight[mine]
            shared.data = (given.data / total[observation[mine]])[place_of_shared]
            matrix = (diags_array(own + 1e-9) - given @ shared).tocsc()
            offset[free] = _factorized(matrix).solve(right[free])
        level = np.bincount(observation, weights=weight * (value - offset[half]), minlength=observations) / total
        weight = np.maximum(_cauchy(value - offset[half] - level[observation], options.depth_scale), 1e-6)
    return offset


def _with_places(shape: tuple[int, int], row: Index, column: Index32) -> tuple[csr_array, Index]:
    """A matrix whose entries at (row, column) are their places in its data; and for each place the number of the entry,
    so that sweeps with other weights build no other matrix."""
    order = np.lexsort((column, row))
    start = np.searchsorted(row[order], np.arange(shape[0] + 1))
    return csr_array((np.arange(len(row), dtype=np.float64), column[order], start), shape=shape), order


def _largest_part(nodes: int, a: Index, b: Index) -> tuple[Index, tuple[Index, Index]]:
    """The edges of the connected part with most nodes, and their ends numbered among its nodes."""
    count, label = connected_components(
        coo_array((np.ones(len(a), bool), (a, b)), shape=(nodes, nodes)), directed=False
    )
    largest = int(np.argmax(np.bincount(label, minlength=count)))
    inside = np.flatnonzero(label[a] == largest)
    number = np.cumsum(label == largest) - 1
    return inside, (number[a[inside]], number[b[inside]])


def _centres(pairs: Index, direction: Array, log_scale: Array, cameras: int, options: InitialPositionOptions) -> Array:
    """(cameras, 3) positions whose differences are the scaled baselines; NaN outside the largest connected part."""
    out = np.full((cameras, 3), np.nan)
    used, ends = np.unique(pairs, return_inverse=True)
    inside, (a, b) = _largest_part(len(used), *ends.reshape(-1, 2).T)
    length = np.exp(log_scale[inside] - np.median(log_scale[inside]))[:, None]
    count = int(max(a.max(), b.max())) + 1
    position = _graph_solution(count, a, b, length * direction[inside], options.position_scale, options, length[:, 0])
    out[np.unique(pairs[inside])] = position
    return out


def _graph_solution(
    nodes: int,
    a: Index,
    b: Index,
    difference: Array,
    scale: float,
    options: InitialPositionOptions,
    length: Array | None = None,
) -> Array:
    """(nodes, d) values x with x_b - x_a = `difference` (e, d) in the robust least-squares sense; the first is 0.

    Residuals are relative to `length` (e,), where it is given; at `scale` they count half.
    """
    base = np.ones(len(a)) if length is None else 1.0 / length**2
    weight = np.ones(len(a))
    x = np.zeros((nodes, difference.shape[1]))
    if nodes == 1:
        return x
    rows, columns = np.concatenate([a, b, a, b]) - 1, np.concatenate([a, b, b, a]) - 1
    free = np.flatnonzero((rows >= 0) & (columns >= 0))  # the first is held at 0
    rows, columns = rows[free], columns[free]
    for _ in range(options.sweeps):
        w = base * weight
        laplacian = np.concatenate([w, w, -w, -w])[free]
        pull = np.stack(
            [
                np.bincount(b, weights=w * each, minlength=nodes) - np.bincount(a, weights=w * each, minlength=nodes)
                for each in difference.T
            ],
            axis=1,
        )
        x[1:] = _solved(laplacian, rows, columns, pull[1:])
        residual = np.linalg.norm(x[b] - x[a] - difference, axis=1) * np.sqrt(base)
        weight = np.maximum(_cauchy(residual, scale), 1e-6)  # a bridge keeps some weight, or the system is singular
    return x


def _solved(values: Array, row: Index, column: Index, right: Array) -> Array:
    """(n, d) solution for the symmetric positive definite matrix that sums the values at (row, column), and these right
    sides (n, d)."""
    n = len(right)
    if n <= MAX_DENSE:
        matrix = np.bincount(row * n + column, weights=values, minlength=n * n).reshape(n, n)
        return np.asarray(np.linalg.solve(matrix, right), np.float64)
    return np.asarray(_factorized(coo_array((values, (row, column)), shape=(n, n)).tocsc()).solve(right))


def _factorized(matrix: csc_array) -> SuperLU:
    """The factors of a sparse symmetric positive definite matrix."""
    return splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})


def _points(rays: Array, centres: Array, point: Index, points: int) -> Array:
    """(points, 3) nearest to all of their rays, from `centres` (m, 3); NaN for those with fewer than two."""
    known: Mask = np.isfinite(centres[:, 0])
    ray, centre, of = rays[known], centres[known], point[known]
    across = np.eye(3) - ray[:, :, None] * ray[:, None, :]
    moments = [np.bincount(of, weights=each, minlength=points) for each in across.reshape(-1, 9).T]
    pull = [np.bincount(of, weights=each, minlength=points) for each in np.einsum("mij,mj->mi", across, centre).T]
    matrix, right = np.stack(moments, axis=1).reshape(-1, 3, 3), np.stack(pull, axis=1)
    count = np.bincount(of, minlength=points)
    determined = (count >= 2) & (np.linalg.det(matrix) > 1e-9)
    out = np.full((points, 3), np.nan)
    out[determined] = np.linalg.solve(matrix[determined], right[determined][:, :, None])[:, :, 0]
    return out


def _cauchy(residual: Array, scale: float) -> Array:
    return 1.0 / (1.0 + (residual / scale) ** 2)
