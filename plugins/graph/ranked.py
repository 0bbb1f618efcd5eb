"""Scene graph of all pairs of a ranking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from unposed.pipeline.artifacts import Ranking, SceneGraph
from unposed.pipeline.stage import Grain


@dataclass(frozen=True)
class RankedPairs:
    """Matches every pair of the ranking: for rankings that were chosen elsewhere, as by `retrieval.pairs-file`."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 1

    def __call__(self, retrieval: Ranking) -> SceneGraph:
        return SceneGraph(pairs=retrieval.pairs, similarity=retrieval.similarity)
