"""The key points of two extractors as one set, for stages that do not read descriptors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from unposed.pipeline.artifacts import Features
from unposed.pipeline.stage import Grain


@dataclass(frozen=True)
class MergedFeatures:
    """The key points of `first`, then those of `second`, each best first.

    Descriptors of two kinds cannot be compared, so there are none: matchers read the merged nodes themselves, and
    matching.merge merges their matches.
    """

    grain: ClassVar[Literal[Grain.PHOTO]] = Grain.PHOTO
    version: ClassVar[int] = 1

    def __call__(self, first: Features, second: Features) -> Features:
        return Features(
            xy=np.concatenate([first.xy, second.xy]),
            scale=np.concatenate([first.scale, second.scale]),
            descriptors=np.zeros((len(first.xy) + len(second.xy), 0), np.float16),
            rgb=np.concatenate([first.rgb, second.rgb]),
            score=np.concatenate([first.score, second.score]),
        )
