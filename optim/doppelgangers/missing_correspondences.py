"""What should have matched and did not: evidence that two photos show different things that look alike.

Where two photos match well, what lies beside the matches should match as well, if it is in both photos at all. Key
points that are known to be real, because they match in some photo, and lie where the other photo has real ones of its
own, contradict the pair if nothing matches there. Single ones mean nothing, many patches full of them do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ..view_graph import Keypoints, ViewGraph

Array = NDArray[np.float64]
Index = NDArray[np.int64]

CELLS = 16
"""Patches along the longer side of a photo."""

FEWEST = 3
"""Real key points that a patch needs to have a say."""

RANGE = 0.25
"""Of the longer side: what is further from every match may have moved anywhere between the photos."""

HARMLESS, DAMNING = 0.1, 0.3
"""Share of contradicting patches times the rate of matching where there are matches. Wide baselines leave patches
unmatched, too, but then they match thinly everywhere: without look-alikes the product stays below 0.18."""


ODD = 0.06
"""Share of contradicting patches that makes a pair look about a third as likely."""


@dataclass(frozen=True, eq=False)
class _Patches:
    """The real key points of one photo by patch, rows of patches of equal squares."""

    side_px: float
    size: Index
    """(2,) width and height of the photo."""
    start: int
    """Its first row in Views.xy."""
    of_point: Index
    """(k,) the patch of each key point of the photo."""
    real: Array
    """(rows, columns) how many real ones are in each."""
    centre: Array
    """(rows * columns, 2) their mean position."""

    def count(self, row: Index) -> Array:
        """(rows, columns) how many of these rows of Views.xy are in each patch."""
        return _counted(self.of_point[row - self.start], self.real.shape)


def matched_points(graph: ViewGraph) -> NDArray[np.bool_]:
    """(k,) which key points match in any photo, and are therefore real."""
    return np.bincount(np.concatenate(graph.matches()), minlength=len(graph.keypoints.xy)) > 0


def score_pairs(graph: ViewGraph) -> tuple[Array, Array]:
    """Suspicion (e,), from 0, nothing is missing that should be there, to 1, the photos cannot show the same place; and
    likeness (e,) in (0, 1]: how completely the photos match where they do, less what is missing."""
    real = matched_points(graph)
    patches = [_patches(graph.keypoints, photo, real) for photo in range(graph.photo_count)]
    suspicion, likeness = np.zeros((2, len(graph)))
    for edge, (a, b) in enumerate(graph.pairs.tolist()):
        rows = graph.match_rows(edge)
        ends = ((patches[a], graph.row_a[rows]), (patches[b], graph.row_b[rows]))
        hits = [patch.count(row) for patch, row in ends]
        rate = min(hit.sum() / max(patch.real[hit > 0].sum(), 1.0) for (patch, _), hit in zip(ends, hits, strict=True))
        share = min(
            _contradicting(
                here, there, (hits_here, hits_there), graph.keypoints.xy[row_here], graph.keypoints.xy[row_there]
            )
            for ((here, row_here), (there, row_there)), (hits_here, hits_there) in (
                (ends, hits),
                (ends[::-1], hits[::-1]),
            )
        )
        suspicion[edge] = np.clip((share * rate - HARMLESS) / (DAMNING - HARMLESS), 0.0, 1.0)
        likeness[edge] = max(rate * np.exp(-share / ODD), 1e-6)
    return suspicion, likeness


def _patches(keypoints: Keypoints, photo: int, real: NDArray[np.bool_]) -> _Patches:
    rows = slice(keypoints.start[photo], keypoints.start[photo + 1])
    size = keypoints.size[photo]
    side_px = float(size.max()) / CELLS
    columns, lines = np.ceil(size / side_px).astype(int).tolist()
    column, line = np.clip(keypoints.xy[rows] // side_px, 0, (columns - 1, lines - 1)).astype(np.int64).T
    patch = line * columns + column
    mine = real[rows]
    count = _counted(patch[mine], (lines, columns))
    sums = [np.bincount(patch[mine], weights=x, minlength=count.size) for x in keypoints.xy[rows][mine].T]
    centre = np.stack(sums, axis=1) / np.maximum(count.reshape(-1, 1), 1.0)
    return _Patches(side_px, size, int(keypoints.start[photo]), patch, count, centre)


def _counted(patch: Index, shape: tuple[int, ...]) -> Array:
    return np.bincount(patch, minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)


def _contradicting(
    here: _Patches, there: _Patches, hits: tuple[Array, Array] | list[Array], xy: Array, xy_there: Array
) -> float:
    """Share of the patches of one photo that contradict the pair, among those that the other photo should show."""
    patch = np.flatnonzero(here.real.ravel() >= FEWEST)
    if not len(patch) or not len(xy):
        return 0.0
    centre = here.centre[patch]
    distance, near = map(np.asarray, KDTree(xy).query(centre, k=list(range(1, min(8, len(xy)) + 1))))
    away = (centre - xy[near].mean(axis=1)) @ _turn_and_scale(xy, xy_there)
    seen_at = xy_there[near].mean(axis=1) + away
    shown = (distance[:, 0] < RANGE * here.size.max()) & ((seen_at > 0) & (seen_at < there.size)).all(axis=1)
    missing = np.flatnonzero(shown & (hits[0].ravel()[patch] == 0))
    if not len(missing):
        return 0.0
    around = [_around(count) for count in (there.real, hits[1])]
    column, line = (seen_at[missing] // there.side_px).astype(np.int64).T
    contradicts = (around[0][line, column] >= FEWEST) & (around[1][line, column] == 0)
    return float(contradicts.sum()) / float(shown.sum())


def _turn_and_scale(xy: Array, xy_there: Array) -> Array:
    """(2, 2) what rows of differences become in the other photo, but for perspective: cameras are held upright,
    sideways or, on the way back of a drone, upside down."""
    (x, y), (x_there, y_there) = (xy - xy.mean(axis=0)).T, (xy_there - xy_there.mean(axis=0)).T
    spread = max(float(x @ x + y @ y), 1e-9)
    along, across = (x @ x_there + y @ y_there) / spread, (x @ y_there - y @ x_there) / spread
    return np.array([[along, across], [-across, along]])


def _around(count: Array) -> Array:
    """The sum over each patch and its eight neighbours."""
    padded = np.pad(count, 1)
    lines = padded[:-2] + padded[1:-1] + padded[2:]
    summed: Array = lines[:, :-2] + lines[:, 1:-1] + lines[:, 2:]
    return summed
