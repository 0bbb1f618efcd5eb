"""The aligner of point maps behind the contract: depths with and without grids, triangulated ones, and none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from unposed.pipeline.artifacts import (
    Camera,
    CameraPriors,
    DepthGrid,
    Features,
    InitialModel,
    PairMatches,
    Photo,
    Photos,
    TwoViewGeometry,
)
from unposed.pipeline.stage import Resources
from unposed.plugins.coarse.align import PointMapMapper
from unposed.plugins.view_graph.verified import VerifiedViewGraph

Make = Callable[..., Any]
CPU = Resources("cpu", threads=1, ram_bytes=1 << 30, vram_bytes=0)


def inputs(world: Any, *, depth: bool, keep: Callable[[int, int], bool] = lambda a, b: True) -> dict[str, Any]:
    """What the stages before a mapper would give; with depth by a dense matcher, else by one of key points."""
    n = len(world.graph.keypoints)
    photos = Photos(tuple(Photo(f"{i}.jpg", Path(), str(i), *world.size[i].tolist()) for i in range(n)), {})
    width, height = world.size[0].tolist()
    camera = Camera("SIMPLE_PINHOLE", width, height, (1.2 * width, width / 2, height / 2))
    cameras = CameraPriors((camera,), np.zeros(n, np.int32), ("guess",))
    start, features, matching, verification = world.graph.keypoints.start, {}, {}, {}
    for i in range(n):
        xy = world.graph.keypoints.xy[start[i] : start[i + 1]].astype(np.float32)
        ones = np.ones(len(xy), np.float32)
        features[i] = Features(xy, ones, np.zeros((len(xy), 1), np.uint8), np.zeros((len(xy), 3), np.uint8), ones)
    rng = np.random.default_rng(0)
    for edge, (a, b) in enumerate(world.graph.pairs.tolist()):
        if not keep(a, b):
            continue
        rows = world.graph.match_rows(edge)
        index = world.graph.row_a[rows] - start[a], world.graph.row_b[rows] - start[b]
        xy = [features[photo].xy[own] for photo, own in zip((a, b), index, strict=True)]
        weight = np.ones(len(index[0]), np.float32)
        if depth:
            depths = [
                scale * depth_of(world, photo, own)
                for photo, own, scale in zip((a, b), index, np.exp(rng.standard_normal(2)), strict=True)
            ]
            matching[a, b] = PairMatches(xy[0], xy[1], weight, depth_a=depths[0], depth_b=depths[1])
        else:
            matching[a, b] = PairMatches(xy[0], xy[1], weight, *(own.astype(np.int32) for own in index))
        verification[a, b] = TwoViewGeometry(
            kind="general",
            inliers=np.ones(len(weight), bool),
            b_from_a=np.eye(3, 4),
            focals_px=np.full(2, 1500.0),
            focal_source="guess",
            fundamental=world.graph.fundamental[edge],
            angle_deg=10.0,
        )
    graph = VerifiedViewGraph()(photos, matching, verification, CPU, None if depth else features)
    return {"photos": photos, "cameras": cameras, "view_graph": graph, "matching": matching}


def depth_of(world: Any, photo: int, index: np.ndarray) -> np.ndarray:
    """What a perfect network would see at key points of a photo; nothing where they show nothing."""
    point = world.point_of[photo][index]
    y = world.points[point] @ world.cam_from_world[photo, :, :3].T + world.cam_from_world[photo, :, 3]
    return np.asarray(np.where(point >= 0, y[:, 2], np.nan))


def worst_deg(world: Any, scene: InitialModel) -> float:
    poses = np.full((len(world.graph.keypoints), 3, 4), np.nan)
    poses[scene.photos] = scene.cam_from_world
    return float(np.nanmax(world.errors(poses).rotation_error_deg))


@pytest.fixture(autouse=True)
def black() -> Any:
    """Photos without a file are black."""
    with patch("unposed.pipeline.images.pixels.read_rgb", lambda photo, side: np.zeros((60, 80, 3), np.uint8)):
        yield


def test_depths_of_matches_without_grids_will_do(collection: Make) -> None:
    world = collection(noise_px=0.5, points=600, decoys=0)
    steps: list[tuple[int, int, str]] = []
    reporting = replace(CPU, reporter=lambda *step: steps.append(step))
    scenes = PointMapMapper()(**inputs(world, depth=True), resources=reporting)
    assert [step[0] for step in steps] == sorted(step[0] for step in steps) and "alignment" in steps[-1][2]
    (scene,) = scenes.models
    assert scene.photos.tolist() == list(range(10)) and scenes.left_out == {}
    assert worst_deg(world, scene) < 0.3
    assert scene.cameras[0].params[0] == pytest.approx(1500.0, rel=0.01)
    assert len(scene.cameras) == 1


def test_pairs_without_depths_are_triangulated(collection: Make) -> None:
    world = collection(noise_px=0.5, wrong=0.03, points=600)
    scenes = PointMapMapper()(**inputs(world, depth=False), resources=CPU)
    (scene,) = scenes.models
    assert scene.photos.tolist() == list(range(10))
    assert worst_deg(world, scene) < 2.0


def test_without_depths_whole_models_decide_about_the_focal_length(collection: Make) -> None:
    """It is twice what the pairs suggest, as they may do of long lenses and walls."""
    world = collection(noise_px=0.5, points=600, distance=12.0, lenses=((3000.0, 800.0, 600.0, 0.0),))
    scenes = PointMapMapper()(**inputs(world, depth=False), resources=CPU)
    (scene,) = scenes.models
    assert scene.photos.tolist() == list(range(10))
    assert scene.cameras[0].params[0] == pytest.approx(3000.0, rel=0.02)
    assert worst_deg(world, scene) < 0.5
    assert not any("may be wrong" in note for note in scenes.warnings)


def test_islands_without_depths_have_their_own_cameras(collection: Make) -> None:
    """Photos of one size, but of two cameras, and no photo of one matches any of the other."""
    lenses = ((1500.0, 800.0, 600.0, 0.0), (2400.0, 800.0, 600.0, 0.0))
    world = collection(photos=12, noise_px=0.3, points=800, decoys=0, lenses=lenses, distance=8.0)
    scenes = PointMapMapper()(**inputs(world, depth=False, keep=lambda a, b: a % 2 == b % 2), resources=CPU)
    assert sorted(scene.photos.tolist() for scene in scenes.models) == [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 11]]
    for scene in scenes.models:
        true = lenses[scene.photos[0] % 2][0]
        assert [camera.params[0] for camera in scene.cameras] == pytest.approx([true], rel=0.03)


def test_an_alignment_under_strain_says_so(collection: Make) -> None:
    """A focal length that is given, and wrong."""
    given = inputs(collection(noise_px=0.2, points=600, decoys=0), depth=True)
    assert PointMapMapper()(**given, resources=CPU).warnings == ()
    (camera,) = given["cameras"].cameras
    wrong = CameraPriors((camera,), given["cameras"].camera_of_photo, ("given",))
    assert any(
        "may be wrong" in note for note in PointMapMapper()(**given | {"cameras": wrong}, resources=CPU).warnings
    )


def test_two_islands_and_a_lonely_photo(collection: Make) -> None:
    world = collection(noise_px=0.3, points=600, decoys=0)
    scenes = PointMapMapper()(
        **inputs(world, depth=True, keep=lambda a, b: b < 9 and (a < 4) == (b < 4)), resources=CPU
    )
    assert [scene.photos.tolist() for scene in scenes.models] == [[4, 5, 6, 7, 8], [0, 1, 2, 3]]
    assert scenes.left_out == {9: "it has verified matches with no other photo"}
    fewer = PointMapMapper(min_photos=5)(
        **inputs(world, depth=True, keep=lambda a, b: b < 9 and (a < 4) == (b < 4)), resources=CPU
    )
    assert len(fewer.models) == 1


def test_grids_bring_the_focal_length_along(collection: Make) -> None:
    """Of two photos on their own the alignment hardly tells it; the network's word counts."""
    world = collection(photos=2, sweep_deg=20.0, noise_px=0.3, points=600, decoys=0)
    given = inputs(world, depth=True)
    pair = given["matching"][0, 1]
    rng = np.random.default_rng(0)
    grids = tuple(
        DepthGrid((50.0, 50.0), (100.0, 100.0), rng.uniform(5, 7, (12, 16)), np.ones((12, 16)), 1500.0) for _ in "ab"
    )
    given["matching"][0, 1] = replace(pair, grids=grids)
    (scene,) = PointMapMapper()(**given, resources=CPU).models
    assert scene.cameras[0].params[0] == pytest.approx(1500.0, rel=0.05)


def test_nothing_matched_is_no_scene(collection: Make) -> None:
    given = inputs(collection(photos=3), depth=False, keep=lambda a, b: False)
    scenes = PointMapMapper()(**given, resources=CPU)
    assert scenes.models == () and set(scenes.left_out) == {0, 1, 2}
