"""COLMAP's mappers behind our contract, on scenes that COLMAP itself makes up."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pycolmap
import pytest

from unposed.optim.evaluation import evaluate_poses
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import (
    Camera,
    CameraPriors,
    Features,
    PairMatches,
    Photo,
    Photos,
    SparseModels,
    TwoViewGeometry,
)
from unposed.pipeline.graph import build_graph
from unposed.pipeline.lazy_results import PairView, PhotoView
from unposed.pipeline.presets import read_preset
from unposed.pipeline.registry import Registry
from unposed.pipeline.stage import Resources
from unposed.plugins.coarse.colmap import ColmapMapper
from unposed.plugins.coarse.glomap import GlomapMapper
from unposed.plugins.fine.bundle import BundleAdjustment
from unposed.plugins.shared.colmap_database import fill
from unposed.plugins.view_graph.verified import VerifiedViewGraph

FOCAL, WIDTH, HEIGHT = 900.0, 1024, 768
GUESS = 1.2 * WIDTH
CPU = Resources("cpu", threads=1, ram_bytes=1 << 30, vram_bytes=0)
N = 8

Mapper = ColmapMapper | GlomapMapper
Inputs = tuple[Photos, CameraPriors, Mapping[int, Features], Mapping[tuple[int, int], PairMatches], Mapping]


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, Inputs]:
    """True poses, and what the stages before a mapper would give for them."""
    pycolmap.set_random_seed(3)
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1,
        num_cameras_per_rig=1,
        num_frames_per_rig=N,
        num_points3D=200,
        camera_width=WIDTH,
        camera_height=HEIGHT,
        camera_params=[FOCAL, WIDTH / 2, HEIGHT / 2, 0.0],
    )
    rng = np.random.default_rng(0)
    matching, verification = {}, {}
    with pycolmap.Database.open(":memory:") as database:
        model = pycolmap.synthesize_dataset(options, database)
        keypoints = [database.read_keypoints(i + 1)[:, :2] for i in range(N)]
        features = {
            i: Features(
                xy=(xy + rng.normal(0, 0.2, xy.shape)).astype(np.float32),
                scale=np.ones(len(xy), np.float32),
                descriptors=np.zeros((len(xy), 1), np.uint8),
                rgb=np.full((len(xy), 3), (10 * i, 200, 7), np.uint8),
                score=np.ones(len(xy), np.float32),
            )
            for i, xy in enumerate(keypoints)
        }
        for a in range(N):
            for b in range(a + 1, N):
                geometry = database.read_two_view_geometry(a + 1, b + 1)
                rows = geometry.inlier_matches.astype(np.int32)
                # A wrong match at the end, which verification has found out.
                rows = np.vstack([rows, [rows[0, 0], rows[-1, 1]]])
                inliers = np.arange(len(rows)) < len(rows) - 1
                matching[a, b] = PairMatches(
                    xy_a=features[a].xy[rows[:, 0]],
                    xy_b=features[b].xy[rows[:, 1]],
                    weight=np.ones(len(rows), np.float32),
                    index_a=rows[:, 0],
                    index_b=rows[:, 1],
                )
                verification[a, b] = TwoViewGeometry(
                    kind="general",
                    inliers=inliers,
                    b_from_a=np.eye(3, 4),
                    focals_px=np.array([FOCAL, FOCAL]),
                    focal_source="guess",
                    fundamental=geometry.F,
                    angle_deg=10.0,
                )
    photos = Photos(tuple(Photo(f"{i}.jpg", Path(), str(i), WIDTH, HEIGHT) for i in range(N)), {})
    camera = Camera("SIMPLE_RADIAL", WIDTH, HEIGHT, (GUESS, WIDTH / 2, HEIGHT / 2, 0.0))
    cameras = CameraPriors((camera,), np.zeros(N, np.int32), ("guess",))
    truth = np.array([model.image(i + 1).cam_from_world().matrix() for i in range(N)])
    return truth, (photos, cameras, features, matching, verification)


def mapped(mapper: Mapper, inputs: Inputs) -> SparseModels:
    photos, cameras, features, matching, verification = inputs
    verified = PairView(verification, verification.__getitem__)
    return mapper(photos, cameras, graph_of(photos, features, matching, verification), verified)


def graph_of(photos: Photos, features: Any, matching: Any, verification: Any) -> ViewGraph:
    views = PairView(matching, matching.__getitem__), PairView(verification, verification.__getitem__)
    return VerifiedViewGraph()(photos, *views, CPU, features and PhotoView(features, features.__getitem__))


def only(inputs: Inputs, pairs: set[tuple[int, int]]) -> Inputs:
    """The inputs with all other pairs unverified."""
    photos, cameras, features, matching, verification = inputs
    none = {pair: replace(geometry, kind="none") for pair, geometry in verification.items() if pair not in pairs}
    return photos, cameras, features, matching, {**verification, **none}


MAPPERS = pytest.mark.parametrize("mapper", [ColmapMapper(seed=1), GlomapMapper(seed=1)], ids=["colmap", "glomap"])


@MAPPERS
def test_poses_and_focal_length_are_found(mapper: Mapper, world: tuple[np.ndarray, Inputs]) -> None:
    truth, inputs = world
    found = mapped(mapper, inputs)
    assert len(found.models) == 1
    assert (found.left_out, found.warnings) == ({}, ())
    scene = found.models[0]
    assert scene.photos.tolist() == list(range(N))
    assert scene.cameras[0].params[0] == pytest.approx(FOCAL, rel=2e-3)
    errors = evaluate_poses(truth, scene.cam_from_world)
    assert errors.auc[1] > 0.9
    assert errors.ate_relative < 1e-3


@MAPPERS
def test_a_scene_is_whole(mapper: Mapper, world: tuple[np.ndarray, Inputs]) -> None:
    """All key points, colours from the photos, errors, observations in order, and no wrong match in a track."""
    _, inputs = world
    features = inputs[2]
    scene = mapped(mapper, inputs).models[0]
    np.testing.assert_array_equal(scene.xy, np.concatenate([features[i].xy for i in range(N)]).astype(np.float64))
    assert len(scene.points) > 150
    assert (np.diff(scene.obs_point) >= 0).all()
    assert len(np.unique(scene.obs_xy)) == len(scene.obs_xy)
    assert 0 < np.median(scene.error_px) < 0.5
    photo_row = np.searchsorted(scene.xy_start, scene.obs_xy, side="right") - 1
    for point in (0, len(scene.points) - 1):
        red = np.mean(10.0 * scene.photos[photo_row[scene.obs_point == point]])
        np.testing.assert_array_equal(scene.rgb[point], [round(red), 200, 7])


@MAPPERS
def test_the_same_seed_gives_the_same_bytes(mapper: Mapper, world: tuple[np.ndarray, Inputs]) -> None:
    first, second = (mapped(mapper, world[1]).models[0] for _ in range(2))
    for name in ("cam_from_world", "points", "xy", "obs_xy", "obs_point", "rgb", "error_px"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name
    assert first.cameras == second.cameras


@MAPPERS
def test_given_focal_lengths_stay(mapper: Mapper, world: tuple[np.ndarray, Inputs]) -> None:
    photos, _, *rest = world[1]
    given = Camera("SIMPLE_PINHOLE", WIDTH, HEIGHT, (FOCAL + 1, WIDTH / 2, HEIGHT / 2))
    scene = mapped(mapper, (photos, CameraPriors((given,), np.zeros(N, np.int32), ("given",)), *rest)).models[0]
    assert scene.cameras == (given,)


def test_two_groups_of_photos_become_two_components(world: tuple[np.ndarray, Inputs]) -> None:
    inside = {(a, b) for group in ((0, 1, 2), (3, 4, 5, 6)) for a in group for b in group if a < b}
    found = mapped(ColmapMapper(), only(world[1], inside))
    assert [scene.photos.tolist() for scene in found.models] == [[3, 4, 5, 6], [0, 1, 2]]
    assert found.left_out == {7: "COLMAP's incremental mapper could not register it"}


@MAPPERS
def test_no_verified_pair_gives_no_component(mapper: Mapper, world: tuple[np.ndarray, Inputs]) -> None:
    found = mapped(mapper, only(world[1], set()))
    assert found.models == ()
    assert set(found.left_out) == set(range(N))


@MAPPERS
def test_photos_without_features_are_said_to_have_none(mapper: Mapper, world: tuple[np.ndarray, Inputs]) -> None:
    photos, cameras, features, matching, verification = world[1]
    fewer = {index: value for index, value in features.items() if index != 2}
    found = mapped(mapper, (photos, cameras, fewer, matching, verification))
    assert found.left_out == {2: "its features could not be extracted"}
    assert 2 not in found.models[0].photos


def test_unused_cameras_are_dropped(world: tuple[np.ndarray, Inputs]) -> None:
    photos, cameras, *rest = world[1]
    other = Camera("PINHOLE", 10, 10, (9.0, 9.0, 5.0, 5.0))
    three = CameraPriors((other, cameras.cameras[0], other), np.full(N, 1, np.int32), ("guess",) * 3)
    scene = mapped(ColmapMapper(), (photos, three, *rest)).models[0]
    assert [camera.model for camera in scene.cameras] == ["SIMPLE_RADIAL"]
    assert set(scene.camera_of_photo) == {0}


def test_the_global_mapper_says_that_it_refines_given_focal_lengths(world: tuple[np.ndarray, Inputs]) -> None:
    photos, cameras, *rest = world[1]
    mixed = CameraPriors(cameras.cameras * 2, np.arange(N, dtype=np.int32) % 2, ("given", "guess"))
    assert "also those given" in mapped(GlomapMapper(), (photos, mixed, *rest)).warnings[0]


@MAPPERS
def test_matches_without_key_points_will_do(mapper: Mapper, world: tuple[np.ndarray, Inputs]) -> None:
    truth, (photos, cameras, _, matching, verification) = world
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    dense = {pair: replace(matches, index_a=None, index_b=None) for pair, matches in matching.items()}
    with patch("unposed.pipeline.images.pixels.read_rgb", lambda photo, side: image):
        (scene,) = mapped(mapper, (photos, cameras, {}, dense, verification)).models
    assert evaluate_poses(truth, scene.cam_from_world).auc[1] > 0.9


def test_the_models_may_be_refined_by_ours(world: tuple[np.ndarray, Inputs]) -> None:
    truth, (photos, cameras, features, matching, verification) = world
    coarse = mapped(ColmapMapper(seed=1), world[1])
    graph = graph_of(photos, features, matching, verification)
    (model,) = BundleAdjustment()(photos, cameras, graph, coarse, CPU).models
    assert len(model.photos) == N
    assert evaluate_poses(truth, model.cam_from_world).auc[1] > 0.9


def test_a_pure_rotation_is_written_as_one(world: tuple[np.ndarray, Inputs]) -> None:
    """The homography carries points at infinity from photo to photo as the rotation does."""
    photos, cameras, features, matching, verification = world[1]
    turn = np.array([[0.8, 0, 0.6, 0], [0, 1, 0, 0], [-0.6, 0, 0.8, 0]])
    rotation = replace(
        verification[0, 1],
        kind="rotation",
        b_from_a=turn,
        focals_px=np.array([900.0, 800.0]),
        fundamental=np.zeros((3, 3)),
    )
    only_one = {(0, 1): rotation}
    with pycolmap.Database.open(":memory:") as database:
        verified = PairView(only_one, only_one.__getitem__)
        fill(database, photos, cameras, graph_of(photos, features, matching, only_one), verified)
        geometry = database.read_two_view_geometry(1, 2)
        assert len(database.read_matches(1, 2)) == int(rotation.inliers.sum())
    assert geometry.config == pycolmap.TwoViewGeometryConfiguration.PANORAMIC
    seen = geometry.H @ [WIDTH / 2 + 900 * 0.25, HEIGHT / 2, 1.0]  # direction (1, 0, 4): turned it is (3.2, 0, 2.6)
    assert seen[:2] / seen[2] == pytest.approx([WIDTH / 2 + 800 * 3.2 / 2.6, HEIGHT / 2])


@pytest.mark.parametrize("name", ["colmap", "glomap"])
def test_presets_replace_mapping_alone(name: str) -> None:
    ours, peer = build_graph(read_preset("classic"), Registry()), build_graph(read_preset(name), Registry())
    assert peer.nodes["coarse"].plugin == f"coarse.{name}"
    assert "fine" not in peer.nodes
    shared = set(ours.nodes) - {"coarse", "fine"}
    assert shared == set(peer.nodes) - {"coarse"}
    assert {node: peer.nodes[node].stage for node in shared} == {node: ours.nodes[node].stage for node in shared}
