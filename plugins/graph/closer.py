"""Second helping of features: the pairs of photos that verification has left with few matches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from unposed.pipeline.artifacts import CameraPriors, PairMatches, Photos, SceneGraph, TwoViewGeometry
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerPair
from unposed.retrieval.joining import pairs_of_weak_photos

from ..shared.verified_pairs import verified_matches


@dataclass(frozen=True)
class CloserLook:
    """The best pairs of every photo that too few matches tie to the others: to be matched again by more key points.

    Two partners determine where a photo is, each by a relative pose that is as good as its matches are many. Where a
    second pair with enough of them is missing, smaller and fainter key points are worth their cost, or those of a
    network; elsewhere they only add to it.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 2

    min_matches: Annotated[int, Within("[0, inf)")] = 60
    """Verified matches that the second best pair of a photo has at least. Relative poses from 15 to 25 matches of a
    narrow field of view are off by 26 to 62 degrees."""
    partners: Annotated[float, Within("[0, inf)")] = 4.0
    """Pairs of such a photo that are matched again, at effort 1: those of most verified matches, then the most similar
    ones."""
    effort: Annotated[float, Within("[0, inf)")] = 1.0
    """Factor of `partners`; the run's if not set. 0: no closer look."""

    def __call__(
        self,
        photos: Photos,
        graph: SceneGraph,
        matching: PerPair[PairMatches],
        verification: PerPair[TwoViewGeometry],
        cameras: CameraPriors | None = None,
    ) -> SceneGraph:
        matches = verified_matches(graph, verification)
        weak, rows = pairs_of_weak_photos(
            len(photos),
            graph.pairs,
            graph.similarity,
            matches,
            min_matches=self.min_matches,
            partners=self.effort * self.partners,
            rigs=None if cameras is None else cameras.rigs,
        )
        # Of matches of positions alone, as dense matchers give, it cannot be told which are new.
        some_pair = next(iter(matching), None)
        if not len(rows) or some_pair is None or matching[some_pair].index_a is None:
            return SceneGraph(graph.pairs[:0], graph.similarity[:0])
        return SceneGraph(
            graph.pairs[rows],
            graph.similarity[rows],
            f"{len(rows)} pairs are matched again by more key points, since {int(weak.sum())} of {len(photos)} photos "
            f"have no two pairs with {self.min_matches} verified matches each",
        )
