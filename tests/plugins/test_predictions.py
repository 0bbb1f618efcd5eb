"""Depths and focal lengths that a network predicts, in the fine stage: heard where there are few tracks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from unposed.pipeline.artifacts import (
    Camera,
    CameraPriors,
    DepthGrid,
    PairMatches,
    Photo,
    Photos,
    SparseModel,
    TwoViewGeometry,
)
from unposed.pipeline.stage import Resources
from unposed.plugins.coarse.align import PointMapMapper
from unposed.plugins.fine.bundle import BundleAdjustment
from unposed.plugins.view_graph.verified import VerifiedViewGraph

Make = Callable[..., Any]
CPU = Resources("cpu", threads=1, ram_bytes=1 << 30, vram_bytes=0)


def inputs(world: Any, wave: float, bad: float | None = None, seed: int = 0) -> dict[str, Any]:
    """Photos with a camera each, and a dense matcher whose depths are off by smooth waves, and focal lengths by 2 %.
    A third of the depths is `bad`, if that is given, and all of the second photo are missing."""
    n, rng = len(world.graph.keypoints), np.random.default_rng(seed)
    width, height = world.size[0].tolist()
    photos = Photos(tuple(Photo(f"{i}.jpg", Path(), str(i), width, height) for i in range(n)), {})
    camera = Camera("SIMPLE_PINHOLE", width, height, (1.2 * width, width / 2, height / 2))
    matching, verification = {}, {}
    for edge, (a, b) in enumerate(world.graph.pairs.tolist()):
        rows = world.graph.match_rows(edge)
        ends = [(a, world.graph.row_a[rows]), (b, world.graph.row_b[rows])]
        xy = [world.graph.keypoints.xy[row] for _, row in ends]
        depth, grids = [], []
        for own, (photo, row) in zip(xy, ends, strict=True):
            point = world.points[world.point_of[photo][row - world.graph.keypoints.start[photo]]]
            z = point @ world.cam_from_world[photo, 2, :3] + world.cam_from_world[photo, 2, 3]
            error = wave * np.cos(np.pi * own / (width, height) * rng.integers(1, 3, 2) + rng.uniform(0, 6, 2)).sum(
                axis=1
            )
            depth.append((z * np.exp(error + rng.standard_normal())).astype(np.float32))
            focal = 1500.0 * float(np.exp(0.02 * rng.standard_normal()))
            flat = np.full((12, 16), float(np.median(depth[-1])))
            grids.append(DepthGrid((50.0, 50.0), (100.0, 100.0), flat, np.ones((12, 16)), focal))
        if bad is not None:
            depth[0][::3], depth[1][:] = bad, np.nan
        weight = np.ones(len(xy[0]), np.float32)
        matching[a, b] = PairMatches(xy[0], xy[1], weight, None, None, depth[0], depth[1], (grids[0], grids[1]))
        verification[a, b] = TwoViewGeometry(
            kind="general",
            inliers=np.ones(len(weight), bool),
            b_from_a=np.eye(3, 4),
            focals_px=np.full(2, 1500.0),
            focal_source="guess",
            fundamental=world.graph.fundamental[edge],
            angle_deg=10.0,
        )
    cameras = CameraPriors((camera,) * n, np.arange(n, dtype=np.int32), ("guess",) * n, "given")
    graph = VerifiedViewGraph()(photos, matching, verification, CPU)
    return {"photos": photos, "cameras": cameras, "view_graph": graph}


def turn_deg(world: Any, scene: SparseModel) -> float:
    """Median error of the rotation between two photos."""
    poses = np.full((len(world.graph.keypoints), 3, 4), np.nan)
    poses[scene.photos] = scene.cam_from_world
    return float(world.errors(poses).relative_rotation_median_deg)


@pytest.fixture(autouse=True)
def black() -> Any:
    """Photos without a file are black."""
    with patch("unposed.pipeline.images.pixels.read_rgb", lambda photo, side: np.zeros((60, 80, 3), np.uint8)):
        yield


def test_many_photos_need_no_predictions(collection: Make) -> None:
    """Three photos see most points: what the network says, though far off, moves nothing."""
    world = collection(noise_px=0.5, points=600, decoys=0)
    coarse = PointMapMapper()(**inputs(world, wave=0.02), resources=CPU)
    with_waves, without = (
        BundleAdjustment()(**inputs(world, wave), resources=CPU, coarse=coarse).models[0] for wave in (0.2, 0.0)
    )
    np.testing.assert_array_equal(with_waves.cam_from_world, without.cam_from_world)
    assert turn_deg(world, without) < 1.0


def test_depths_that_are_no_numbers_are_not_heard(collection: Make) -> None:
    world = collection(photos=2, sweep_deg=12.0, noise_px=0.5, points=200, decoys=0)
    coarse = PointMapMapper()(**inputs(world, wave=0.0), resources=CPU)
    for bad in (np.nan, np.inf, 0.0, -1.0, 1e30):
        (scene,) = BundleAdjustment()(**inputs(world, 0.0, bad), resources=CPU, coarse=coarse).models
        assert np.isfinite(scene.points).all()
        assert scene.cameras[0].params[0] == pytest.approx(1500.0, rel=0.06)
