"""The fine stage decides between hypotheses, judges the result, and says so."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from worlds import mapper_inputs

from unposed.optim.mapping.weak_parts import WeakPartOptions
from unposed.optim.rotations import exp_so3
from unposed.optim.verdict.judge import VerdictOptions, VerdictWeights
from unposed.pipeline.artifacts import Doubts, InitialModel, InitialModels
from unposed.pipeline.stage import Resources
from unposed.plugins.coarse.global_mapping import GlobalMapper
from unposed.plugins.fine.bundle import BundleAdjustment
from unposed.refinement_report import photo_figures, report_figures

Make = Callable[..., Any]
CPU = Resources("cpu", threads=1, ram_bytes=1 << 30, vram_bytes=0)
AS_IT_IS = WeakPartOptions(max_cut_matches=0)
"""The pairs between them would turn the halves of a folded model back."""


def half_turned(model: InitialModel) -> InitialModel:
    """The model with half of its photos turned about the origin of the world."""
    poses = np.array(model.cam_from_world)
    half = slice(len(poses) // 2, None)
    poses[half, :, :3] = poses[half, :, :3] @ exp_so3(np.array([[0.0, np.pi / 2, 0.0]]))[0]
    return replace(model, cam_from_world=poses)


def test_the_cheaper_hypothesis_is_taken_and_both_are_reported(collection: Make) -> None:
    world = collection(noise_px=0.5, points=600)
    given = mapper_inputs(world)
    (right,) = GlobalMapper()(**given).models
    coarse = InitialModels((half_turned(right),), {}, hypotheses=((right,),))
    fine = BundleAdjustment(weak_parts=AS_IT_IS)(**given, resources=CPU, coarse=coarse)
    (model,), (report,) = fine.models, fine.reports
    poses = np.full((10, 3, 4), np.nan)
    poses[model.photos] = model.cam_from_world
    assert np.nanmax(world.errors(poses).rotation_error_deg) < 0.6
    chosen, other = report.hypotheses
    assert chosen.cost < other.cost
    assert chosen.turned_deg == pytest.approx(0.0, abs=1e-3)
    assert other.turned_deg > 10.0
    listed = report_figures(given["photos"], report)["hypotheses"]
    assert [each["cost"] for each in listed] == sorted(each["cost"] for each in listed)


def test_a_folded_model_is_mended_by_the_pairs_between_its_halves(collection: Make) -> None:
    world = collection(noise_px=0.5, points=600)
    given = mapper_inputs(world)
    (right,) = GlobalMapper()(**given).models
    fine = BundleAdjustment()(**given, resources=CPU, coarse=InitialModels((half_turned(right),), {}))
    poses = np.full((10, 3, 4), np.nan)
    poses[fine.models[0].photos] = fine.models[0].cam_from_world
    assert np.nanmax(world.errors(poses).rotation_error_deg) < 0.6
    assert fine.warnings == ()


def test_a_right_model_is_probably_right(collection: Make) -> None:
    given = mapper_inputs(collection(noise_px=0.5, points=600))
    fine = BundleAdjustment()(**given, resources=CPU, coarse=GlobalMapper()(**given))
    verdict = fine.reports[0].verdict
    assert verdict is not None
    assert verdict.probability > 0.8
    assert verdict.trusted
    assert verdict.photo_probability.shape == (10,)
    assert fine.warnings == ()
    assert report_figures(given["photos"], fine.reports[0])["verdict"]["probability"] > 0.8
    assert all(each["probability"] > 0.5 for each in photo_figures(fine.models[0], fine.reports[0]))


def test_a_model_that_had_to_leave_matches_out_is_delivered_with_a_warning(collection: Make) -> None:
    """Without its pairs across, a turned half is a model like any other; the pairs left out contradict it."""
    world = collection(noise_px=0.5, points=600)
    given = mapper_inputs(world)
    pairs = given["view_graph"].pairs
    across = pairs[(pairs[:, 0] < 5) != (pairs[:, 1] < 5)]
    joining = across[:2]
    doubts = Doubts(across[2:].astype(np.int32), ("doubted",) * (len(across) - 2), rival_margin=np.full(10, 0.25))
    (right,) = GlobalMapper()(**given).models
    coarse = InitialModels((half_turned(right),), {})
    options = VerdictOptions(warn_below=0.8)
    fine = BundleAdjustment(verdict=options, weak_parts=AS_IT_IS)(**given, resources=CPU, coarse=coarse, doubts=doubts)
    assert len(joining) == 2
    assert any("do not rely on" in warning and "contradict it" in warning for warning in fine.warnings)
    found = report_figures(given["photos"], fine.reports[0])["verdict"]
    assert not found["trusted"]
    assert found["evidence"]["rival_margin"] == 0.25
    silent = BundleAdjustment(verdict=VerdictOptions(enabled=False))
    fine = silent(**given, resources=CPU, coarse=coarse, doubts=doubts)
    assert fine.reports[0].verdict is None
    assert fine.warnings == ()


def test_a_probable_model_whose_tracks_scatter_may_be_folded(collection: Make) -> None:
    """No pair is left out, so that tracks lead from one half to the other and meet nowhere; but turned away from each
    other the halves are no neighbours, which would have to speak for a fold as well."""
    given = mapper_inputs(collection(noise_px=0.5, points=600))
    (right,) = GlobalMapper()(**given).models
    coarse, certain = InitialModels((half_turned(right),), {}), VerdictWeights(bias=10.0)
    stage = BundleAdjustment(verdict=VerdictOptions(weights=certain), weak_parts=AS_IT_IS)
    assert not any("folded" in warning for warning in stage(**given, resources=CPU, coarse=coarse).warnings)
    folded = VerdictOptions(folded_neighbours=1.0, weights=certain)
    stage = BundleAdjustment(verdict=folded, weak_parts=AS_IT_IS)
    fine = stage(**given, resources=CPU, coarse=coarse)
    assert fine.reports[0].verdict.probability == pytest.approx(0.5)
    assert any("do not rely on" in warning and "it may be folded" in warning for warning in fine.warnings)
