"""k-nearest-neighbour graph: each photo is matched with its most similar ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from unposed.pipeline.artifacts import Ranking, SceneGraph
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain
from unposed.retrieval.scene_graph import nearest_pairs


@dataclass(frozen=True)
class NearestNeighbours:
    """The most similar partners of every photo, a spanning forest, and pairs that remove its bridges."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 2

    neighbours: Annotated[int, Within("[1, inf)")] = 12
    """Partners per photo; a pair is kept if it is among those of either photo."""
    min_similarity: Annotated[float, Within("[0, 1]")] = 0.012
    """Less similar pairs are only kept where nothing else connects a photo."""
    all_below: Annotated[int, Within("[0, inf)")] = 8
    """Up to this many photos all ranked pairs are matched, whatever their similarity."""
    pairs_per_photo: Annotated[float, Within("[1, inf)")] = 10.0
    """Budget of pairs per photo, except for those that keep the graph connected."""

    def __call__(self, retrieval: Ranking) -> SceneGraph:
        kept = nearest_pairs(
            retrieval.pairs,
            retrieval.similarity,
            neighbours=self.neighbours,
            min_similarity=self.min_similarity,
            all_below=self.all_below,
            per_photo=self.pairs_per_photo,
        )
        return SceneGraph(pairs=retrieval.pairs[kept], similarity=retrieval.similarity[kept])
