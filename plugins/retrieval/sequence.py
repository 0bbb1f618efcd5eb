"""Retrieval by order of capture: frames of a video, or photos taken along a path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from unposed.pipeline.artifacts import Photos, Ranking
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain
from unposed.retrieval.neighbours import along_sequence, capture_order


@dataclass(frozen=True)
class Sequence:
    """Photos are partners of those before and after them, in natural order of their names (frame2 before frame10).

    For loop closures merge it with a ranking by appearance: retrieval.union.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 1

    window: Annotated[int, Within("[1, inf)")] = 10
    """Number of photos ahead."""
    doubling: bool = False
    """Partners are 1, 2, 4, 8 ... places ahead, `window` of them."""
    closed: bool = False
    """Whether the first photo follows the last."""

    def __call__(self, photos: Photos) -> Ranking:
        order = capture_order([photo.name for photo in photos.photos])
        pairs, similarity = along_sequence(
            order, min(self.window, len(photos)), doubling=self.doubling, closed=self.closed
        )
        return Ranking(pairs=pairs, similarity=similarity)
