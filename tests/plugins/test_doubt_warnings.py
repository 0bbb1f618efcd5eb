"""What the doubts stage warns of: parts of the collection that one pair joins, or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unposed.optim.view_graph import Keypoints, ViewGraph, build_view_graph
from unposed.pipeline.artifacts import Photo, Photos
from unposed.plugins.doubts.doppelgangers import _warnings_about_bridges

PHOTOS = Photos(tuple(Photo(f"{i}.jpg", Path(), str(i), 400, 300) for i in range(7)), {})
NOTHING = np.zeros((0, 2), np.int32)


def graph_of(pairs: list[tuple[int, int]]) -> ViewGraph:
    keypoints = Keypoints(np.zeros((7, 2)), np.arange(8), np.full((7, 2), 400))
    a, b = np.array(pairs).T
    return build_view_graph(keypoints, np.array(pairs), np.ones(len(pairs), np.int64), a, b)


RINGS = [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (5, 6), (3, 6)]


def test_a_pair_that_alone_joins_two_parts_is_named() -> None:
    (warning,) = _warnings_about_bridges(PHOTOS, graph_of([*RINGS, (2, 3)]), NOTHING, 3)
    assert warning.startswith("3 photos are connected by the pair 2.jpg and 3.jpg alone")
    assert _warnings_about_bridges(PHOTOS, graph_of([*RINGS, (2, 3)]), NOTHING, 4) == []


@pytest.mark.parametrize(("pairs", "doubted"), [(RINGS, NOTHING), ([*RINGS, (2, 3)], np.array([[2, 3]], np.int32))])
def test_parts_that_no_pair_joins_are_counted(pairs: list[tuple[int, int]], doubted: np.ndarray) -> None:
    (warning,) = _warnings_about_bridges(PHOTOS, graph_of(pairs), doubted, 3)
    assert warning == "no pair joins the parts of 4, 3 photos: expect a model of each"
