"""The conformance kit: sound plugins pass, and each kind of mistake is found."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from unposed.pipeline.artifacts import Features, PairMatches, Ranking, SceneGraph
from unposed.pipeline.registry import Registry
from unposed.pipeline.stage import Grain, Resources, Sides
from unposed.testing import check_plugin, conformance


@pytest.mark.parametrize(
    "name",
    [
        "features.sift",
        "retrieval.coarse",
        "retrieval.exhaustive",
        "graph.knn",
        "matching.mutual-nn",
        "verification.poselib",
        "export.colmap",
        "export.ply",
    ],
)
def test_our_own_plugins_pass(name: str) -> None:
    slot, _, plugin = name.partition(".")
    report = check_plugin(Registry().find(slot, plugin), slot)
    assert {"pickling", "options", "determinism"} <= set(report.passed)


def matches(features: Sides[Features]) -> PairMatches:
    rows = np.arange(min(map(len, (features.a.xy, features.b.xy))), dtype=np.int32)
    return PairMatches(features.a.xy[rows], features.b.xy[rows], np.ones(len(rows), np.float32), rows, rows)


@dataclass(frozen=True)
class Sound:
    """Matches row by row."""

    grain: ClassVar[Grain] = Grain.PAIR

    def __call__(self, features: Sides[Features]) -> PairMatches:
        return matches(features)

    def batch(self, items: Sequence[tuple[Any]], resources: Resources) -> list[PairMatches]:
        return [matches(features) for (features,) in items]


_calls = itertools.count()


class Chance(Sound):
    def __call__(self, features: Sides[Features]) -> PairMatches:
        found = matches(features)
        return replace(found, weight=found.weight / (2 + next(_calls)))


class Careless(Sound):
    def __call__(self, features: Sides[Features]) -> PairMatches:
        features.a.xy[:] = 0
        return matches(features)


class OtherInBatches(Sound):
    def batch(self, items: Sequence[tuple[Any]], resources: Resources) -> list[PairMatches]:
        return [replace(each, weight=each.weight / 2) for each in super().batch(items, resources)]


class NeedsPoints(Sound):
    def __call__(self, features: Sides[Features]) -> PairMatches:
        features.a.xy.max()
        return matches(features)


class TooHeavy(Sound):
    def __call__(self, features: Sides[Features]) -> PairMatches:
        found = matches(features)
        return replace(found, weight=2 * found.weight)


class WrongRows(Sound):
    def __call__(self, features: Sides[Features]) -> PairMatches:
        found = matches(features)
        return replace(found, index_a=found.index_a + 1)


class WrongType(Sound):
    def __call__(self, features: Sides[Features]) -> PairMatches:
        return features.a


@dataclass(frozen=True)
class NoPickle(Sound):
    helper: Any = field(default_factory=lambda: lambda: None)


@dataclass(frozen=True)
class Unsorted:
    grain: ClassVar[Grain] = Grain.COLLECTION

    def __call__(self, retrieval: Ranking) -> SceneGraph:
        return SceneGraph(retrieval.pairs[::-1], retrieval.similarity[::-1])


def test_a_sound_toy_passes_everything() -> None:
    report = conformance(Sound)
    assert report.violations == () and report.slot == "matching" and not report.skipped
    assert set(report.passed) == {"pickling", "options", "results", "determinism", "inputs", "batch", "empty"}


@pytest.mark.parametrize(
    ("toy", "line"),
    [
        (Chance, "determinism: two calls"),
        (Careless, "inputs: ValueError: assignment destination is read-only"),
        (OtherInBatches, "batch: a batch gives other results"),
        (NeedsPoints, "empty: ValueError"),
        (TooHeavy, "results: weight is outside"),
        (WrongRows, "results: index_a is not a row"),
        (WrongType, "results: gives a Features"),
        (NoPickle, "pickling: "),
        (Unsorted, "results: pairs are not sorted"),
        (int, "load: "),
    ],
)
def test_each_mistake_is_found(toy: type, line: str) -> None:
    with pytest.raises(AssertionError, match=rf"(?m)^{toy.__name__}: {line}"):
        check_plugin(toy, None if toy is not int else "matching")
