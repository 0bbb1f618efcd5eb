"""Which frames of a video are worth being photos: sharp ones, evenly spaced along the way that the picture moves.

Even spacing in time gives a hundred frames of a camera that rests and none of a quick turn. The motion of the picture
between frames, summed up, is the way; it is cut into equal pieces, and the sharpest frame of each is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from unposed.optim.arrays import Array, Index, Mask
from unposed.optim.option_ranges import Count, Positive, Share, Within


@dataclass(frozen=True)
class FrameChoiceOptions:
    """When frames are taken; motions are shares of the longer side."""

    min_spacing: Positive = 0.03
    """Motion between two frames that are taken, at least: less shows hardly any depth."""
    max_spacing: Positive = 0.15
    """Motion between two frames that are taken, at most, where the budget follows the motion: a point that crosses the
    picture is then in six of them."""
    max_step: Positive = 0.04
    """Motion from one frame to the next above which a frame is not taken: it is smeared, and its rows, which are read
    one after the other, are from different places."""
    max_over_usual: Annotated[float, Within("[1, inf)")] = 2.0
    """Up to so many times the median motion between frames that differ none is too quick: where all move as much, as in
    a time lapse or a clip of few frames a second, the motion between frames is not that of a frame."""
    min_difference: Positive = 0.4
    """Mean difference from the frame before, in grey levels, below which a frame is a duplicate; compression alone
    gives less."""
    min_sharpness: Share = 0.6
    """A frame of a smaller share of the median sharpness of those around it is blurred."""
    around: Count = 15
    """Frames before and after that its sharpness is compared with."""


@dataclass(frozen=True, eq=False)
class FrameChoice:
    """The frames that are taken, and why others are not."""

    rows: Index
    """(k,) ascending."""
    duplicates: int
    fast: int
    """Frames in too quick a motion."""
    blurred: int


def choose_frames(
    sharpness: Array, step: Array, difference: Array, budget: int, options: FrameChoiceOptions | None = None
) -> FrameChoice:
    """Choose at most `budget` frames from the sharpness (n,) of all, and from the motion (n,) and the mean difference
    (n,) since the frame before; the first entries of these do not matter.

    Motion that is not a number, as at a cut, counts as a whole spacing from one good frame to the next.
    """
    options = options or FrameChoiceOptions()
    if not len(sharpness):
        return FrameChoice(np.zeros(0, np.int64), 0, 0, 0)
    found = _assessed(sharpness, step, difference, options)
    rows, cuts = found.rows, found.cuts
    length = float(found.way[-1])
    spacing = max(length / max(budget - int(cuts.sum()), 1), options.min_spacing)
    place = found.way[rows] / spacing + np.cumsum(cuts)
    # Where there are more cuts than frames to take, some of what they divide is left out, everywhere alike.
    place *= budget / max(float(place.max(initial=0.0)), budget)
    piece = np.minimum(place.astype(np.int64), budget - 1)
    by_sharpness = np.lexsort((-sharpness[rows], piece))
    first = np.unique(piece[by_sharpness], return_index=True)[1]
    best = rows[by_sharpness[first]]
    return FrameChoice(np.sort(best), int(found.duplicate.sum()), int(found.fast.sum()), int(found.blurred.sum()))


def frames_by_motion(
    sharpness: Array, step: Array, difference: Array, options: FrameChoiceOptions | None = None
) -> int:
    """How many frames show all that a camera passes, each overlapping the next; arguments as of `choose_frames`."""
    options = options or FrameChoiceOptions()
    if not len(sharpness):
        return 0
    found = _assessed(sharpness, step, difference, options)
    return 1 + int(found.cuts.sum()) + int(np.ceil(float(found.way[-1]) / options.max_spacing))


@dataclass(frozen=True, eq=False)
class _Assessed:
    """All frames, and the good ones among them."""

    rows: Index
    """(k,) of the good ones."""
    cuts: Mask
    """(k,) whether the motion since the good one before is unknown."""
    way: Array
    """(n,) known motion since the first."""
    duplicate: Mask
    fast: Mask
    blurred: Mask


def _assessed(sharpness: Array, step: Array, difference: Array, options: FrameChoiceOptions) -> _Assessed:
    count = len(sharpness)
    lost = ~np.isfinite(step)
    lost[0] = False
    known = np.where(np.isfinite(step), step, 0.0)
    known[0] = 0.0
    duplicate: Mask = difference < options.min_difference
    duplicate[0] = False
    moving = step[~duplicate & np.isfinite(step) & (np.arange(count) > 0)]
    usual = float(np.median(moving)) if len(moving) else 0.0
    fast: Mask = ~duplicate & (known > max(options.max_step, options.max_over_usual * usual))
    blurred: Mask = ~duplicate & ~fast & (sharpness < options.min_sharpness * _around(sharpness, options.around))
    rows = np.flatnonzero(~(duplicate | fast | blurred))
    # Before and after a smeared frame corners are lost, which is one gap between the good frames around it.
    cuts: Mask = np.diff(np.cumsum(lost)[rows], prepend=0) > 0
    return _Assessed(rows, cuts, np.cumsum(known), duplicate, fast, blurred)


def _around(values: Array, reach: int) -> Array:
    """(n,) median of the values before and after each."""
    padded = np.pad(values, reach, mode="reflect" if len(values) > reach else "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    return np.asarray(np.median(windows, axis=1))
