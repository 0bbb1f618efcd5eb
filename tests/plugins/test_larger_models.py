"""Initial models of two mappers, and the preset that makes a draft of SIFT's matches alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unposed.pipeline.artifacts import InitialModel, InitialModels
from unposed.pipeline.graph import Graph, build_graph
from unposed.pipeline.presets import read_preset
from unposed.pipeline.registry import Registry
from unposed.plugins.coarse.larger import LargerModels


def models(*sizes: int) -> InitialModels:
    """Models of so many photos each."""
    return InitialModels(
        tuple(
            InitialModel((), np.arange(size, dtype=np.int32), np.zeros(size, np.int32), np.zeros((size, 3, 4)))
            for size in sizes
        ),
        {},
    )


@pytest.mark.parametrize("second", [models(), models(6), models(7), models(6, 5), models(7, 3)])
def test_the_first_is_taken_unless_the_second_places_more_photos(second: InitialModels) -> None:
    first = models(7, 3)
    assert LargerModels()(first, second) is first


@pytest.mark.parametrize("second", [models(8), models(10), models(7, 4), models(8, 1)])
def test_photos_in_the_largest_model_count_before_all(second: InitialModels) -> None:
    assert LargerModels()(models(7, 3), second) is second


def test_nothing_found_gives_way_to_anything() -> None:
    found = models(2)
    assert LargerModels()(models(), found) is found


def sources(graph: Graph, name: str) -> set[str]:
    """Plugins of all nodes that a node depends on."""
    node = graph.nodes[name]
    return {node.plugin}.union(*(sources(graph, each) for each in node.reads if each in graph.nodes))


def test_no_match_of_xfeat_has_a_part_in_the_draft_of_sift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("xfeat", "xfeat-lighterglue"):
        (tmp_path / f"{name}.pt").touch()
    monkeypatch.setenv("UNPOSED_WEIGHTS", str(tmp_path))
    graph = build_graph(read_preset("sift-xfeat"), Registry())
    assert "features.xfeat" not in sources(graph, "sift-draft")
    assert "features.xfeat" in sources(graph, "joint-draft") & sources(graph, "fine")
    assert graph.nodes["coarse"].sources == {"first": "sift-draft", "second": "joint-draft"}
