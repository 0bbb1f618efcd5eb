"""No ranking: all pairs are equally similar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from unposed.pipeline.artifacts import Photos, Ranking
from unposed.pipeline.stage import Grain
from unposed.retrieval.scene_graph import all_pairs


@dataclass(frozen=True)
class ExhaustiveRanking:
    """All pairs with similarity 1."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 1

    def __call__(self, photos: Photos) -> Ranking:
        pairs = all_pairs(len(photos))
        return Ranking(pairs=pairs, similarity=np.ones(len(pairs), np.float32))
