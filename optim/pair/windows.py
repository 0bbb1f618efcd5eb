"""Coarse-to-fine matching: choose pairs of full-resolution windows that show the coarse matches of two photos.

A network sees photos reduced to its image size. Matching it again on windows of larger images gives finer matches;
coarse matches tell which windows of the two photos show the same thing. Boxes are (x0, y0, x1, y1) in whole pixels,
ends excluded; sizes are (height, width).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array
from ..option_ranges import Count, Within

Box = tuple[int, int, int, int]
HeightWidth = tuple[int, int]

PATCH_SIDE_PX = 16
"""Networks divide images into square patches of this side."""


@dataclass(frozen=True)
class WindowOptions:
    """Choice of the pairs of windows that are matched in full resolution."""

    overlap: Annotated[float, Within("[0, 0.9]")] = 0.5
    """Share of a window that its neighbours in the grid cover as well."""
    min_matches: Count = 10
    """Windows with fewer coarse matches have no partner: these do not determine where it is."""
    min_coverage: Annotated[float, Within("(0, 1]")] = 0.9
    """Share of the weight of all coarse matches that the chosen windows cover; each window costs a decoding."""


_DEFAULTS = WindowOptions()


class WindowPair(NamedTuple):
    """A window of each photo, to be matched with each other."""

    a: Box
    b: Box


def window_starts(total: int, window: int, overlap: float) -> list[int]:
    """First pixels of evenly spaced windows along a side, from end to end, that overlap by at least this share."""
    if total <= window:
        return [0]
    return [
        round(start)
        for start in np.linspace(0, total - window, 1 + ceil((total - window) / (window - window * overlap)))
    ]


def window_size(photo: HeightWidth, longer_side: int) -> HeightWidth:
    """Size of a window of the photo's shape, in whole patches: `longer_side` at most, smaller where the photo is."""
    height, width = (
        max(1, min(side * longer_side // max(photo), side) // PATCH_SIDE_PX) * PATCH_SIDE_PX for side in photo
    )
    return height, width


def window_grid(photo: HeightWidth, longer_side: int, overlap: float) -> list[Box]:
    """Windows that cover the photo, row by row."""
    height, width = window_size(photo, longer_side)
    columns = window_starts(photo[1], width, overlap)
    return [(x, y, x + width, y + height) for y in window_starts(photo[0], height, overlap) for x in columns]


def choose_windows(
    xy_a: Array,
    xy_b: Array,
    photo_a: HeightWidth,
    photo_b: HeightWidth,
    window_a: HeightWidth,
    window_b: HeightWidth,
    options: WindowOptions = _DEFAULTS,
) -> list[WindowPair]:
    """Choose pairs of windows of the given sizes in which nearly all coarse matches (n, 2), (n, 2) lie centrally.

    Every window of a grid over either photo gets a partner in the other, around the mean of its matches. Greedily the
    pair that adds most weight is chosen, where a match weighs the product of its centralities in both windows, until
    `min_coverage` of the weight that all pairs together could cover is covered.
    """
    both = _with_partners(xy_a, xy_b, photo_a, photo_b, window_a, window_b, options)
    back = _with_partners(xy_b, xy_a, photo_b, photo_a, window_b, window_a, options)
    pairs = [WindowPair(own, other) for own, other, _ in both] + [WindowPair(other, own) for own, other, _ in back]
    if not pairs:
        return []
    inside = np.stack([rows for _, _, rows in both + back])
    weight = np.stack([_centrality(xy_a, pair.a) * _centrality(xy_b, pair.b) for pair in pairs]) * inside
    covered, reachable = np.zeros(len(xy_a)), weight.max(axis=0).sum()
    chosen: list[WindowPair] = []
    while len(chosen) < len(pairs) and covered.sum() < options.min_coverage * reachable:
        best = int(np.maximum(weight - covered, 0.0).sum(axis=1).argmax())
        chosen.append(pairs[best])
        covered = np.maximum(covered, weight[best])
    return chosen


def window_around(x: float, y: float, window: HeightWidth, photo: HeightWidth) -> Box:
    """A window centred at (x, y), moved so that it lies in the photo."""
    height, width = min(window[0], photo[0]), min(window[1], photo[1])
    left = int(np.clip(np.floor(x - width / 2), 0, photo[1] - width))
    top = int(np.clip(np.floor(y - height / 2), 0, photo[0] - height))
    return left, top, left + width, top + height


def _with_partners(
    own: Array,
    other: Array,
    photo: HeightWidth,
    other_photo: HeightWidth,
    window: HeightWidth,
    other_window: HeightWidth,
    options: WindowOptions,
) -> list[tuple[Box, Box, NDArray[np.bool_]]]:
    """Each window of a grid over one photo, its partner in the other photo, and which matches lie in it."""
    found = []
    for x0, y0, x1, y1 in window_grid(photo, max(window), options.overlap):
        box = window_around((x0 + x1) / 2, (y0 + y1) / 2, window, photo)
        rows: NDArray[np.bool_] = np.all((own >= box[:2]) & (own < box[2:]), axis=1)
        if np.count_nonzero(rows) >= options.min_matches:
            x, y = other[rows].mean(axis=0).tolist()
            found.append((box, window_around(x, y, other_window, other_photo), rows))
    return found


def _centrality(xy: Array, box: Box) -> Array:
    """exp(-2 d^2) of points (n, 2), with d the offset from the middle of the box in units of its sides."""
    low, high = np.array(box[:2]), np.array(box[2:])
    relative = (xy - (low + high) / 2) / (high - low)
    return np.asarray(np.exp(-2.0 * (relative**2).sum(axis=1)))
