"""Pairs along clips beside pairs by appearance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from unposed.pipeline.artifacts import Photos, Ranking, SceneGraph
from unposed.pipeline.config import Within
from unposed.pipeline.images.image_file import clip_of
from unposed.pipeline.stage import Grain
from unposed.retrieval.clips import along_clips, clip_places, with_pairs_along
from unposed.retrieval.scene_graph import similarity_of


@dataclass(frozen=True)
class AlongClips:
    """Frames of a video with those next to them in it, in the place of as many chosen pairs of frames a little further
    apart: those least similar. Pairs between distant frames, which close loops, other clips and stills stay.

        chosen_graph: {use: graph.knn}
        graph: {use: clips}
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 1

    steps: Annotated[int, Within("[1, 32]")] = 2
    """Frames 1, 2, 4 ... places apart are paired, so many of these distances. Of pairs 4 places apart that appearance
    has not chosen one in eight is verified."""
    near: Annotated[int, Within("[1, inf)")] = 8
    """Frames up to so many places apart are tied along the clip: chosen pairs of them may give way."""

    def __call__(self, photos: Photos, chosen_graph: SceneGraph, retrieval: Ranking | None = None) -> SceneGraph:
        names = [photo.name for photo in photos.photos]
        places = clip_places(names, [clip_of(name) for name in names])
        along = along_clips(places, self.steps)
        pairs = with_pairs_along(chosen_graph.pairs, chosen_graph.similarity, along, places, self.near)
        known = chosen_graph if retrieval is None else retrieval
        return SceneGraph(pairs, similarity_of(pairs, known.pairs, known.similarity))
