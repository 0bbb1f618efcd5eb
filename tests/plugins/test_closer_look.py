"""The second helping of features, in the graph of a run: whom it is for, what it costs others, and what it is worth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import unposed
from unposed.pipeline.artifacts import PairMatches, Photo, Photos, SceneGraph, TwoViewGeometry
from unposed.plugins.graph.closer import CloserLook
from unposed.retrieval.scene_graph import all_pairs

PHOTOS = Path(os.environ.get("UNPOSED_PHOTOS", Path(__file__).parents[3] / "shared/data"))
"""Folder of photo sets with known poses, for the test that needs real photos."""

WEIGHTS = Path(os.environ.get("UNPOSED_WEIGHTS", Path(__file__).parents[3] / "shared/weights"))
"""Folder of published weights, for the test that needs XFeat's."""

LOW_AND_NORMAL: tuple[Literal["low", "normal"], ...] = ("low", "normal")
FAINT = {"features.max_side_px": 96}
"""A first look that sees hardly anything."""


def collection(count: int) -> Photos:
    return Photos(tuple(Photo(f"{i}", Path(f"{i}"), f"{i}", 4, 3) for i in range(count)), {})


def looked_at(count: int, **options: Any) -> tuple[PairMatches, TwoViewGeometry]:
    xy, index = np.zeros((count, 2), np.float32), np.arange(count, dtype=np.int32)
    matches = PairMatches(xy, xy, np.ones(count, np.float32), **({"index_a": index, "index_b": index} | options))
    zero = np.zeros((3, 3))
    return matches, TwoViewGeometry("general", np.ones(count, bool), zero, zero[0, :2], "guess", zero, 5.0)


def graph_of(counts: list[int], **options: Any) -> SceneGraph:
    """What is looked at again of three photos, with so many matches of each pair."""
    pairs = all_pairs(3)
    found = {(a, b): looked_at(count) for (a, b), count in zip(pairs.tolist(), counts, strict=True)}
    dense = options.pop("dense", False)
    matching = {pair: looked_at(9, index_a=None)[0] if dense else each[0] for pair, each in found.items()}
    verification = {pair: each[1] for pair, each in found.items()}
    graph = SceneGraph(pairs, np.ones(3, np.float32))
    return CloserLook(**options)(collection(3), graph, matching, verification)  # type: ignore[arg-type]


def test_photos_without_two_good_pairs_are_looked_at_again() -> None:
    assert len(graph_of([60, 60, 60]).pairs) == 0 and graph_of([60, 60, 60]).reason == ""
    again = graph_of([60, 59, 200])  # the last one is photo 2, whose pair with photo 0 is weak, as that is of photo 0
    assert again.reason.startswith(
        "3 pairs are matched again by more key points, since 2 of 3 photos have no two pairs"
    )
    assert len(graph_of([60, 59, 200], partners=1).pairs) == 2
    assert [again.of_photo(photo) for photo in range(4)] == [True, True, True, False]


@pytest.mark.parametrize("options", [{"effort": 0.0}, {"partners": 0.0}, {"min_matches": 0}, {"dense": True}])
def test_without_a_budget_or_key_points_nothing_is_looked_at_again(options: dict[str, Any]) -> None:
    assert len(graph_of([10, 10, 10], **options).pairs) == 0


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of the tests that look at the yard faintly."""
    return tmp_path_factory.mktemp("faint") / "cache"


@pytest.mark.slow
def test_a_closer_look_finds_what_the_first_did_not(yard: Any, stored: Path, tmp_path: Path) -> None:
    first, both = (
        unposed.reconstruct(yard.images, tmp_path / effort, settings=FAINT, cache=stored, effort=effort, report=False)
        for effort in LOW_AND_NORMAL
    )
    assert both.summary["registered"] == 12 > first.summary["registered"]
    assert "matched again by more key points" in both.summary["helpings"]["closer_graph"]
    assert unposed.evaluate(tmp_path / "normal", yard.truth).errors.auc[5] > 0.9
    assert not both.summary["failures"]


def test_where_matches_abound_no_pixel_is_read_again(reconstructed: Any) -> None:
    summary = unposed.load(reconstructed.out).summary
    stages = summary["stages"]
    assert "closer_graph" not in summary["helpings"]
    assert stages["closer_matching"]["computed"] == stages["closer_verification"]["computed"] == 0
    assert stages["closer_features"]["cpu_s"] < 0.1 * stages["features"]["cpu_s"]


def test_pairs_lists_what_the_closer_look_has_verified(yard: Any, stored: Path) -> None:
    low, normal = (unposed.pairs(yard.images, settings=FAINT, cache=stored, effort=effort) for effort in LOW_AND_NORMAL)
    assert sum(pair.verified for pair in normal.pairs) > 2 * sum(pair.verified for pair in low.pairs)
    assert {pair.photos for pair in low.pairs if pair.chosen} <= {pair.photos for pair in normal.pairs if pair.chosen}


@pytest.mark.slow
@pytest.mark.skipif(not (PHOTOS / "eth3d-pipes").is_dir(), reason="needs photo sets: set UNPOSED_PHOTOS")
def test_blank_walls(tmp_path: Path) -> None:
    """Fourteen photos of pipes on blank walls have a few dozen matches a pair at first."""
    photos = PHOTOS / "eth3d-pipes"
    unposed.reconstruct(photos / "images", tmp_path / "out", cache=tmp_path / "cache")
    assert unposed.evaluate(tmp_path / "out", photos / "gt.json").errors.auc[5] > 0.8


@pytest.mark.slow
@pytest.mark.skipif(not (PHOTOS / "eth3d-pipes").is_dir(), reason="needs photo sets: set UNPOSED_PHOTOS")
@pytest.mark.skipif(not (WEIGHTS / "xfeat-lighterglue.pt").is_file(), reason="needs weights: set UNPOSED_WEIGHTS")
def test_blank_walls_by_xfeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XFeat and LightGlue add matches of their own: AUC@1 of 70 and more, where SIFT alone reaches 47 to 62."""
    monkeypatch.setenv("UNPOSED_WEIGHTS", str(WEIGHTS))
    photos = PHOTOS / "eth3d-pipes"
    made = unposed.reconstruct(photos / "images", tmp_path / "out", preset="sift-xfeat", cache=tmp_path / "cache")
    assert unposed.evaluate(tmp_path / "out", photos / "gt.json").errors.auc[5] > 0.9
    assert not made.summary["failures"]
