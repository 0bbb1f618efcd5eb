"""Artifacts to arrays and back."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unposed.optim.bundle.problem import errors_px
from unposed.optim.mapping.triangulation import keep_observations
from unposed.pipeline.artifacts import (
    Camera,
    CameraPriors,
    Features,
    PairMatches,
    Photo,
    Photos,
    SparseModel,
    TwoViewGeometry,
)
from unposed.pipeline.stage import StageError
from unposed.plugins.arrays import belief_of, bundle_of, reasons, scene_of
from unposed.plugins.evidence import evidence_of, noise_unit_px, views_of

Make = Callable[..., Any]


def photos_of(sizes: list[tuple[int, int]]) -> Photos:
    return Photos(tuple(Photo(f"{i}.jpg", Path("nowhere"), str(i), w, h) for i, (w, h) in enumerate(sizes)), {})


def features_of(xy: np.ndarray, colour: int = 0) -> Features:
    n = len(xy)
    return Features(
        xy=np.asarray(xy, np.float32),
        scale=np.ones(n, np.float32),
        descriptors=np.zeros((n, 1), np.uint8),
        rgb=np.full((n, 3), (colour, 2 * colour, 7), np.uint8),
        score=np.ones(n, np.float32),
    )


def geometry(inliers: list[bool], kind: Any = "general", known: bool = False, focal: float = 900.0) -> TwoViewGeometry:
    poses = np.stack([np.eye(3, 4)] * 2)
    return TwoViewGeometry(kind, np.array(inliers), poses, np.array([focal, focal]), known, np.full((3, 3), focal), 5.0)


def matched(index_a: list[int], index_b: list[int]) -> PairMatches:
    nothing = np.zeros((len(index_a), 2), np.float32)
    weight = np.ones(len(index_a), np.float32)
    return PairMatches(nothing, nothing, weight, np.array(index_a, np.int32), np.array(index_b, np.int32))


def test_the_noise_unit_grows_with_large_photos_only() -> None:
    assert noise_unit_px(photos_of([(640, 480), (800, 600)])) == 1.0
    assert noise_unit_px(photos_of([(4800, 3200), (3200, 4800), (100, 100)])) == 3.0


def test_key_points_are_stacked_and_photos_may_have_none() -> None:
    xy = np.array([[1.5, 2.5], [3.0, 4.0]])
    views = views_of(photos_of([(10, 20), (30, 40), (50, 60)]), {0: features_of(xy), 2: features_of(xy[:1])})
    np.testing.assert_array_equal(views.xy, [[1.5, 2.5], [3.0, 4.0], [1.5, 2.5]])
    np.testing.assert_array_equal(views.start, [0, 2, 2, 3])
    np.testing.assert_array_equal(views.size, [[10, 20], [30, 40], [50, 60]])
    assert views.xy.dtype == np.float64


def test_inliers_of_pairs_with_a_geometry() -> None:
    photos = photos_of([(100, 100)] * 3)
    features = {i: features_of(np.zeros((4, 2))) for i in range(3)}
    matching = {(0, 1): matched([0, 1, 2], [3, 2, 1]), (0, 2): matched([1], [1]), (1, 2): matched([3, 0], [0, 3])}
    verification = {
        (0, 1): geometry([True, False, True], focal=900.0),
        (0, 2): geometry([False], "none"),
        (1, 2): geometry([True, True], "planar", focal=500.0),
    }
    matches = evidence_of(photos, features, matching, verification).matches
    np.testing.assert_array_equal(matches.pairs, [[0, 1], [1, 2]])
    np.testing.assert_array_equal(matches.start, [0, 2, 4])
    np.testing.assert_array_equal(matches.row_a, [0, 2, 7, 4])
    np.testing.assert_array_equal(matches.row_b, [7, 5, 8, 11])
    np.testing.assert_array_equal(matches.focal_px, [900.0, np.nan])  # a plane tells no focal length
    np.testing.assert_array_equal(matches.fundamental[:, 0, 0], [900.0, 500.0])
    known = evidence_of(photos, features, matching, {(0, 1): geometry([True] * 3, known=True)})
    assert np.isnan(known.matches.focal_px).all()  # told by the user, not by the pair
    assert len(evidence_of(photos, features, {}, {}).matches) == 0


def test_key_point_indices_without_key_points_are_refused() -> None:
    with pytest.raises(StageError, match="no node `features`"):
        evidence_of(photos_of([(9, 9)] * 2), None, {(0, 1): matched([0], [0])}, {(0, 1): geometry([True])})


def test_nothing_verified_and_no_key_points() -> None:
    nothing = evidence_of(
        photos_of([(9, 9)] * 2), None, {(0, 1): matched([0], [0])}, {(0, 1): geometry([True], "none")}
    )
    assert len(nothing.matches) == 0
    np.testing.assert_array_equal(nothing.views.start, [0, 0, 0])
    assert nothing.rgb_of(0).shape == (0, 3)


def test_positions_become_key_points_with_the_colours_of_the_photo(tmp_path: Path) -> None:
    """Position (4, 4) of the first photo is matched in both others; red grows by 4 per pixel to the right."""
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :, 0] = 4 * np.arange(64)
    Image.fromarray(picture).save(tmp_path / "0.png")
    photos = Photos(tuple(Photo(f"{i}.png", tmp_path / "0.png", str(i), 64, 64) for i in range(3)), {})
    ones = np.ones(2, np.float32)
    matching = {
        (0, 1): PairMatches(np.array([[4.0, 4], [8, 4]]), np.array([[5.0, 5], [6, 6]]), ones),
        (0, 2): PairMatches(np.array([[4.0, 4], [12, 4]]), np.array([[7.0, 7], [3, 3]]), ones),
    }
    verified = {(0, 1): geometry([True, True]), (0, 2): geometry([True, False])}
    evidence = evidence_of(photos, None, matching, verified)
    np.testing.assert_array_equal(evidence.views.start, [0, 2, 4, 5])
    rows = evidence.matches
    assert rows.row_a[0] == rows.row_a[2]
    np.testing.assert_array_equal(evidence.views.xy[rows.row_a], [[4, 4], [8, 4], [4, 4]])
    np.testing.assert_array_equal(evidence.views.xy[rows.row_b], [[5, 5], [6, 6], [7, 7]])
    np.testing.assert_array_equal(evidence.rgb_of(0)[rows.row_a[:2], 0], [16, 32])
    assert evidence.unusable == {}


def test_the_noise_of_positions_is_told_by_the_epipolar_lines() -> None:
    """Rows should be equal, as in a pair of photos side by side; they are off by about four pixels."""
    rng = np.random.default_rng(0)
    photos = photos_of([(6000, 4000)] * 2)
    xy_a = rng.uniform(0, 4000, (2000, 2)).astype(np.float32)
    xy_b = (xy_a + np.column_stack([np.full(2000, 50.0), rng.normal(0, 4.0, 2000)])).astype(np.float32)
    sideways = np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]], float)
    matching = {(0, 1): PairMatches(xy_a, xy_b, np.ones(2000, np.float32))}
    verified = replace(geometry([True] * 2000), fundamental=sideways)
    evidence = evidence_of(photos, None, matching, {(0, 1): verified})
    assert evidence.unit_px == pytest.approx(3.0 * 4.0 / np.sqrt(2.0), rel=0.05)  # shared by both photos


def test_positions_that_the_matcher_hardly_believes_count_as_inexact() -> None:
    weight = np.array([0.9, 0.9, 0.9, 0.1], np.float32)
    xy = np.arange(8, dtype=np.float32).reshape(4, 2)
    photos = photos_of([(9, 9)] * 2)
    evidence = evidence_of(photos, None, {(0, 1): PairMatches(xy, xy, weight)}, {(0, 1): geometry([True] * 4)})
    assert evidence.views.sigma is not None
    np.testing.assert_allclose(evidence.views.sigma[evidence.matches.row_a], [1, 1, 1, 3], rtol=1e-6)


def cameras_of(model: str, *params: tuple[float, ...], camera_of_photo: list[int]) -> CameraPriors:
    cameras = tuple(Camera(model, 1600, 1200, p) for p in params)
    return CameraPriors(cameras, np.array(camera_of_photo, np.int32), ("guess",) * len(cameras))


def test_unknown_camera_models_are_refused_by_name() -> None:
    with pytest.raises(StageError, match=r"FULL_OPENCV; it knows SIMPLE_PINHOLE, PINHOLE"):
        belief_of(cameras_of("FULL_OPENCV", (900.0,) * 12, camera_of_photo=[0]), 1.0)


def test_beliefs_are_as_soft_as_photos_are_large() -> None:
    cameras = cameras_of("SIMPLE_RADIAL", (900.0, 800.0, 600.0, 0.0), camera_of_photo=[0, 0])
    small, large = belief_of(cameras, 1.0), belief_of(cameras, 2.0)
    np.testing.assert_array_equal(small.values, [[900.0, 900.0, 800.0, 600.0, 0, 0, 0, 0]])
    assert large.prior.noise_px == 2.0 * small.prior.noise_px
    assert small.camera_of_photo.dtype == np.int64


@pytest.fixture
def world(collection: Make) -> Any:
    """Six photos of two cameras, the third without a pose."""
    lenses = ((1500.0, 800.0, 600.0, -0.02), (1100.0, 500.0, 400.0, 0.0))
    return collection(photos=6, points=150, lenses=lenses, sizes=((1600, 1200), (1000, 800)), noise_px=0.3)


def scene_and_bundle(world: Any) -> tuple[SparseModel, Any, Any]:
    photos = photos_of([tuple(size) for size in world.size.tolist()])
    starts = world.views.start
    features = {i: features_of(world.views.xy[starts[i] : starts[i + 1]], 10 * i) for i in range(6)}
    bundle = world.bundle()
    poses = bundle.cam_from_world.copy()
    poses[2] = np.nan
    bundle = replace(keep_observations(bundle, bundle.photo != 2), cam_from_world=poses)
    views = views_of(photos, features)
    return scene_of(bundle, views, lambda index: features[index].rgb), bundle, views


def test_a_scene_tells_what_the_bundle_told(world: Any) -> None:
    scene, bundle, _ = scene_and_bundle(world)
    np.testing.assert_array_equal(scene.photos, [0, 1, 3, 4, 5])
    np.testing.assert_array_equal(scene.cam_from_world, bundle.cam_from_world[[0, 1, 3, 4, 5]])
    np.testing.assert_array_equal(scene.points, bundle.points)
    assert (np.diff(scene.obs_point) >= 0).all()
    same = np.diff(scene.obs_point) == 0
    assert (np.diff(scene.obs_xy)[same] > 0).all()
    seen = np.stack([scene.obs_point, scene.photos[np.searchsorted(scene.xy_start, scene.obs_xy, side="right") - 1]])
    told = np.stack([bundle.point, bundle.photo])
    assert set(map(tuple, seen.T.tolist())) == set(map(tuple, told.T.tolist()))
    # Pixels come from the features, in single precision; each observation still means its own key point.
    order = np.lexsort((bundle.row, bundle.point))
    np.testing.assert_allclose(scene.xy[scene.obs_xy], bundle.xy[order], atol=1e-3)


def test_a_scene_has_the_cameras_of_its_photos(world: Any) -> None:
    scene, _, _ = scene_and_bundle(world)
    assert len(scene.cameras) == 2
    for photo, index in zip(scene.photos, scene.camera_of_photo, strict=True):
        camera = scene.cameras[index]
        assert (camera.width, camera.height) == tuple(world.size[photo])
        assert camera.params[0] == world.photo_intrinsics[photo, 0]


def test_points_have_mean_colours_and_errors(world: Any) -> None:
    scene, bundle, views = scene_and_bundle(world)
    errors = errors_px(replace(bundle, xy=views.xy[bundle.row]))
    for point in (0, 7, len(scene.points) - 1):
        own = bundle.point == point
        assert scene.rgb[point].tolist() == pytest.approx(
            [10 * bundle.photo[own].mean(), 20 * bundle.photo[own].mean(), 7], abs=0.5
        )
        assert scene.error_px[point] == pytest.approx(errors[own].mean(), abs=1e-3)


def test_a_scene_becomes_a_start_again(world: Any) -> None:
    scene, bundle, views = scene_and_bundle(world)
    start, belief = bundle_of(scene, views, world.belief(1.3))
    np.testing.assert_array_equal(start.cam_from_world, bundle.cam_from_world)
    np.testing.assert_array_equal(start.intrinsics, bundle.intrinsics)
    np.testing.assert_array_equal(start.camera_of_photo, world.camera_of_photo)
    assert start.models == bundle.models
    assert len(start.points) == len(start.xy) == 0
    np.testing.assert_array_equal(belief.prior.mean[:, 0], 1.3 * world.photo_intrinsics[world.first, 0])


def test_groups_that_the_mapper_took_apart_stay_apart(world: Any) -> None:
    """Every photo of the scene came back with its own camera; the one left out keeps what was believed of it."""
    scene, _, views = scene_and_bundle(world)
    own = tuple(Camera("SIMPLE_RADIAL", 1600, 1200, (1000.0 + p, 800.0, 600.0, 0.0)) for p in scene.photos)
    apart = replace(scene, cameras=own, camera_of_photo=np.arange(5, dtype=np.int32))
    believed = world.belief(1.3)
    start, belief = bundle_of(apart, views, believed)
    np.testing.assert_array_equal(start.camera_of_photo, np.arange(6))
    np.testing.assert_array_equal(start.intrinsics[scene.photos, 0], 1000.0 + scene.photos)
    np.testing.assert_array_equal(start.intrinsics[2], believed.values[believed.camera_of_photo[2]])
    assert len(belief.models) == len(belief.prior.sigma) == 6


def test_every_photo_left_out_has_its_reason() -> None:
    photos = photos_of([(100, 100)] * 6)
    features = {i: features_of(np.zeros((0 if i == 1 else 4, 2))) for i in range(1, 6)}
    pairs = {(3, 4): matched([0], [0]), (3, 5): matched([0], [0])}
    evidence = evidence_of(photos, features, pairs, {pair: geometry([True]) for pair in pairs})
    told = reasons(photos, evidence, [4])
    assert told == {
        0: "no features could be taken from it",
        1: "no key points found in it",
        2: "no other photo was found to overlap it",
        3: "its geometry with 2 overlapping photos did not agree with the rest",
        5: "its geometry with the photo that overlaps it did not agree with the rest",
    }


def test_small_key_points_count_as_exact_and_large_ones_less() -> None:
    scales = np.array([1.0, 4.0, 4.0, 16.0, 400.0], np.float32)
    features = {1: replace(features_of(np.zeros((5, 2))), scale=scales), 3: features_of(np.zeros((0, 2)))}
    views = views_of(photos_of([(100, 100)] * 4), features)
    assert views.sigma is not None
    np.testing.assert_allclose(views.sigma, [0.5, 1.0, 1.0, 2.0, 3.0])
    assert views_of(photos_of([(100, 100)]), {}).sigma is not None
