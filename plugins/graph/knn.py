"""Each photo is matched with its most similar ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from unposed.pipeline.artifacts import Ranking, SceneGraph
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain
from unposed.retrieval.scene_graph import nearest_pairs


@dataclass(frozen=True)
class NearestNeighbours:
    """The best partners of every photo, and what it takes that nobody is cut off or hangs by a single pair."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 2

    neighbours: Annotated[int, Within("[1, inf)")] = 12
    """Partners per photo; a pair is kept if either side asks for it."""
    min_similarity: Annotated[float, Within("[0, 1]")] = 0.012
    """Pairs below are hopeless and only kept where nothing else connects a photo."""
    all_below: Annotated[int, Within("[0, inf)")] = 8
    """Up to this many photos all ranked pairs are matched, whatever their similarity."""
    pairs_per_photo: Annotated[float, Within("[1, inf)")] = 10.0
    """Budget: so many times as many pairs as photos, except for those that hold the graph together."""

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
