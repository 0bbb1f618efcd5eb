"""Which pairs are shown with their matches: the best, those that agree least with the model, and the doubted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from unposed.optim.arrays import Array, Index, Mask
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import Bytes, SparseModel

from .pictures import jpeg_uri, side_by_side
from .sources import ReportSources

BEST, WORST, DOUBTFUL = 2, 3, 3
"""How many of each kind are shown."""
LINES = 70
"""Matches drawn per pair, evenly chosen."""
MATCH = (55, 198, 180)
MIN_MATCHES = 15
"""Pairs with fewer say little about the agreement with a model."""
CLEAR_SHARE = 0.97
"""Pairs of which more matches agree with the model are no bad ones."""


@dataclass(frozen=True)
class ShownPair:
    """A pair worth looking at."""

    photos: tuple[int, int]
    edge: int
    """Of the view graph."""
    kind: str
    """best, worst or doubted."""
    caption: str


@dataclass(frozen=True)
class PairDrawing:
    """Two photos with lines between their matches."""

    names: tuple[str, str]
    kind: str
    caption: str
    picture: str
    """Data URI."""
    width: int
    height: int
    used: str
    unused: str
    """SVG paths of the matches that have become points of the model, and of the others."""


def shown_pairs(sources: ReportSources) -> list[ShownPair]:
    """Choose the pairs; none without a view graph, whose matches are drawn."""
    graph = sources.view_graph
    if graph is None or not len(graph):
        return []
    edge_of = {(a, b): edge for edge, (a, b) in enumerate(np.asarray(graph.pairs).tolist())}
    doubted = sources.doubted()
    rows = [
        (inliers / max(matches, 1), matches, (a, b), error)
        for report in sources.sparse.reports
        for (a, b), matches, inliers, error in zip(
            *(each.tolist() for each in (report.pairs, report.matches, report.inliers, report.error_px)), strict=True
        )
        if (a, b) in edge_of and (a, b) not in doubted
    ]
    chosen = [
        ShownPair(pair, edge_of[pair], "best", f"{matches} matches, {share:.0%} agree with the model{_error(error)}")
        for share, matches, pair, error in _distinct(sorted(rows, key=lambda row: (-row[1], row[2])), BEST)
    ]
    bad = sorted((row for row in rows if row[1] >= MIN_MATCHES and row[0] < CLEAR_SHARE), key=lambda row: row[::2])
    chosen += [
        ShownPair(pair, edge_of[pair], "worst", f"{matches} matches, {share:.0%} agree with the model{_error(error)}")
        for share, matches, pair, error in bad[:WORST]
    ]
    reasons = [(pair, why) for pair, why in doubted.items() if pair in edge_of]
    reasons.sort(key=lambda each: -int(graph.match_count[edge_of[each[0]]]))
    return chosen + [ShownPair(pair, edge_of[pair], "doubted", why) for pair, why in reasons[:DOUBTFUL]]


def pair_drawings(sources: ReportSources, pairs: list[ShownPair], images: Mapping[int, Bytes]) -> list[PairDrawing]:
    """Draw the pairs whose photos can be read."""
    graph, drawn = sources.view_graph, []
    for pair in pairs:
        a, b = pair.photos
        if graph is None or a not in images or b not in images:
            continue
        both, left = side_by_side(images[a], images[b])
        rows = graph.match_rows(pair.edge)
        row_a, row_b = np.asarray(graph.row_a[rows]), np.asarray(graph.row_b[rows])
        used = _is_point(sources.sparse.models, graph, pair.photos, row_a, row_b)
        ends = np.column_stack(
            [
                _drawn(graph, row_a, a, images[a], (0, (both.height - len(images[a])) // 2)),
                _drawn(graph, row_b, b, images[b], (left, (both.height - len(images[b])) // 2)),
            ]
        )
        some = np.unique(np.linspace(0, len(ends) - 1, min(len(ends), LINES)).astype(np.int64))
        names = (sources.photos[a].name, sources.photos[b].name)
        paths = _path(ends[some][used[some]]), _path(ends[some][~used[some]])
        drawn.append(PairDrawing(names, pair.kind, pair.caption, jpeg_uri(both), both.width, both.height, *paths))
    return drawn


def lined(a: Bytes, xy_a: Array, b: Bytes, xy_b: Array) -> Image.Image:
    """Two images side by side with lines between their matches (m, 2) each, evenly chosen."""
    both, left = side_by_side(a, b)
    draw = ImageDraw.Draw(both)
    top_a, top_b = ((both.height - len(each)) // 2 for each in (a, b))
    ends = np.column_stack([xy_a + np.array((0, top_a)), xy_b + np.array((left, top_b))])
    for number in np.unique(np.linspace(0, len(ends) - 1, min(len(ends), LINES)).astype(np.int64)).tolist():
        draw.line(tuple(ends[number].tolist()), fill=MATCH)
    return both


def _is_point(models: tuple[SparseModel, ...], graph: ViewGraph, pair: tuple[int, int], a: Index, b: Index) -> Mask:
    """(m,) whether both key points of a match see the same point of a model."""
    for model in models:
        rows = np.searchsorted(model.photos, pair).tolist()
        if any(row >= len(model.photos) or model.photos[row] != photo for row, photo in zip(rows, pair, strict=True)):
            continue
        seen = np.full(len(model.xy), -1, np.int64)
        seen[model.obs_xy] = model.obs_point
        point = []
        for row, photo, keypoints in zip(rows, pair, (a, b), strict=True):
            start, stop = int(model.xy_start[row]), int(model.xy_start[row + 1])
            if stop - start != int(graph.keypoints.start[photo + 1] - graph.keypoints.start[photo]):
                return np.ones(len(a), bool)  # the model has key points of its own
            point.append(seen[start + keypoints - int(graph.keypoints.start[photo])])
        return np.asarray((point[0] >= 0) & (point[0] == point[1]))
    return np.zeros(len(a), bool)


def _drawn(graph: ViewGraph, rows: Index, photo: int, image: Bytes, corner: tuple[int, int]) -> Array:
    """(m, 2) key points in the drawing."""
    xy = np.asarray(graph.keypoints.xy[rows], np.float64)
    return np.asarray(xy * (np.array(image.shape[1::-1]) / graph.keypoints.size[photo]) + np.array(corner))


def _path(ends: Array) -> str:
    return "".join(f"M{xa:.0f} {ya:.0f}L{xb:.0f} {yb:.0f}" for xa, ya, xb, yb in ends.tolist())


def _error(error_px: float) -> str:
    return f", {error_px:.2f} px from their epipolar lines" if np.isfinite(error_px) else ""


def _distinct(
    rows: list[tuple[float, int, tuple[int, int], float]], most: int
) -> list[tuple[float, int, tuple[int, int], float]]:
    """The first rows whose photos are in no earlier one."""
    chosen: list[tuple[float, int, tuple[int, int], float]] = []
    for row in rows:
        if len(chosen) < most and not any(set(row[2]) & set(other[2]) for other in chosen):
            chosen.append(row)
    return chosen
