"""Merge several rankings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from unposed.pipeline.artifacts import Ranking
from unposed.pipeline.stage import Grain
from unposed.retrieval.neighbours import interleaved


@dataclass(frozen=True)
class Union:
    """The first partners of all rankings, then the second ones, and so on: similarities of different rankings cannot be
    compared, so each pair has the similarity 1 / place. A sequence with loop closures by appearance:

        along: {use: retrieval.sequence}
        alike: {use: retrieval.asmk}
        retrieval: {use: union, from: {first: along, second: alike}}
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 1

    def __call__(
        self, first: Ranking, second: Ranking, third: Ranking | None = None, fourth: Ranking | None = None
    ) -> Ranking:
        rankings = [ranking for ranking in (first, second, third, fourth) if ranking is not None]
        pairs, similarity = interleaved([(ranking.pairs, ranking.similarity) for ranking in rankings])
        return Ranking(pairs=pairs, similarity=similarity)
