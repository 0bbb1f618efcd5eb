"""Part e: the whole road on the device against the CPU: from rendered photos to matches by a network of made-up
parameters, and from emulated predictions to cameras."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unposed.gpu_check import SMALL_NETWORK, made_up_network
from unposed.networks.mast3r.images import ImageFrame, image_batch
from unposed.optim.arrays import Array
from unposed.optim.bundle.adjust_torch import adjust_by_torch
from unposed.optim.evaluation import evaluate_poses
from unposed.optim.mapping.refinement import Solver
from unposed.optim.pair.epipolar import sampson_errors
from unposed.optim.view_graph import KeypointOptions
from unposed.pipeline.artifacts import (
    Camera,
    CameraPriors,
    InitialModels,
    PairMatches,
    Photo,
    Photos,
    SparseModels,
    TwoViewGeometry,
)
from unposed.pipeline.stage import Resources, Sides
from unposed.plugins.coarse.align import PointMapMapper
from unposed.plugins.fine.bundle import BundleAdjustment
from unposed.plugins.matching.dense import (
    BY_DESCRIPTOR,
    BY_POSITION,
    ImageTokens,
    PixelSearch,
    depth_grid,
    match_prediction,
    predict_pairs,
)
from unposed.plugins.view_graph.verified import _dense
from unposed.synthetic.render import render
from unposed.synthetic.scenes import easy

from .setting import Case, Finding, Setting

sys.path.insert(0, str(Path(__file__).parents[1]))
from emulation import made_up
from oracle import Oracle

MAX_ERROR_PX = 3.8
"""Of the matches that verification keeps, here by the true cameras: three times their scatter."""
SAME_MATCHES, SAME_DEPTH = 0.99, 1e-3
SAME_ROTATION_DEG, SAME_POSITION = 0.02, 1e-3
"""Differences of cameras after the same adjustment, by exact steps and by rough ones; positions over their extent."""


def cases(setting: Setting) -> Iterator[Case]:
    """Photos to matches, then matches to cameras."""
    for name, by in (("descriptors", BY_DESCRIPTOR), ("points", BY_POSITION)):
        yield f"rendered photos to matches by {name}", partial(_photos_to_matches, setting, by)
    for photos in (6,) if setting.small else (8, 40):
        yield f"emulated predictions of {photos} photos to cameras", partial(_predictions_to_cameras, setting, photos)


def _photos_to_matches(setting: Setting, by: PixelSearch) -> Finding:
    """Tokens, predictions, matches and depth grids of a few pairs, in float32."""
    width = 96 if setting.small else 256
    images = _rendered(3, width)
    frame = ImageFrame((images[0].shape[0], images[0].shape[1]), (0.5, 0.5), (1.0, 1.0))
    outcomes = []
    for device in (torch.device("cpu"), setting.device):
        network = made_up_network(SMALL_NETWORK, device, "float32")
        tokens = [ImageTokens(each, frame) for each in network.encode(image_batch(images))]
        seen = predict_pairs(network, [Sides(tokens[a], tokens[b]) for a, b in ((0, 1), (0, 2), (1, 2))])
        matches = {
            (pair, *rows)
            for pair, each in enumerate(seen)
            for rows in zip(*(side.tolist() for side in match_prediction(each, by, 4).pairs), strict=True)
        }
        grids = [depth_grid(each.a_in_a, frame, lambda xy: np.ones(len(xy), np.bool_), 8) for each in seen]
        outcomes.append((matches, np.stack([grid.depth for grid in grids])))
    (here, depth), (there, other_depth) = outcomes
    same, moved = len(here & there) / len(here | there), float(np.abs(other_depth / depth - 1.0).max())
    return Finding(
        {"matches": len(here), "same": same, "largest change of depth": moved},
        {"same": SAME_MATCHES, "depth": SAME_DEPTH},
        same >= SAME_MATCHES and moved < SAME_DEPTH,
    )


@cache
def _rendered(photos: int, width: int) -> list[Any]:
    """Photos of a courtyard, cut to whole patches."""
    scene = easy(photos=photos, width=width, widest_step_deg=11)
    images = [render(scene.world, shot) for shot in scene.shots]
    return [image[: image.shape[0] // 16 * 16, : image.shape[1] // 16 * 16] for image in images]


def _predictions_to_cameras(setting: Setting, photos: int) -> Finding:
    given, oracle = _view_graph(photos)
    coarse = _applied(PointMapMapper(), given, "cpu")
    poses, seconds = [], []
    for fine, device in ((BundleAdjustment(), "cpu"), (_InTorch(), str(setting.device))):
        start = time.perf_counter()
        found = _applied(fine, {**given, "coarse": coarse}, device)
        seconds.append(time.perf_counter() - start)
        poses.append(_poses(found, photos))
    between, truth = evaluate_poses(poses[0], poses[1]), evaluate_poses(oracle.cam_from_world, poses[1])
    rotation = between.relative_rotation_median_deg or 0.0
    position = (between.ate_rmse or 0.0) / between.extent
    figures = {
        "registered": truth.registered,
        "rotation between both, deg": rotation,
        "position between both": position,
        "error of rotation, deg": truth.relative_rotation_median_deg or 0.0,
        "CPU s": seconds[0],
        "device s": seconds[1],
    }
    whole = between.registered == int(np.isfinite(poses[0][:, 0, 0]).sum())
    passed = whole and rotation < SAME_ROTATION_DEG and position < SAME_POSITION
    return Finding(figures, {"rotation": SAME_ROTATION_DEG, "position": SAME_POSITION}, passed)


class _InTorch(BundleAdjustment):
    """All of it in torch, also where the device is a CPU, as in small runs."""

    def solver(self, device: str) -> Solver:
        return partial(adjust_by_torch, device)


def _view_graph(photos: int) -> tuple[dict[str, Any], Oracle]:
    """What mappers read of emulated predictions, with the matches that the true cameras confirm."""
    oracle = Oracle(made_up(photos, 1, None if photos <= 20 else 6))
    width, height = oracle.width, oracle.height
    collection = Photos(tuple(Photo(f"{i:04d}.png", Path(), str(i), width, height) for i in range(photos)), {})
    lenses = [Camera("SIMPLE_PINHOLE", width, height, (float(f), width / 2, height / 2)) for f in oracle.focal_px]
    cameras = CameraPriors(tuple(lenses), np.arange(photos), ("exif",) * photos)
    matching = {(int(a), int(b)): oracle.pair(int(a), int(b)) for a, b in oracle.pairs}
    verification = {pair: _geometry(oracle, *pair, each) for pair, each in matching.items()}
    size = np.tile(np.array([width, height], np.int64), (photos, 1))
    graph = _dense(size, sorted(matching), matching, verification, KeypointOptions(), lambda *_: None)  # type: ignore[arg-type]
    given = {"photos": collection, "cameras": cameras, "matching": matching, "verification": verification}
    return {**given, "view_graph": graph}, oracle


def _geometry(oracle: Oracle, a: int, b: int, matches: PairMatches) -> TwoViewGeometry:
    one, other = oracle.cam_from_world[[a, b]]
    rotation = other[:, :3] @ one[:, :3].T
    x, y, z = translation = other[:, 3] - rotation @ one[:, 3]
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    k_a, k_b = (_calibration(oracle, photo) for photo in (a, b))
    fundamental = np.linalg.inv(k_b).T @ cross @ rotation @ np.linalg.inv(k_a)
    error = sampson_errors(fundamental, matches.xy_a.astype(np.float64), matches.xy_b.astype(np.float64))
    pose = np.column_stack([rotation, translation / np.linalg.norm(translation)])
    focals = oracle.focal_px[[a, b]]
    return TwoViewGeometry("general", np.abs(error) < MAX_ERROR_PX, pose, focals, "prior", fundamental, 10.0)


def _calibration(oracle: Oracle, photo: int) -> Array:
    focal = oracle.focal_px[photo]
    return np.array([[focal, 0.0, oracle.width / 2], [0.0, focal, oracle.height / 2], [0.0, 0.0, 1.0]])


def _applied(stage: Any, given: Mapping[str, Any], device: str) -> Any:
    """The stage's value, given what its parameters name."""
    known = {**given, "resources": Resources(device, 1, 1 << 33, 1 << 32)}
    return stage(**{name: known[name] for name in inspect.signature(stage).parameters if name in known})


def _poses(found: InitialModels | SparseModels, photos: int) -> Array:
    poses = np.full((photos, 3, 4), np.nan)
    if found.models:
        poses[found.models[0].photos] = found.models[0].cam_from_world
    return poses
