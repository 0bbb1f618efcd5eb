"""Which windows of two large photos to look at in full resolution, given coarse matches: coarse to fine.

Boxes are (x0, y0, x1, y1) in whole pixels, ends excluded; sizes are (height, width).
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array

Box = tuple[int, int, int, int]
HeightWidth = tuple[int, int]

MIN_MATCHES = 10
"""A window with fewer coarse matches does not say where to look in the other photo."""
SHARE = 0.9
"""Of the weight of all matches: what the chosen windows cover."""
PATCH = 16
"""Networks cut pictures into squares of so many pixels."""


class WindowPair(NamedTuple):
    """A window of each photo, which are to be compared."""

    a: Box
    b: Box


def window_starts(total: int, window: int, overlap: float) -> list[int]:
    """First pixels of windows along a side, evenly spaced and overlapping at least so much, from end to end."""
    if total <= window:
        return [0]
    return [
        round(start)
        for start in np.linspace(0, total - window, 1 + ceil((total - window) / (window - window * overlap)))
    ]


def window_size(photo: HeightWidth, longer_side: int) -> HeightWidth:
    """A window of the photo's shape, as exactly as whole patches allow; smaller where the photo is."""
    height, width = (max(1, min(side * longer_side // max(photo), side) // PATCH) * PATCH for side in photo)
    return height, width


def window_grid(photo: HeightWidth, longer_side: int, overlap: float) -> list[Box]:
    """Windows that cover the photo, row after row."""
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
    overlap: float = 0.5,
) -> list[WindowPair]:
    """Pairs of windows of the given sizes that show nearly all coarse matches (n, 2), (n, 2) near their middle.

    Every window of a grid over either photo gets a partner in the other, around the mean of its matches. Of these pairs
    the one that adds most comes next, until SHARE is covered.
    """
    both = _with_partners(xy_a, xy_b, photo_a, photo_b, window_a, window_b, overlap)
    back = _with_partners(xy_b, xy_a, photo_b, photo_a, window_b, window_a, overlap)
    pairs = [WindowPair(own, other) for own, other, _ in both] + [WindowPair(other, own) for own, other, _ in back]
    if not pairs:
        return []
    inside = np.stack([rows for _, _, rows in both + back])
    weight = np.stack([_centrality(xy_a, look.a) * _centrality(xy_b, look.b) for look in pairs]) * inside
    covered, reachable = np.zeros(len(xy_a)), weight.max(axis=0).sum()
    chosen: list[WindowPair] = []
    while len(chosen) < len(pairs) and covered.sum() < SHARE * reachable:
        best = int(np.maximum(weight - covered, 0.0).sum(axis=1).argmax())
        chosen.append(pairs[best])
        covered = np.maximum(covered, weight[best])
    return chosen


def window_around(x: float, y: float, window: HeightWidth, photo: HeightWidth) -> Box:
    """A window with this middle, moved so that it lies in the photo."""
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
    overlap: float,
) -> list[tuple[Box, Box, NDArray[np.bool_]]]:
    """Window, partner, and which matches lie in the window."""
    found = []
    for x0, y0, x1, y1 in window_grid(photo, max(window), overlap):
        box = window_around((x0 + x1) / 2, (y0 + y1) / 2, window, photo)
        rows: NDArray[np.bool_] = np.all((own >= box[:2]) & (own < box[2:]), axis=1)
        if np.count_nonzero(rows) >= MIN_MATCHES:
            x, y = other[rows].mean(axis=0).tolist()
            found.append((box, window_around(x, y, other_window, other_photo), rows))
    return found


def _centrality(xy: Array, box: Box) -> Array:
    """One in the middle of the box, and exp(-1/2) where a side is nearest."""
    low, high = np.array(box[:2]), np.array(box[2:])
    relative = (xy - (low + high) / 2) / (high - low)
    return np.asarray(np.exp(-2.0 * (relative**2).sum(axis=1)))
