"""The second helping of pairs, in the graph of a run: what it costs where nothing is missing, and what it joins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unposed
from unposed.pipeline.artifacts import Photo, Photos, Ranking, SceneGraph
from unposed.plugins.graph.joining import JoiningPairs
from unposed.retrieval.scene_graph import all_pairs

STAR = {"graph.use": "one-reference"}
"""A first graph that is too small: photos behind the object have nothing in common with the reference."""


def collection(count: int) -> Photos:
    return Photos(tuple(Photo(f"{i}", Path(f"{i}"), f"{i}", 4, 3) for i in range(count)), {})


@pytest.mark.parametrize("changes", [{"effort": 0.0}, {"pairs_per_photo": 0.0}, {"pairs_over_photos": 0.0}])
def test_without_a_budget_the_graph_stays(changes: dict[str, float]) -> None:
    graph = SceneGraph(np.array([[0, 1]], np.int32), np.ones(1, np.float32))
    pairs = all_pairs(4)
    ranking = Ranking(pairs, np.ones(len(pairs), np.float32))
    assert JoiningPairs(**changes)(collection(4), graph, {}, ranking) is graph  # type: ignore[arg-type]
    assert len(JoiningPairs()(collection(4), graph, {}, ranking).pairs) == 6  # type: ignore[arg-type]


def test_photos_apart_are_joined_with_a_reason(yard: Any, tmp_path: Path) -> None:
    low, normal = (
        unposed.reconstruct(yard.images, settings=STAR, cache=tmp_path / "cache", effort=effort)
        for effort in ("low", "normal")
    )
    assert low.summary["registered"] < 12 == normal.summary["registered"]
    assert low.summary["helpings"] == {} and low.summary["effort"] == 0.0
    reason = normal.summary["helpings"]["more_graph"]
    assert "of 12 photos hang together with the others by one verified pair at most" in reason
    stages = normal.summary["stages"]
    assert stages["more_matching"]["reused"] == 11  # what the first graph has tried
    assert reason.startswith(f"{stages['more_matching']['computed']} more pairs")
    assert stages["matching"]["computed"] == 0
    assert normal.summary["settings"]["more_graph"]["effort"] == 1.0


def test_where_nothing_is_apart_nothing_more_is_computed(yard: Any, tmp_path: Path) -> None:
    made = unposed.reconstruct(yard.images, cache=tmp_path / "cache")
    stages = made.summary["stages"]
    assert made.summary["helpings"] == {}
    assert stages["more_matching"]["computed"] == stages["more_verification"]["computed"] == 0
    without = unposed.reconstruct(yard.images, cache=tmp_path / "cache", effort="low").summary["stages"]
    assert not any(without[node]["computed"] for node in ("view_graph", "doubts", "coarse", "fine"))


def test_settings_of_the_first_helping_hold_for_the_second(yard: Any, tmp_path: Path) -> None:
    settings = {**STAR, "matching.max_ratio": 0.7}
    made = unposed.reconstruct(yard.images, settings=settings, cache=tmp_path / "cache")
    assert made.summary["settings"]["more_matching"]["max_ratio"] == 0.7


@pytest.mark.parametrize("effort", [-1.0, float("inf"), "much"])
def test_efforts_that_are_none(yard: Any, tmp_path: Path, effort: Any) -> None:
    with pytest.raises(unposed.errors.ConfigError, match="effort: expected"):
        unposed.reconstruct(yard.images, cache=tmp_path / "cache", effort=effort)
