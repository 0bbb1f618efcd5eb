"""Key-frame graph of MASt3R-SfM: few key frames that all photos are matched with, and the most similar photos of
each."""

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
    """All pairs of key frames, every photo with its most similar key frame and with its most similar photos."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 1

    key_frames: Annotated[int, Within("[0, inf)")] = 20
    """Number of key frames, by farthest-point sampling: each as dissimilar as possible from the others."""
    neighbours: Annotated[int, Within("[0, inf)")] = 9
    """Most similar partners of each photo."""

    def __call__(self, photos: Photos, retrieval: Ranking) -> SceneGraph:
        similarity = symmetric(len(photos), retrieval.pairs, retrieval.similarity)
        pairs, _ = key_frame_pairs(similarity, self.key_frames, self.neighbours)
        return SceneGraph(pairs, similarity_of(pairs, retrieval.pairs, retrieval.similarity))
