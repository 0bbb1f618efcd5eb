"""Matches without those on what a network has masked, such as moving objects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from unposed.pipeline.artifacts import Bools, DepthGrid, Floats, PairMatches, Photo, PhotoMask
from unposed.pipeline.slots import Matcher
from unposed.pipeline.stage import Grain, Sides

from ..features.sampling import visible


@dataclass(frozen=True)
class MaskedMatches:
    """The matches of another node that both photos show outside of masked pixels, by whatever matcher.

        moving: {use: masks.my-network}
        all_matches: {use: matching.mutual-nn}
        matching: {use: matching.masked, from: {matches: all_matches, masks: moving}}

    Verification, tracks and adjustment know of nothing else. Predicted depths of masked pixels become unknown.
    """

    grain: ClassVar[Literal[Grain.PAIR]] = Grain.PAIR
    version: ClassVar[int] = 1

    def __call__(self, matches: PairMatches, masks: Sides[PhotoMask], photos: Sides[Photo]) -> PairMatches:
        keep = _shown(masks.a, photos.a, matches.xy_a) & _shown(masks.b, photos.b, matches.xy_b)
        names = ("xy_a", "xy_b", "weight", "index_a", "index_b", "depth_a", "depth_b")
        columns = {name: getattr(matches, name) for name in names}
        kept: dict[str, Any] = {key: None if column is None else column[keep] for key, column in columns.items()}
        grids = matches.grids
        if grids is not None:
            grids = _masked_grid(grids[0], masks.a, photos.a), _masked_grid(grids[1], masks.b, photos.b)
        return replace(matches, **kept, grids=grids)


def _shown(mask: PhotoMask, photo: Photo, xy: Floats) -> Bools:
    return visible(mask.visible, np.broadcast_to(np.uint8(0), (photo.height, photo.width)), xy)


def _masked_grid(grid: DepthGrid, mask: PhotoMask, photo: Photo) -> DepthGrid:
    row, column = np.indices(grid.depth.shape).reshape(2, -1)
    xy = np.array(grid.origin_px) + np.stack([column, row], axis=1) * grid.step_px
    shown = _shown(mask, photo, xy).reshape(grid.depth.shape)
    return replace(grid, depth=np.where(shown, grid.depth, np.asarray(np.nan, grid.depth.dtype)))


_: Matcher = MaskedMatches()
