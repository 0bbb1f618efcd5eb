"""Initial models and pairs from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unposed.optim.view_graph import Keypoints, ViewGraph, build_view_graph
from unposed.pipeline.artifacts import Photo, Photos, PredictedModels, Ranking
from unposed.pipeline.stage import StageError
from unposed.plugins.coarse.given import GivenModels
from unposed.plugins.graph.ranked import RankedPairs


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    return Photos(tuple(Photo(f"{name}.jpg", tmp_path / name, name, 40, 30) for name in "abcd"), {})


@pytest.fixture
def graph() -> ViewGraph:
    nothing = np.zeros(0, np.int64)
    keypoints = Keypoints(np.zeros((0, 2)), np.zeros(5, np.int64), np.tile([40, 30], (4, 1)))
    return build_view_graph(keypoints, np.zeros((0, 2), np.int64), nothing, nothing, nothing)


def model(*names: str) -> dict[str, Any]:
    cameras = [{"model": "SIMPLE_RADIAL", "width": 40, "height": 30, "params": [f, 20, 15, 0]} for f in (1, 2, 3)]
    pose = [[1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 1, 7]]
    return {"cameras": cameras, "photos": {name: {"camera": 2 - i % 2, "pose": pose} for i, name in enumerate(names)}}


def test_models_are_read_by_name(photos: Photos, graph: ViewGraph, tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"models": [model("x.jpg", "d.jpg"), model("c.jpg", "gone.jpg", "a.jpg")]}))
    found = GivenModels(file)(photos, graph)
    assert [each.photos.tolist() for each in found.models] == [[0, 2]]  # one photo alone is no model
    first = found.models[0]
    assert [camera.params[0] for camera in first.cameras] == [3.0]
    assert first.camera_of_photo.tolist() == [0, 0]
    assert first.cam_from_world[:, :, 3].tolist() == [[5, 6, 7]] * 2
    assert set(found.left_out) == {1, 3}
    assert type(GivenModels(file, predicted=True)(photos, graph)) is PredictedModels


@pytest.mark.parametrize("text", ["", "{}", '{"models": [{"photos": {"a.jpg": {}}}]}', '{"models": []}'])
def test_other_files_are_named(photos: Photos, graph: ViewGraph, tmp_path: Path, text: str) -> None:
    file = tmp_path / "models.json"
    file.write_text(text)
    with pytest.raises(StageError, match=r"models.json: (cannot be read|no model in it)"):
        GivenModels(file)(photos, graph)


def test_all_pairs_of_a_ranking_are_matched() -> None:
    ranking = Ranking(np.array([[0, 1], [1, 3]], np.int32), np.array([0.5, 0.25], np.float32))
    found = RankedPairs()(ranking)
    assert found.pairs.tolist() == [[0, 1], [1, 3]]
    assert found.similarity.tolist() == [0.5, 0.25]
