"""Given poses choose pairs in any preset, unless somebody has chosen otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from unposed.pipeline.errors import ConfigError
from unposed.pipeline.graph import Graph
from unposed.pipeline.presets import read_preset
from unposed.posed_pairs import with_settings
from unposed.run_setup import checked_graph

POSES = {"poses": "poses.json"}


def _retrieval(graph: Graph) -> str:
    return graph.nodes["retrieval"].plugin


@pytest.mark.parametrize("preset", ["classic", "fast", "best", "colmap", "glomap"])
def test_poses_choose_pairs_beside_the_retrieval_of_the_preset(preset: str) -> None:
    graph = checked_graph(preset, ["near.partners=7", "retrieval.keypoints=99"], POSES)
    merged = graph.nodes["retrieval"]
    assert _retrieval(graph) == "retrieval.union"
    assert dict(merged.sources) == {"first": "near", "second": "alike"}
    assert graph.nodes["near"].stage.partners == 7
    without = checked_graph(preset, ["retrieval.keypoints=99"])
    assert graph.nodes["alike"].stage == without.nodes["retrieval"].stage
    assert graph.nodes["alike"].sources == without.nodes["retrieval"].sources


def test_the_wiring_of_another_retrieval_is_kept() -> None:
    preset = with_settings(read_preset("mast3r"), ["cameras.poses=poses.json"])
    assert preset["alike"] == {"use": "retrieval.asmk-mast3r", "from": {"features": "appearance"}}


def test_nothing_changes_without_poses() -> None:
    assert with_settings(read_preset("classic"), []) == read_preset("classic")
    with pytest.raises(ConfigError, match=r"near: no such node"):
        checked_graph("classic", ["near.partners=7"])


@pytest.mark.parametrize("settings", [["near=null"], ["retrieval.use=exhaustive"], ["retrieval.use=sequence"]])
def test_what_somebody_has_chosen_stays(settings: list[str]) -> None:
    graph = checked_graph("classic", settings, POSES)
    assert "near" not in graph.nodes
    assert _retrieval(graph) == settings[0].replace("near=null", "retrieval.coarse").replace(
        "retrieval.use=", "retrieval."
    )


def test_listed_pairs_and_rankings_of_its_own_stay(tmp_path: Path) -> None:
    listed, ranked = tmp_path / "listed.yaml", tmp_path / "ranked.yaml"
    listed.write_text("extends: classic\nretrieval: {use: pairs-file, file: pairs.txt}\n")
    ranked.write_text("extends: classic\nretrieval: {use: poses}\n")
    assert _retrieval(checked_graph(str(listed), [], POSES)) == "retrieval.pairs-file"
    assert _retrieval(checked_graph(str(ranked), [], POSES)) == "retrieval.poses"
