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

from ..arrays import Array, Index
from ..view_graph import Keypoints, ViewGraph
from .options import DoppelgangerOptions

MIN_EXTENT = 0.1
"""Extent of the key points, as a share of the longer image side, down to which cells become smaller with it: a grid of
smaller ones would take memory and hold no points."""


@dataclass(frozen=True, eq=False)
class _CellGrid:
    """Real key points of one photo by square cells."""

    cell_px: float
    """Side of a cell: that of the photo over a whole number."""
    size: Index
    """(2,) width and height of the photo."""
    start: int
    """First row of the photo's key points."""
    cell_of_point: Index
    """(k,) cell of each key point of the photo."""
    real: Array
    """(rows, columns) number of real key points per cell."""
    real_around: Array
    """(rows, columns) number of those in each cell and its eight neighbours."""
    judged: Index
    """Cells with enough real key points to lack matches, of all in row-major order."""
    centre: Array
    """(judged, 2) mean position of the real key points of each of these cells."""

    def count(self, row: Index) -> Array:
        """(rows, columns) number of these key points, rows of the collection's, per cell."""
        return _counted(self.cell_of_point[row - self.start], self.real.shape)


def matched_points(graph: ViewGraph) -> NDArray[np.bool_]:
    """(k,) whether a key point matches in any photo, and is therefore real."""
    return np.bincount(np.concatenate(graph.matches()), minlength=len(graph.keypoints.xy)) > 0


def score_pairs(graph: ViewGraph, options: DoppelgangerOptions) -> tuple[Array, Array]:
    """Missing score (e,) and match completeness (e,) of each pair.

    The score is 0 where no correspondence is missing and 1 where the photos cannot show the same place. Completeness in
    (0, 1] is the share of real key points that match in the cells that match, times exp(-missing ratio / decay).
    """
    real = matched_points(graph)
    grids = [_cell_grid(graph.keypoints, photo, real, options) for photo in range(graph.photo_count)]
    ratios = [_pair_ratios(graph, edge, grids, options) for edge in range(len(graph))]
    match_ratio, missing_ratio = np.array(ratios).reshape(-1, 2).T
    start, full = options.missing_ratio_start, options.missing_ratio_full
    score = np.clip((missing_ratio * match_ratio - start) / (full - start), 0.0, 1.0)
    completeness = np.maximum(match_ratio * np.exp(-missing_ratio / options.missing_ratio_decay), 1e-6)
    return score, completeness


def _pair_ratios(
    graph: ViewGraph, edge: int, grids: list[_CellGrid], options: DoppelgangerOptions
) -> tuple[float, float]:
    """Match ratio and missing ratio of a pair: of both directions the smaller one."""
    rows, (a, b) = graph.match_rows(edge), graph.pairs[edge].tolist()
    ends = (grids[a], graph.row_a[rows]), (grids[b], graph.row_b[rows])
    hits = [grid.count(row) for grid, row in ends]
    match_ratio = min(hit.sum() / max(grid.real[hit > 0].sum(), 1.0) for (grid, _), hit in zip(ends, hits, strict=True))
    xy = [graph.keypoints.xy[row] for _, row in ends]
    missing_ratio = min(
        _missing_ratio(ends[here][0], ends[1 - here][0], hits[here], hits[1 - here], xy[here], xy[1 - here], options)
        for here in (0, 1)
    )
    return match_ratio, missing_ratio


def _cell_grid(keypoints: Keypoints, photo: int, real: NDArray[np.bool_], options: DoppelgangerOptions) -> _CellGrid:
    rows = slice(keypoints.start[photo], keypoints.start[photo + 1])
    size, mine = keypoints.size[photo], real[rows]
    cells = options.grid_cells / _extent(keypoints.xy[rows][mine] / size.max())
    cell_px = float(size.max()) / max(round(cells), 1)
    columns, lines = np.ceil(size / cell_px).astype(int).tolist()
    column, line = np.clip(keypoints.xy[rows] // cell_px, 0, (columns - 1, lines - 1)).astype(np.int64).T
    cell = line * columns + column
    count = _counted(cell[mine], (lines, columns))
    sums = [np.bincount(cell[mine], weights=x, minlength=count.size) for x in keypoints.xy[rows][mine].T]
    judged = np.flatnonzero(count.ravel() >= options.min_cell_keypoints)
    centre = np.stack(sums, axis=1)[judged] / np.maximum(count.reshape(-1, 1)[judged], 1.0)
    start = int(keypoints.start[photo])
    return _CellGrid(cell_px, size, start, cell, count, _sum_around(count), judged, centre)


def _extent(points: Array) -> float:
    """Longer side of the box around nine tenths of the points (n, 2) in each direction, over 0.9, in [MIN_EXTENT, 1].

    An object before nothing, or before a blank wall, is all that there is to compare, however small it is in the photo.
    """
    if not len(points):
        return 1.0
    low, high = np.quantile(points, (0.05, 0.95), axis=0)
    return float(np.clip((high - low).max() / 0.9, MIN_EXTENT, 1.0))


def _counted(cell: Index, shape: tuple[int, ...]) -> Array:
    return np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)


def _missing_ratio(
    here: _CellGrid,
    there: _CellGrid,
    hits: Array,
    hits_there: Array,
    xy: Array,
    xy_there: Array,
    options: DoppelgangerOptions,
) -> float:
    """Share of cells of one photo that lack matches, among those that the other photo should show."""
    cell, centre = here.judged, here.centre
    if not len(cell) or not len(xy):
        return 0.0
    without = hits.ravel()[cell] == 0
    if not without.any():
        return 0.0
    neighbours = list(range(1, min(options.extrapolation_neighbours, len(xy)) + 1))
    distance, near = map(np.asarray, KDTree(xy).query(centre, k=neighbours))
    away = (centre - xy[near].mean(axis=1)) @ _turn_and_scale(xy, xy_there)
    seen_at = xy_there[near].mean(axis=1) + away
    in_range = distance[:, 0] < options.max_extrapolation * options.grid_cells * here.cell_px
    shown = in_range & ((seen_at > 0) & (seen_at < there.size)).all(axis=1)
    unmatched = np.flatnonzero(shown & without)
    if not len(unmatched):
        return 0.0
    column, line = (seen_at[unmatched] // there.cell_px).astype(np.int64).T
    missing = there.real_around[line, column] >= options.min_cell_keypoints
    missing &= _sum_around(hits_there)[line, column] == 0
    return float(missing.sum()) / float(shown.sum())


def _turn_and_scale(xy: Array, xy_there: Array) -> Array:
    """(2, 2) matrix that maps differences (rows) into the other photo, up to perspective: cameras are held upright,
    sideways or, on the way back of a drone, upside down."""
    (x, y), (x_there, y_there) = (xy - xy.mean(axis=0)).T, (xy_there - xy_there.mean(axis=0)).T
    spread = max(float(x @ x + y @ y), 1e-9)
    along, across = (x @ x_there + y @ y_there) / spread, (x @ y_there - y @ x_there) / spread
    return np.array([[along, across], [-across, along]])


def _sum_around(count: Array) -> Array:
    """Sum over each cell and its eight neighbours."""
    padded = np.zeros((count.shape[0] + 2, count.shape[1] + 2))
    padded[1:-1, 1:-1] = count
    lines = padded[:-2] + padded[1:-1] + padded[2:]
    summed: Array = lines[:, :-2] + lines[:, 1:-1] + lines[:, 2:]
    return summed
