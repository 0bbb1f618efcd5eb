"""Frames of clips are paired along these in any preset, unless somebody has chosen otherwise."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from unposed.clip_pairs import holds_clips, with_clips
from unposed.pipeline.artifacts import Photo, Photos, Ranking, SceneGraph
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.graph import Graph
from unposed.pipeline.presets import read_preset
from unposed.plugins.graph.clips import AlongClips
from unposed.run_setup import checked_graph


def photos(*names: str) -> Photos:
    return Photos(tuple(Photo(name, Path(name), name, 10, 10) for name in sorted(names)), {})


def plugin(graph: Graph) -> str:
    return graph.nodes["graph"].plugin


@pytest.mark.parametrize("preset", ["classic", "fast", "best", "colmap", "glomap"])
def test_clips_choose_pairs_beside_the_scene_graph_of_the_preset(preset: str) -> None:
    settings = ["along.steps=5", "graph.neighbours=7"]
    graph = checked_graph(preset, settings, clips=True)
    assert plugin(graph) == "graph.clips"
    assert graph.nodes["graph"].stage.steps == 5
    alone = checked_graph(preset, settings[1:])
    assert graph.nodes["chosen_graph"].stage == alone.nodes["graph"].stage
    assert graph.nodes["chosen_graph"].sources == alone.nodes["graph"].sources
    assert graph.nodes["matching"].edges == "graph"


def test_given_poses_and_clips_go_together() -> None:
    graph = checked_graph("classic", [], {"poses": "poses.json"}, clips=True)
    assert graph.nodes["retrieval"].plugin == "retrieval.union"
    assert plugin(graph) == "graph.clips"


def test_stills_alone_are_paired_as_the_preset_has_it() -> None:
    assert plugin(checked_graph("classic", [])) == "graph.knn"
    with pytest.raises(ConfigError, match=r"along: no such node"):
        checked_graph("classic", ["along.steps=3"])
    assert not holds_clips(photos("a.jpg", "walk.mp4.jpg", "mp4/b.jpg"))
    assert holds_clips(photos("a.jpg", "trip/walk.MP4/000000000.jpg"))


@pytest.mark.parametrize("settings", [["along=null"], ["graph.use=exhaustive", "retrieval=null"]])
def test_what_somebody_has_chosen_stays(settings: list[str]) -> None:
    graph = checked_graph("classic", settings, clips=True)
    assert "chosen_graph" not in graph.nodes
    assert plugin(graph) == ("graph.knn" if settings[0] == "along=null" else "graph.exhaustive")


def test_listed_pairs_and_a_mixture_of_its_own_stay(tmp_path: Path) -> None:
    listed = tmp_path / "listed.yaml"
    listed.write_text("extends: classic\nretrieval: {use: pairs-file, file: pairs.txt}\n")
    assert plugin(checked_graph(str(listed), [], clips=True)) == "graph.knn"
    own = with_clips(read_preset("classic"), ["along.steps=2"])
    assert with_clips(own, []) == own


def test_missing_neighbours_are_pairs_and_loops_stay() -> None:
    """Eleven frames and a still; appearance has found a loop, the still, two neighbours and two frames three apart."""
    names = [f"walk.mp4/{k:09d}.jpg" for k in range(11)]
    collection = photos(*names, "still.jpg")
    row = {photo.name: k for k, photo in enumerate(collection.photos)}
    frame = [row[name] for name in names]
    found = {(frame[0], frame[10]): 0.05, (frame[0], frame[1]): 0.9, (frame[3], frame[6]): 0.2}
    found[frame[4], row["still.jpg"]] = 0.1
    found = {(min(pair), max(pair)): alike for pair, alike in found.items()}
    pairs = np.array(sorted(found), np.int32)
    alike = np.array([found[pair] for pair in sorted(found)], np.float32)
    mixed = AlongClips()(collection, SceneGraph(pairs, alike), Ranking(pairs, alike))
    similarity = {tuple(pair): each for pair, each in zip(mixed.pairs.tolist(), mixed.similarity.tolist(), strict=True)}
    following = {(a, b) for a, b in pairwise(frame)}
    assert similarity.keys() == following | found.keys() - {(frame[3], frame[6])}
    assert similarity[frame[0], frame[1]] == pytest.approx(0.9)
    assert similarity[frame[1], frame[2]] == 0.0
    assert mixed.pairs.dtype == np.int32 and mixed.similarity.dtype == np.float32
