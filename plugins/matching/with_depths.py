"""Matches with the depth that a network predicts for each photo by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.pipeline.artifacts import DepthGrid, Floats, PairMatches
from unposed.pipeline.config import Within
from unposed.pipeline.slots import Matcher
from unposed.pipeline.stage import Grain, Sides


@dataclass(frozen=True)
class MatchesWithDepths:
    """The matches of another node, with depths of their key points and the grids of both photos, from a node `depth`.

        mono: {use: depth.my-network}
        all_matches: {use: matching.mutual-nn}
        matching: {use: matching.with-depths, from: {matches: all_matches, depths: mono}}

    Depths of a photo have a scale of their own, as those of a pair network: `coarse.align` makes one world of them,
    and `fine.bundle` hears them where tracks are few. Depths that a matcher has predicted itself stay as they are.
    """

    grain: ClassVar[Literal[Grain.PAIR]] = Grain.PAIR
    version: ClassVar[int] = 1

    max_step: Annotated[float, Within("(1, inf)")] = 1.2
    """Ratio of the depths of neighbouring samples from which on there is the outline of something between them, where
    the depth of a match is unknown: on slopes seen at 85 degrees samples of seven pixels differ by less."""

    def __call__(self, matches: PairMatches, depths: Sides[DepthGrid]) -> PairMatches:
        if matches.depth_a is not None or matches.depth_b is not None:
            return matches
        return replace(
            matches,
            depth_a=depth_at(depths.a, matches.xy_a, self.max_step),
            depth_b=depth_at(depths.b, matches.xy_b, self.max_step),
            grids=(depths.a, depths.b),
        )


def depth_at(grid: DepthGrid, xy: Floats, max_step: float) -> Floats:
    """(m,) depth at pixels (m, 2) of the photo, between the four samples around; not a number where one of these is
    unknown, or where they differ too much. Beyond the outer samples their depth goes on."""
    rows, columns = grid.depth.shape
    place = (np.asarray(xy, np.float64) - grid.origin_px) / grid.step_px
    x, y = np.clip(place, 0.0, (columns - 1, rows - 1)).T
    left, top = (np.clip(np.floor(each), 0, max(n - 2, 0)).astype(np.int64) for each, n in ((x, columns), (y, rows)))
    right, bottom = np.minimum(left + 1, columns - 1), np.minimum(top + 1, rows - 1)
    known = np.isfinite(grid.depth) & (grid.depth > 0)
    log = np.log(np.where(known, grid.depth, np.nan).astype(np.float64))
    corners = np.stack([log[top, left], log[top, right], log[bottom, left], log[bottom, right]])
    across, down = x - left, y - top
    share = np.stack([(1 - across) * (1 - down), across * (1 - down), (1 - across) * down, across * down])
    smooth = np.ptp(corners, axis=0) < np.log(max_step)
    return np.where(smooth, np.exp((share * corners).sum(axis=0)), np.nan).astype(np.float32)


_: Matcher = MatchesWithDepths()
