"""Two matchers in one graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unposed
from unposed.pipeline.artifacts import DepthGrid, Features, PairMatches
from unposed.pipeline.stage import Sides, StageError
from unposed.plugins.features.merge import MergedFeatures
from unposed.plugins.matching.merge import MergedMatches


def features(count: int, seed: int, length: int) -> Features:
    random = np.random.default_rng(seed)
    return Features(
        xy=random.uniform(0, 100, (count, 2)).astype(np.float32),
        scale=random.uniform(1, 9, count).astype(np.float32),
        descriptors=random.integers(0, 9, (count, length), dtype=np.uint8),
        rgb=random.integers(0, 9, (count, 3), dtype=np.uint8),
        score=np.arange(count, 0, -1, dtype=np.float32),
    )


def matches(a: Features, b: Features, rows: list[tuple[int, int]], weight: list[float]) -> PairMatches:
    index_a, index_b = np.array(rows, np.int32).T
    return PairMatches(a.xy[index_a], b.xy[index_b], np.array(weight, np.float32), index_a, index_b)


SIDES = Sides(features(6, 0, 4), features(5, 1, 4))
OTHERS = Sides(features(3, 2, 7), features(4, 3, 7))
FIRST = matches(*SIDES, [(0, 0), (1, 2), (5, 4)], [0.5, 0.9, 0.2])
SECOND = matches(*SIDES, [(1, 2), (0, 1), (2, 2), (3, 3)], [0.3, 0.8, 0.4, 0.6])


def test_by_position_every_match_once() -> None:
    merged = MergedMatches()(FIRST, SECOND)
    assert merged.index_a is None and merged.index_b is None and merged.depth_a is None and merged.grids is None
    assert sorted(merged.weight.tolist()) == pytest.approx([0.2, 0.4, 0.5, 0.6, 0.8, 0.9])
    assert np.array_equal(merged.xy_a, SIDES.a.xy[[0, 1, 5, 0, 2, 3]])
    assert np.array_equal(merged.xy_b, SIDES.b.xy[[0, 2, 4, 1, 2, 3]])


def test_of_the_same_key_points_the_best_match_of_each() -> None:
    merged = MergedMatches(key_points="same")(FIRST, SECOND)
    assert merged.index_a is not None and merged.index_b is not None
    pairs = list(zip(merged.index_a.tolist(), merged.index_b.tolist(), strict=True))
    assert pairs == [(1, 2), (5, 4), (0, 1), (3, 3)]
    assert merged.weight.tolist() == pytest.approx([0.9, 0.2, 0.8, 0.6])
    assert np.array_equal(merged.xy_a, SIDES.a.xy[merged.index_a])


def test_stacked_indices_are_those_of_the_merged_features() -> None:
    stacked = Sides(*(MergedFeatures()(one, other) for one, other in zip(SIDES, OTHERS, strict=True)))
    second = matches(*OTHERS, [(2, 3), (0, 0)], [0.5, 0.6])
    merged = MergedMatches(key_points="stacked")(FIRST, second, SIDES)
    assert merged.index_a is not None and merged.index_b is not None
    assert np.array_equal(stacked.a.xy[merged.index_a], merged.xy_a)
    assert np.array_equal(stacked.b.xy[merged.index_b], merged.xy_b)
    assert merged.index_a.tolist() == [0, 1, 5, 8, 6]
    for one, other, both in zip(SIDES, OTHERS, stacked, strict=True):
        assert np.array_equal(both.rgb, np.concatenate([one.rgb, other.rgb]))
        assert len(both.scale) == len(both.score) == len(both.descriptors) == len(both.xy)


def test_depth_is_that_of_one_matcher() -> None:
    depth = np.array([1, 2, 3], np.float32)
    grid = DepthGrid((0, 0), (1, 1), np.ones((2, 2), np.float32), np.ones((2, 2), np.float32), 9.0)
    deep = replace(FIRST, depth_a=depth, depth_b=2 * depth, grids=(grid, grid))
    merged = MergedMatches()(SECOND, deep)
    assert merged.depth_a is not None and merged.depth_b is not None and merged.grids == (grid, grid)
    known = np.isfinite(merged.depth_a)
    assert sorted(merged.depth_a[known].tolist()) == [1, 2, 3]
    assert np.array_equal(merged.depth_b[known], 2 * merged.depth_a[known])
    twice = MergedMatches()(deep, replace(deep, xy_a=deep.xy_a + 1))
    assert twice.depth_a is not None and np.isfinite(twice.depth_a).sum() == 3


def test_what_cannot_be_merged_says_so() -> None:
    with pytest.raises(StageError, match="set key_points to none"):
        MergedMatches(key_points="same")(FIRST, replace(SECOND, index_a=None, index_b=None))
    with pytest.raises(StageError, match="wire first_features"):
        MergedMatches(key_points="stacked")(FIRST, SECOND)


def test_key_points_that_were_found_before_are_one() -> None:
    def features(xy: list[list[float]]) -> Features:
        count = len(xy)
        return Features(
            xy=np.array(xy, np.float32),
            scale=np.full(count, 4, np.float32),
            descriptors=np.zeros((count, 0), np.float32),
            rgb=np.zeros((count, 3), np.uint8),
            score=np.ones(count, np.float32),
        )

    def matches(index: list[tuple[int, int]], sides: Sides[Features], weight: float) -> PairMatches:
        a, b = np.array(index, np.int32).T
        return PairMatches(sides.a.xy[a], sides.b.xy[b], np.full(len(a), weight, np.float32), a, b)

    first = Sides(features([[10, 10], [50, 50]]), features([[12, 10], [52, 50], [90, 90]]))
    # Of the later ones, row 1 of a and row 0 of b are key points that were there.
    later = Sides(features([[30, 30], [50.3, 50]]), features([[52.2, 50], [33, 30], [70, 70]]))
    merged = MergedMatches(key_points="stacked")(
        matches([(0, 0), (1, 1)], first, 0.5), matches([(0, 1), (1, 0)], later, 0.9), first, later
    )
    assert merged.index_a is not None and merged.index_b is not None
    # The match of rows 1 and 1 was found twice and counts once, at the first position; (0, 1) of the later ones is new.
    assert sorted(zip(merged.index_a.tolist(), merged.index_b.tolist(), strict=True)) == [(0, 0), (1, 1), (2, 4)]
    assert [50, 50] in merged.xy_a.tolist() and [50.3, 50] not in merged.xy_a.round(1).tolist()


STRICT_AND_LOOSE = """
extends: classic
strict: {use: matching.mutual-nn, max_ratio: 0.6}
loose: {use: matching.mutual-nn, max_ratio: 0.8}
matching: {use: merge, key_points: same, from: {first: strict, second: loose}}
"""
TWO_EXTRACTORS = """
extends: classic
cv: {use: features.sift, max_keypoints: 1500}
colmap: {use: features.colmap-sift, max_keypoints: 1500}
features: {use: merge, from: {first: cv, second: colmap}}
retrieval: {use: coarse, from: {features: cv}}
match-cv: {use: matching.mutual-nn, from: {features: cv}}
match-colmap: {use: matching.mutual-nn, from: {features: colmap}}
matching:
  use: merge
  key_points: stacked
  from: {first: match-cv, second: match-colmap, first_features: cv}
"""


@pytest.mark.parametrize("preset", [STRICT_AND_LOOSE, TWO_EXTRACTORS], ids=["matchers", "extractors"])
def test_a_whole_reconstruction(preset: str, yard: Any, tmp_path: Path) -> None:
    (tmp_path / "merged.yaml").write_text(preset)
    made = unposed.reconstruct(
        yard.images, tmp_path / "out", preset=tmp_path / "merged.yaml", cache=tmp_path / "cache", workers=1
    )
    assert made.summary["registered"] == 12
    assert unposed.evaluate(tmp_path / "out", yard.truth).errors.auc[5] > 0.9
