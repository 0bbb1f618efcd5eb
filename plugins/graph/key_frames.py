"""Few key frames that everything is tied to, and each photo's most similar ones: the scene graph of MASt3R-SfM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from unposed.pipeline.artifacts import Photos, Ranking, SceneGraph
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain
from unposed.retrieval.patterns import key_frame_pairs, symmetric
from unposed.retrieval.scene_graph import similarity_of


@dataclass(frozen=True)
class KeyFrames:
    """Key frames spread over the collection, all pairs of them, each photo with the nearest, and best partners."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 1

    key_frames: Annotated[int, Within("[0, inf)")] = 20
    """Photos that are as unlike each other as can be."""
    neighbours: Annotated[int, Within("[0, inf)")] = 9
    """Most similar partners of each photo."""

    def __call__(self, photos: Photos, retrieval: Ranking) -> SceneGraph:
        similarity = symmetric(len(photos), retrieval.pairs, retrieval.similarity)
        pairs, _ = key_frame_pairs(similarity, self.key_frames, self.neighbours)
        return SceneGraph(pairs, similarity_of(pairs, retrieval.pairs, retrieval.similarity))
