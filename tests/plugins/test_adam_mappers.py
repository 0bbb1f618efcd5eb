"""The published first-order stages behind the contract, on emulated predictions of a network."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unposed.pipeline.artifacts import InitialModels, SparseModels
from unposed.pipeline.stage import StageError
from unposed.plugins.coarse.adam import CoarseAdam
from unposed.plugins.coarse.align import PointMapMapper
from unposed.plugins.fine.adam import FineAdam


def apply(stage: Any, given: dict[str, Any]) -> Any:
    """The stage's value, given what its parameters name."""
    return stage(**{name: given[name] for name in inspect.signature(stage).parameters if name in given})


STEPS = 120
"""Of a phase: enough here. Its 300 are compared with the published ones in tests/optim/pointmaps."""

Judge = Callable[[InitialModels | SparseModels], dict[str, float]]


@pytest.fixture(scope="module")
def scene() -> tuple[dict[str, Any], Judge]:
    """What the stages before would give of six photos, and the errors of a result."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
        from alignment import judged, stages_before
        from emulation import made_up
        from oracle import Oracle

        oracle = Oracle(made_up(6, 1))
        return stages_before(oracle), lambda scenes: judged(oracle, scenes)


@pytest.mark.slow
def test_first_space_then_photos(scene: tuple[dict[str, Any], Judge]) -> None:
    given, judge = scene
    steps: list[tuple[int, int, str]] = []
    reporting = replace(given["resources"], reporter=lambda *step: steps.append(step))
    coarse = apply(CoarseAdam(iterations=STEPS), given | {"resources": reporting})
    assert steps[-1][:2] == (STEPS - 1, STEPS)
    first = judge(coarse)
    assert first["placed"] == 6
    assert first["rotation_deg"] < 2.0
    second = judge(apply(FineAdam(principal=False, iterations=STEPS), given | {"coarse": coarse}))
    assert second["rotation_deg"] < 0.5 * first["rotation_deg"]
    assert second["focal"] < 0.02


def test_the_fine_stage_takes_any_scene_for_a_start(scene: tuple[dict[str, Any], Judge]) -> None:
    """Where it already is at its best, it stays."""
    given, judge = scene
    aligned = apply(PointMapMapper(), given)
    still = judge(apply(FineAdam(iterations=1), given | {"coarse": aligned}))
    assert still["rotation_deg"] == pytest.approx(judge(aligned)["rotation_deg"], abs=1e-3)
    assert still["trajectory"] == pytest.approx(judge(aligned)["trajectory"], abs=1e-4)
    refined = judge(apply(FineAdam(principal=False, rate=0.003, iterations=STEPS), given | {"coarse": aligned}))
    assert refined["rotation_deg"] < 0.3
    assert refined["trajectory"] < 0.02


def test_components_are_models_of_their_own(scene: tuple[dict[str, Any], Judge]) -> None:
    given, _ = scene
    graph = given["view_graph"]
    apart = graph.select((graph.pairs[:, 0] < 4) == (graph.pairs[:, 1] < 4))
    scenes = apply(CoarseAdam(iterations=20), given | {"view_graph": apart})
    assert [len(each.photos) for each in scenes.models] == [4, 2]
    lonely = apart.select(apart.pairs[:, 1] < 4)
    scenes = apply(CoarseAdam(iterations=20), given | {"view_graph": lonely})
    assert [len(each.photos) for each in scenes.models] == [4]
    assert set(scenes.left_out) == {4, 5}


def test_matches_without_depth_are_refused_in_one_line(scene: tuple[dict[str, Any], Judge]) -> None:
    given, _ = scene
    flat = {pair: replace(found, grids=None) for pair, found in given["matching"].items()}
    with pytest.raises(StageError, match="depth maps of a matcher"):
        apply(CoarseAdam(), given | {"matching": flat})


def test_nothing_in_common_gives_no_scene(scene: tuple[dict[str, Any], Judge]) -> None:
    given, _ = scene
    nothing = given | {"view_graph": given["view_graph"].select(np.zeros(len(given["view_graph"]), bool))}
    scenes = apply(CoarseAdam(), nothing)
    assert scenes.models == ()
    assert len(scenes.left_out) == 6
    assert apply(FineAdam(), nothing | {"coarse": scenes}).models == ()
