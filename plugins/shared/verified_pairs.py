"""What verification has found of the pairs of a scene graph, and of those that were looked at twice."""

from __future__ import annotations

from collections.abc import Iterator, Set as AbstractSet
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from unposed.pipeline.artifacts import SceneGraph, TwoViewGeometry
from unposed.pipeline.stage import PerPair

T = TypeVar("T")


def verified_matches(graph: SceneGraph, verification: PerPair[TwoViewGeometry]) -> NDArray[np.int64]:
    """(e,) verified matches of the pairs of a graph; 0 where a pair was not verified."""
    matches = np.zeros(len(graph.pairs), np.int64)
    for row, (a, b) in enumerate(graph.pairs.tolist()):
        matches[row] = _verified(verification.get((a, b)))
    return matches


def better_pairs(
    verification: PerPair[TwoViewGeometry], closer_verification: PerPair[TwoViewGeometry]
) -> frozenset[tuple[int, int]]:
    """The pairs of which a closer look has verified more matches."""
    found = closer_verification.items()
    return frozenset(pair for pair, geometry in found if _verified(geometry) > _verified(verification.get(pair)))


class EitherPair(PerPair[T]):
    """Results by pair, those of some pairs by another node; loaded when asked for."""

    def __init__(self, first: PerPair[T], second: PerPair[T], of_second: AbstractSet[tuple[int, int]]) -> None:
        self._first, self._second, self._of_second = first, second, of_second
        self._pairs = sorted({*first, *of_second})

    def __getitem__(self, pair: tuple[int, int]) -> T:
        return (self._second if pair in self._of_second else self._first)[pair]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)


def better_geometries(
    verification: PerPair[TwoViewGeometry], closer_verification: PerPair[TwoViewGeometry] | None
) -> PerPair[TwoViewGeometry]:
    """The geometry of every pair, that of a closer look where there is one which verifies more matches."""
    if closer_verification is None:
        return verification
    return EitherPair(verification, closer_verification, better_pairs(verification, closer_verification))


def _verified(geometry: TwoViewGeometry | None) -> int:
    return 0 if geometry is None or geometry.kind == "none" else int(geometry.inliers.sum())
