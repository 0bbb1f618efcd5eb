"""Scene-graph expansion: further pairs from the verification of the first ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.pipeline.artifacts import Photos, Ranking, SceneGraph, TwoViewGeometry
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerPair
from unposed.retrieval.scene_graph import expanded_pairs, similarity_of

from ..shared.verified_pairs import verified_matches


@dataclass(frozen=True)
class Expand:
    """The verified pairs of the seed graph, and new candidates in place of its other pairs: partners of verified
    partners first, then the next most similar photos."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 1

    neighbours: Annotated[int, Within("[1, inf)")] = 12
    """Verified partners that every photo should have."""
    pairs_per_photo: Annotated[float, Within("[1, inf)")] = 10.0
    """Budget of tried pairs, old and new, per photo."""

    def __call__(
        self,
        photos: Photos,
        retrieval: Ranking,
        seed_graph: SceneGraph,
        seed_verification: PerPair[TwoViewGeometry],
    ) -> SceneGraph:
        tried, matches = seed_graph.pairs, verified_matches(seed_graph, seed_verification)
        new = expanded_pairs(
            len(photos),
            retrieval.pairs,
            retrieval.similarity,
            tried,
            matches,
            neighbours=self.neighbours,
            per_photo=self.pairs_per_photo,
        )
        pairs = np.concatenate([tried[matches > 0], new])
        pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].astype(np.int32)
        return SceneGraph(pairs, similarity_of(pairs, retrieval.pairs, retrieval.similarity))
