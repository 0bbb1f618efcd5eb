"""Second helping of pairs: where verification has left photos or parts apart, further pairs that may join them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.pipeline.artifacts import CameraPriors, Photos, Ranking, SceneGraph, TwoViewGeometry
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerPair
from unposed.retrieval.joining import Parts, joining_pairs, weakly_joined_parts
from unposed.retrieval.scene_graph import similarity_of

from ..shared.verified_pairs import verified_matches


@dataclass(frozen=True)
class JoiningPairs:
    """The pairs of a graph, and more between parts of the collection that one verified pair joins, or none.

    A photo lost for want of a partner is worth more than another partner for a photo that has many, so the first graph
    stays small, and what it leaves apart is tried again. Where nothing is apart, the graph is as before.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 2

    pairs_per_photo: Annotated[float, Within("[0, inf)")] = 30.0
    """Further pairs that are tried at most for a photo apart from the largest part, at effort 1: three times
    as many as a first graph has, which take less than a second of work."""
    pairs_over_photos: Annotated[float, Within("[0, inf)")] = 4.0
    """Further pairs at most over all photos, at effort 1, so that a folder of strangers costs no multiple of others."""
    effort: Annotated[float, Within("[0, inf)")] = 1.0
    """Factor of both budgets; the run's if not set. 0: no further pairs."""

    def __call__(
        self,
        photos: Photos,
        graph: SceneGraph,
        verification: PerPair[TwoViewGeometry],
        retrieval: Ranking | None = None,
        cameras: CameraPriors | None = None,
    ) -> SceneGraph:
        if retrieval is None or not self.effort:
            return graph
        matches = verified_matches(graph, verification)
        rigs = None if cameras is None else cameras.rigs
        parts = weakly_joined_parts(len(photos), graph.pairs[matches > 0], rigs)
        new = joining_pairs(
            parts,
            retrieval.pairs,
            retrieval.similarity,
            graph.pairs,
            matches,
            per_photo=self.effort * self.pairs_per_photo,
            total=self.effort * self.pairs_over_photos * len(photos),
        )
        if not len(new):
            return graph
        pairs = np.concatenate([graph.pairs, new])
        similarity = [graph.similarity, similarity_of(new, retrieval.pairs, retrieval.similarity)]
        order = np.lexsort((pairs[:, 1], pairs[:, 0]))
        return SceneGraph(pairs[order], np.concatenate(similarity)[order], _reason(parts, len(new)))


def _reason(parts: Parts, pairs: int) -> str:
    apart = int(parts.apart.sum())
    return (
        f"{pairs} more pairs, since {apart} of {len(parts.of_photo)} photos hang together with the others by one "
        f"verified pair at most ({parts.lonely} by none, {parts.components} components, {parts.bridges} bridges)"
    )
