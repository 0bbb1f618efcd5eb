"""Missing correspondences: evidence that two photos show different places that look alike.

Where two photos match well, their surroundings should match as well if both photos show them. Key points that match in
some photo are real, not noise. A cell of such key points without any match, where the other photo has real key points
of its own, contradicts the pair. Single cells mean little, many of them a lot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ..arrays import Array, Index, Mask
from ..parallel import parallel_map
from ..view_graph import Keypoints, ViewGraph
from .options import DoppelgangerOptions

MIN_EXTENT = 0.1
"""Extent of the key points, as a share of the longer image side, down to which cells become smaller with it: a grid of
smaller ones would take memory and hold no points."""


EDGE_DISTANCE = 1e9
"""Pixels between the matches of two edges in the tree that holds those of all edges of a photo."""


@dataclass(frozen=True, eq=False)
class _Cells:
    """Square cells of all photos, photo after photo and line after line.

    Each photo has a border of empty cells, so that the eight neighbours of every cell exist.
    """

    side_px: Array
    """(photos,) that of the photo over a whole number."""
    stride: Index
    """(photos,) cells from one line to the next."""
    start: Index
    """(photos + 1,) first cell of each photo, and their number."""

    def at(self, photo: Index, xy: Array) -> Index:
        """(n,) cells that positions (n, 2) in these photos lie in."""
        column, line = (xy // self.side_px[photo][:, None]).astype(np.int64).T
        return np.asarray(self.start[photo] + (line + 1) * self.stride[photo] + column + 1)

    def around(self, photo: Index) -> Index:
        """(n, 9) offsets of a cell of these photos and of its neighbours."""
        step = np.arange(-1, 2)
        return (step[:, None] * self.stride[photo][:, None, None] + step).reshape(-1, 9)


@dataclass(frozen=True, eq=False)
class _CellGrids:
    """Key points by the cells of their photos."""

    cells: _Cells
    cell_of_point: Index
    """(k,)."""
    real: Array
    """(cells,) number of real key points."""
    judged: Index
    """Cells with enough real key points to lack matches."""
    centre: Array
    """(judged, 2) mean position of the real key points of each of these cells."""


def matched_points(graph: ViewGraph) -> NDArray[np.bool_]:
    """(k,) whether a key point matches in any photo, and is therefore real."""
    return np.bincount(np.concatenate(graph.matches()), minlength=len(graph.keypoints.xy)) > 0


def score_pairs(graph: ViewGraph, options: DoppelgangerOptions) -> tuple[Array, Array]:
    """Missing score (e,) and match completeness (e,) of each pair.

    The score is 0 where no correspondence is missing and 1 where the photos cannot show the same place. Completeness in
    (0, 1] is the share of real key points that match in the cells that match, times exp(-missing ratio / decay).
    """
    grids = _cell_grids(graph.keypoints, matched_points(graph), options)
    match_ratio, missing_ratio = np.full(len(graph), np.inf), np.full(len(graph), np.inf)
    photo = graph.pairs.ravel()
    order = np.argsort(photo, kind="stable")
    ends_of_photos = np.split(order, np.flatnonzero(np.diff(photo[order])) + 1) if len(order) else []
    ratios = parallel_map(lambda ends: _ratios(graph, ends // 2, ends % 2, grids, options), ends_of_photos)
    for ends, found in zip(ends_of_photos, ratios, strict=True):
        for least, ratio in zip((match_ratio, missing_ratio), found, strict=True):
            least[ends // 2] = np.minimum(least[ends // 2], ratio)  # of both directions
    start, full = options.missing_ratio_start, options.missing_ratio_full
    score = np.clip((missing_ratio * match_ratio - start) / (full - start), 0.0, 1.0)
    completeness = np.maximum(match_ratio * np.exp(-missing_ratio / options.missing_ratio_decay), 1e-6)
    return score, completeness


def _cell_grids(keypoints: Keypoints, real: Mask, options: DoppelgangerOptions) -> _CellGrids:
    side, photos = keypoints.size.max(axis=1), range(len(keypoints))
    points = [keypoints.xy[keypoints.rows_of(p)][real[keypoints.rows_of(p)]] for p in photos]
    across = [max(round(options.grid_cells / _extent(points[p] / side[p])), 1) for p in photos]
    side_px = side / np.array(across, dtype=np.float64)
    shape = np.ceil(keypoints.size / side_px[:, None]).astype(np.int64) + 2
    cells = _Cells(side_px, shape[:, 0], np.append(0, np.cumsum(shape.prod(axis=1))))
    photo = np.repeat(np.arange(len(keypoints)), np.diff(keypoints.start))
    inside = np.clip(keypoints.xy, 0.0, np.nextafter(keypoints.size.astype(np.float64), 0.0)[photo])
    cell = cells.at(photo, inside)
    count = np.bincount(cell[real], minlength=cells.start[-1]).astype(np.float64)
    judged = np.flatnonzero(count >= options.min_cell_keypoints)
    sums = [np.bincount(cell[real], weights=x, minlength=len(count))[judged] for x in keypoints.xy[real].T]
    return _CellGrids(cells, cell, count, judged, np.stack(sums, axis=1) / np.maximum(count[judged, None], 1.0))


def _extent(points: Array) -> float:
    """Longer side of the box around nine tenths of the points (n, 2) in each direction, over 0.9, in [MIN_EXTENT, 1].

    An object before nothing, or before a blank wall, is all that there is to compare, however small it is in the photo.
    """
    if not len(points):
        return 1.0
    low, high = np.quantile(points, (0.05, 0.95), axis=0)
    return float(np.clip((high - low).max() / 0.9, MIN_EXTENT, 1.0))


def _ratios(
    graph: ViewGraph, edges: Index, here: Index, grids: _CellGrids, options: DoppelgangerOptions
) -> tuple[Array, Array]:
    """Match ratio (e,) and missing ratio (e,) of edges of one photo, which is end `here` (e,) of each, as that photo
    sees them: the latter is the share of its cells that lack matches, among those that the other photo should show."""
    photo, partner = int(graph.pairs[edges[0], here[0]]), graph.pairs[edges, 1 - here]
    count = graph.match_count[edges]
    which = np.repeat(np.arange(len(edges)), count)
    rows = np.arange(count.sum()) + np.repeat(graph.match_start[edges] - (np.cumsum(count) - count), count)
    ends = graph.row_a[rows], graph.row_b[rows]
    row, row_there = (np.where(here[which] == 0, *pair) for pair in (ends, ends[::-1]))

    cells, real = grids.cells, grids.real
    first, last = cells.start[photo], cells.start[photo + 1]
    hit = np.zeros((len(edges), last - first), dtype=np.bool_)
    hit[which, grids.cell_of_point[row] - first] = True
    match_ratio = count / np.maximum(hit @ real[first:last], 1.0)

    mine = slice(*np.searchsorted(grids.judged, (first, last)))
    centre, without = grids.centre[mine], ~hit[:, grids.judged[mine] - first]
    if not without.any() or not len(row):
        return match_ratio, np.zeros(len(edges))
    xy, xy_there = graph.keypoints.xy[row], graph.keypoints.xy[row_there]
    distance, seen_at = _predicted(centre, which, xy, xy_there, len(edges), options.extrapolation_neighbours)
    shown = distance < options.max_extrapolation * options.grid_cells * cells.side_px[photo]
    shown &= ((seen_at > 0) & (seen_at < graph.keypoints.size[partner][:, None])).all(axis=2)

    edge, cell = np.nonzero(shown & without)
    cells_there = np.cumsum(np.diff(cells.start)[partner])
    moved = np.append(0, cells_there[:-1]) - cells.start[partner]  # hits of each edge's partner lie one after the other
    hit_there = np.zeros(cells_there[-1], dtype=np.bool_)
    hit_there[moved[which] + grids.cell_of_point[row_there]] = True
    around = cells.at(partner[edge], seen_at[edge, cell])[:, None] + cells.around(partner[edge])
    missing = real[around].sum(axis=1) >= options.min_cell_keypoints
    missing &= ~hit_there[moved[edge][:, None] + around].any(axis=1)
    return match_ratio, np.bincount(edge[missing], minlength=len(edges)) / np.maximum(shown.sum(axis=1), 1)


def _predicted(
    centre: Array, which: Index, xy: Array, xy_there: Array, edges: int, neighbours: int
) -> tuple[Array, Array]:
    """How far cells (c, 2) of a photo are from matches of each edge (e, c), and where its matches say that the partner
    shows them (e, c, 2); infinitely far where it has none.

    `which` (m,) is the edge of each match, at `xy` (m, 2) in this photo and at `xy_there` in the partner.
    """
    tree = KDTree(np.column_stack([xy, EDGE_DISTANCE * which]))  # one search for all edges
    asked = np.column_stack([np.tile(centre, (edges, 1)), np.repeat(EDGE_DISTANCE * np.arange(edges), len(centre))])
    nearest = list(range(1, min(neighbours, len(xy)) + 1))
    distance, near = map(np.asarray, tree.query(asked, k=nearest, distance_upper_bound=EDGE_DISTANCE / 2.0))
    found = np.maximum((near < len(xy)).sum(axis=1), 1)[:, None]
    mean, mean_there = (np.append(p, np.zeros((1, 2)), axis=0)[near].sum(axis=1) / found for p in (xy, xy_there))
    away = (np.tile(centre, (edges, 1)) - mean).reshape(edges, -1, 2) @ _turns_and_scales(which, xy, xy_there, edges)
    return distance[:, 0].reshape(edges, -1), mean_there.reshape(edges, -1, 2) + away


def _turns_and_scales(which: Index, xy: Array, xy_there: Array, edges: int) -> Array:
    """(e, 2, 2) matrices that map differences (rows) into the other photo, up to perspective: cameras are held upright,
    sideways or, on the way back of a drone, upside down."""

    def summed(values: Array) -> Array:
        return np.asarray(np.bincount(which, weights=values, minlength=edges), dtype=np.float64)

    count = np.maximum(summed(np.ones(len(which))), 1.0)
    x, y, x_there, y_there = (c - (summed(c) / count)[which] for c in (*xy.T, *xy_there.T))
    spread = np.maximum(summed(x * x + y * y), 1e-9)
    along, across = summed(x * x_there + y * y_there) / spread, summed(x * y_there - y * x_there) / spread
    return np.stack([along, across, -across, along], axis=1).reshape(-1, 2, 2)
