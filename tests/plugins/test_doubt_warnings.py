"""What the doubts stage warns of: parts of the collection that one pair joins, or none; and what strangers change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worlds import mapper_inputs as inputs

from unposed.optim.view_graph import Keypoints, ViewGraph, build_view_graph
from unposed.pipeline.artifacts import CameraPriors, Photo, Photos, SparseModel
from unposed.pipeline.stage import Resources
from unposed.plugins.coarse.global_mapping import GlobalMapper
from unposed.plugins.doubts import doppelgangers
from unposed.plugins.doubts.doppelgangers import Doppelgangers, _warnings_about_bridges
from unposed.plugins.fine.bundle import BundleAdjustment

Make = Callable[..., Any]
CPU = Resources("cpu", 1, 1 << 30, 0)

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


def beside_each_other(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The inputs of two collections in one folder, each with its cameras."""
    graphs = [each["view_graph"] for each in (one, other)]
    photos, rows = graphs[0].photo_count, len(graphs[0].keypoints.xy)
    keypoints = Keypoints(
        np.concatenate([graph.keypoints.xy for graph in graphs]),
        np.concatenate([graphs[0].keypoints.start, rows + graphs[1].keypoints.start[1:]]),
        np.concatenate([graph.keypoints.size for graph in graphs]),
    )
    columns = {
        name: np.concatenate([getattr(graph, name) for graph in graphs]) for name in ("kind", "fundamental", "focal_px")
    }
    graph = build_view_graph(
        keypoints,
        np.concatenate([graphs[0].pairs, photos + graphs[1].pairs]),
        np.concatenate([graph.match_count for graph in graphs]),
        *(
            np.concatenate([left, rows + right])
            for left, right in zip(*(each.matches() for each in graphs), strict=True)
        ),
        keypoint_error_px=graphs[0].keypoint_error_px,
        **columns,
    )
    first, second = (each["cameras"] for each in (one, other))
    cameras = CameraPriors(
        first.cameras + second.cameras,
        np.concatenate([first.camera_of_photo, len(first.cameras) + second.camera_of_photo]).astype(np.int32),
        first.focal_source + second.focal_source,
    )
    named = [
        replace(photo, name=f"{number}/{photo.name}")
        for number, each in enumerate((one, other))
        for photo in each["photos"].photos
    ]
    return {"photos": replace(one["photos"], photos=tuple(named)), "cameras": cameras, "view_graph": graph}


def test_strangers_in_the_folder_change_no_doubt(collection: Make) -> None:
    """Two rings under wrong focal lengths, of which one can be cured by a trial and the other cannot."""
    near = collection(photos=14, points=700, sweep_deg=360.0, noise_px=0.5, lenses=((1300.0, 800.0, 600.0, 0.0),))
    rings = [inputs(near, lambda a, b: (b - a) % 14 in (1, 2, 3, 11, 12, 13)) for _ in range(2)]
    wrong = replace(rings[1]["cameras"].cameras[0], params=(4000.0, 800.0, 600.0, 0.0))
    rings[1]["cameras"] = replace(rings[1]["cameras"], cameras=(wrong,), focal_source=("given",))
    alone = [Doppelgangers()(**each, resources=CPU).pairs for each in rings]
    assert [len(pairs) > 0 for pairs in alone] == [False, True]
    together = Doppelgangers()(**beside_each_other(*rings), resources=CPU)
    np.testing.assert_array_equal(together.pairs, alone[1] + 14)
    assert len(together.reasons) == len(together.pairs)


def test_a_pair_of_two_geometries_stays_where_what_joins_its_photos_otherwise_is_doubted(
    collection: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = inputs(collection(photos=6, noise_px=0.5), lambda a, b: a > 0 or b <= 2)
    graph = given["view_graph"]
    rows = graph.match_rows(graph.pairs.tolist().index([0, 1]))
    row_b = graph.row_b.copy()
    row_b[rows.start : rows.stop : 2] = np.roll(row_b[rows.start : rows.stop : 2], 1)
    given["view_graph"] = replace(graph, row_b=row_b)
    found = Doppelgangers()(**given, resources=CPU)
    assert found.pairs.tolist() == [[0, 1]] and "two geometries" in found.reasons[0]
    assert not any("doppelgangers" in warning for warning in found.warnings)  # the two show one place
    monkeypatch.setattr(doppelgangers, "left_out_pairs", lambda edges, *_: (edges.pairs == [0, 2]).all(axis=1))
    assert Doppelgangers()(**given, resources=CPU).pairs.tolist() == [[0, 2]]


def test_strangers_in_the_folder_change_no_model(collection: Make) -> None:
    one, other = (
        inputs(collection(photos=count, noise_px=0.5, wrong=0.05, points=400, sweep_deg=140.0)) for count in (12, 9)
    )
    stages = GlobalMapper(), BundleAdjustment()

    def models_of(given: dict[str, Any]) -> list[SparseModel]:
        coarse = stages[0](**given, resources=CPU)
        return list(stages[1](**given, coarse=coarse, resources=CPU).models)

    alone = [models_of(each)[0] for each in (one, other)]
    for mine, among_others in zip(alone, models_of(beside_each_other(one, other)), strict=True):
        np.testing.assert_array_equal(among_others.cam_from_world, mine.cam_from_world)
        np.testing.assert_array_equal(among_others.points, mine.points)
        assert among_others.cameras == mine.cameras
