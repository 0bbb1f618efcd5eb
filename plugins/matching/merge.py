"""Merge the matches of two matchers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from unposed.optim.pair.keypoint_identity import KeypointIdentity, identical_rows
from unposed.pipeline.artifacts import Features, Floats, PairMatches
from unposed.pipeline.stage import Grain, Sides, StageError


@dataclass(frozen=True)
class MergedMatches:
    """The union of the matches of two nodes.

        matching: {use: merge, key_points: same, from: {first: nearest, second: glue}}

    A match of both counts once, with the larger weight. Depths of one node have a scale of their own, so they are taken
    from the first node that has any.
    """

    grain: ClassVar[Literal[Grain.PAIR]] = Grain.PAIR
    version: ClassVar[int] = 1

    key_points: Literal["none", "same", "stacked"] = "none"
    """Meaning of the indices of key points. none: they are dropped, and mappers use positions. same: both nodes match
    the same features; a key point keeps its best match. stacked: key points of the second node follow those of the
    first, as in features.merge; the node of the first features is wired to `first_features`. If that of the second ones
    is wired to `second_features`, those that were found where a first one is are taken for it, and a key point keeps
    its best match."""
    one_point: KeypointIdentity = field(default_factory=KeypointIdentity)
    """Which key points of two extractors are one."""

    def __call__(
        self,
        first: PairMatches,
        second: PairMatches,
        first_features: Sides[Features] | None = None,
        second_features: Sides[Features] | None = None,
    ) -> PairMatches:
        one_match_each = self.key_points == "same"
        if self.key_points == "stacked" and first_features is not None and second_features is not None:
            second = _renumbered(second, first_features, second_features, self.one_point)
            one_match_each = True
        index = _indices(first, second, self.key_points, first_features)
        weight = np.concatenate([first.weight, second.weight])
        xy_a, xy_b = (np.concatenate(each) for each in ((first.xy_a, second.xy_a), (first.xy_b, second.xy_b)))
        best = np.argsort(-weight, kind="stable")
        best = best[_firsts(np.concatenate([xy_a, xy_b], axis=1)[best])]
        if index is not None and one_match_each:
            for side in index:
                best = best[_firsts(side[best][:, None])]
        kept, depths = np.sort(best), _depths(first, second)
        return PairMatches(
            xy_a=xy_a[kept],
            xy_b=xy_b[kept],
            weight=weight[kept],
            index_a=None if index is None else index[0][kept],
            index_b=None if index is None else index[1][kept],
            depth_a=None if depths is None else depths[0][kept],
            depth_b=None if depths is None else depths[1][kept],
            grids=first.grids if first.grids is not None else second.grids,
        )


def _renumbered(
    second: PairMatches, first_features: Sides[Features], second_features: Sides[Features], identity: KeypointIdentity
) -> PairMatches:
    """Matches of the second node with the positions and rows of first key points where those are meant; these rows are
    counted from the end of the first ones, as all rows of the second node are."""
    sides = []
    for index, own, other in zip((second.index_a, second.index_b), first_features, second_features, strict=True):
        if index is None:
            return second
        rows = identical_rows(own.xy, own.scale, other.xy[index], other.scale[index], identity)
        xy = np.where((rows >= 0)[:, None], own.xy[rows] if len(own.xy) else 0.0, other.xy[index])
        sides.append((xy.astype(np.float32), np.where(rows >= 0, rows - len(own.xy), index).astype(np.int32)))
    (xy_a, index_a), (xy_b, index_b) = sides
    return replace(second, xy_a=xy_a, xy_b=xy_b, index_a=index_a, index_b=index_b)


def _indices(
    first: PairMatches, second: PairMatches, meaning: str, first_features: Sides[Features] | None
) -> tuple[NDArray[np.int32], NDArray[np.int32]] | None:
    """Key point rows of both sides, of the matches of the first node, then of the second."""
    if meaning == "none":
        return None
    if first.index_a is None or first.index_b is None or second.index_a is None or second.index_b is None:
        raise StageError("one of the merged nodes matches positions and no key points: set key_points to none")
    offset = [0, 0]
    if meaning == "stacked":
        if first_features is None:
            raise StageError("stacked key points: wire first_features to the features that the first node matches")
        offset = [len(side.xy) for side in first_features]
    index_a = np.concatenate([first.index_a, second.index_a + offset[0]]).astype(np.int32)
    index_b = np.concatenate([first.index_b, second.index_b + offset[1]]).astype(np.int32)
    return index_a, index_b


def _depths(first: PairMatches, second: PairMatches) -> tuple[Floats, Floats] | None:
    """Depths of both sides, of the matches of the first node, then of the second; NaN where unknown."""
    unknown = [np.full(len(node.weight), np.nan, np.float32) for node in (first, second)]
    if first.depth_a is not None and first.depth_b is not None:
        return np.concatenate([first.depth_a, unknown[1]]), np.concatenate([first.depth_b, unknown[1]])
    if second.depth_a is not None and second.depth_b is not None:
        return np.concatenate([unknown[0], second.depth_a]), np.concatenate([unknown[0], second.depth_b])
    return None


def _firsts(rows: NDArray[np.generic]) -> NDArray[np.intp]:
    """First position of each distinct row."""
    return np.sort(np.unique(rows, axis=0, return_index=True)[1])
