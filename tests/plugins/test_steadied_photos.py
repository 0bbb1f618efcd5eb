"""Photos with few observations, in models whose poses a network has predicted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from worlds import mapper_inputs

from unposed.optim.rotations import exp_so3, rotation_angle_deg
from unposed.pipeline.artifacts import InitialModels, PredictedModels
from unposed.pipeline.stage import Resources
from unposed.plugins.fine.bundle import BundleAdjustment
from unposed.plugins.fine.steadied import SteadiedOptions
from unposed.plugins.shared.models import initial_model, intrinsics_of_priors

CPU = Resources("cpu", threads=1, ram_bytes=1 << 31, vram_bytes=0)
WEAK, KEPT = 5, 26


def weakened(world: Any) -> Any:
    """The world with matches on a small patch of one of its photos only."""
    graph = world.graph
    own = np.arange(*graph.keypoints.start[WEAK : WEAK + 2])
    shown = own[np.isin(own, np.concatenate([graph.row_a, graph.row_b]))]
    away = np.linalg.norm(graph.keypoints.xy[shown] - (1000.0, 500.0), axis=1)
    lost = np.setdiff1d(own, shown[np.argsort(away)[:KEPT]])
    keep = ~np.isin(graph.row_a, lost) & ~np.isin(graph.row_b, lost)
    count = np.bincount(graph.edge_of_match()[keep], minlength=len(graph))
    stop = np.cumsum(count)
    columns = {"row_a": graph.row_a[keep], "row_b": graph.row_b[keep]}
    world.graph = replace(graph, match_start=stop - count, match_stop=stop, **columns)
    return world


def predictions(world: Any, inputs: dict[str, Any], seed: int) -> PredictedModels:
    """Poses turned by 0.3 degrees and moved by half a percent of the depth."""
    random = np.random.default_rng(seed)
    turn = exp_so3(np.radians(0.3 / np.sqrt(3)) * random.standard_normal((len(world.cam_from_world), 3)))
    poses = turn @ world.cam_from_world
    poses[:, :, 3] += 0.03 / np.sqrt(3) * random.standard_normal((len(poses), 3))
    intrinsics = intrinsics_of_priors(inputs["cameras"], 1.0)
    intrinsics = intrinsics.with_focals(np.full(len(intrinsics.models), 1500.0))
    return PredictedModels((initial_model(intrinsics, poses, world.graph.keypoints),), {})


def error_deg(world: Any, poses: NDArray[np.float64]) -> float:
    """Of the weak photo, after the turn of the world that fits the others best."""
    relative = poses[:, :, :3].transpose(0, 2, 1) @ world.cam_from_world[:, :, :3]
    left, _, right = np.linalg.svd(np.delete(relative, WEAK, axis=0).sum(axis=0))
    return float(rotation_angle_deg(relative[WEAK] @ (left @ right).T))


def errors(world: Any, inputs: dict[str, Any], coarse: InitialModels, **options: Any) -> float:
    found = BundleAdjustment(steadied=SteadiedOptions(**options))(**inputs, coarse=coarse, resources=CPU)
    (model,) = found.models
    assert len(model.photos) == len(world.cam_from_world)
    assert KEPT // 2 < (model.obs_photo == WEAK).sum() <= KEPT
    return error_deg(world, model.cam_from_world)


@pytest.mark.slow
def test_a_photo_with_few_observations_is_held_by_its_predicted_pose_as_well(collection: Callable[..., Any]) -> None:
    found = []
    for seed in range(4):
        world = weakened(collection(photos=10, points=400, noise_px=0.8, seed=seed))
        inputs = mapper_inputs(world)
        coarse = predictions(world, inputs, seed)
        found.append([errors(world, inputs, coarse, max_observations=limit) for limit in (0, 40)])
    without, steadied = np.array(found).T
    assert (steadied < without).all()
    assert np.sqrt(np.mean(steadied**2)) < 0.9 * np.sqrt(np.mean(without**2))
